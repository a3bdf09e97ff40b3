"""The documents as a whole: each is found from the README, and what they name exists."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from backups.cli import main
from backups.decisions.health import AMBER_CODES, FOUND_WARNING_CODES, PROBLEM_CODES
from tests.docs.test_docs_names import DOCUMENTS, error_codes, settings_that_are_read
from tests.support.installation import REPOSITORY

README = REPOSITORY / "README.md"
BAD_DAY = REPOSITORY / "docs" / "bad-day.md"
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
LINES_OF_TWO_SCREENS = 90
WIDEST = 100

COMMAND = re.compile(r"\./bot backups ([a-z]+)([^\n`#|)]*)")
# How the names of settings begin; `AWS_…` and the like belong to others.
SETTING = re.compile(
    r"`((?:ADMIN|BACKUP|FACEBOOK|INBOX|METRICS|SESSION|SHOPIFY|SPACES|STATE|SYNC|TOKEN)_[A-Z_]*[A-Z])"
    r"[=`]"
)


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The fragments that a link into a document may have: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_below(document: Path, heading: str) -> str:
    """What stands under a heading, down to the next one."""
    return document.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def help_of(command: str) -> str:
    """What `--help` of a command says; empty when there is no such command."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()), suppress(SystemExit):
        main.main([command, "--help"])
    return said.getvalue()


def test_every_document_is_linked_from_the_readme() -> None:
    """Whoever takes over finds each document from the first page."""
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README.read_text()))
    assert linked == {path.name for path in (REPOSITORY / "docs").glob("*.md")}


def test_the_readme_fits_two_screens() -> None:
    """It stays short: what is longer belongs to a document of its own."""
    lines = README.read_text().splitlines()
    assert len(lines) <= LINES_OF_TWO_SCREENS
    assert [line for line in lines if len(line) > WIDEST] == []


def test_every_fragment_of_a_link_is_a_heading() -> None:
    """A link into a document ends at a heading that is there."""
    for document in DOCUMENTS:
        for target, fragment in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text()):
            other = document.parent / target if target else document
            assert fragment in anchors(other), f"{document.name}: {target}#{fragment}"


def test_every_problem_has_its_entry_in_the_bad_day() -> None:
    """Each problem and each warning of status has a line that says what to do, and no other."""
    findings = {*PROBLEM_CODES, *AMBER_CODES, *FOUND_WARNING_CODES}
    for module in ("health", "protection"):
        text = (REPOSITORY / f"backups/decisions/{module}.py").read_text()
        findings |= set(re.findall(r'Finding\(\s*"([a-z_]+)"', text))
    parts = re.split(
        "the light is amber|leave it green", table_below(BAD_DAY, "Problems of status")
    )
    problems, amber, others = (
        {code for row in re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE) for code in words(row)}
        for part in parts
    )
    assert problems == {*PROBLEM_CODES}
    assert amber == {*AMBER_CODES}
    assert others == findings - problems - amber


def words(row: str) -> list[str]:
    """What stands in code marks."""
    return re.findall(r"`(\w+)`", row)


def test_every_store_error_is_in_the_bad_day() -> None:
    """Whatever the store answers, its code has a line."""
    store = {code for code in error_codes() if code.startswith("store_")} - {"store_error"}
    assert store <= set(re.findall(r"`(\w+)`", table_below(BAD_DAY, "The store is away")))


def test_every_command_that_is_named_exists() -> None:
    """Commands and their options are those of `--help`, in sentences too."""
    named = {
        (command, option)
        for document in DOCUMENTS
        for command, rest in COMMAND.findall(document.read_text())
        for option in ("--help", *re.findall(r"--[a-z-]+", rest))
    }
    assert len(named) > 20
    for command, option in sorted(named):
        assert option in re.findall(r"--[a-z-]+", help_of(command)), f"{command} {option}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    """No document speaks of a setting that the program does not read."""
    assert set(SETTING.findall(document.read_text())) <= settings_that_are_read()


def test_every_module_that_is_named_exists() -> None:
    """The house in `docs/architecture.md` is the one that is there."""
    text = ARCHITECTURE.read_text()
    packages = ("backups", "shared", "facebook_integration", "shopify_integration", "tests")
    found = {path.name for name in packages for path in (REPOSITORY / name).rglob("*.py")}
    found |= {"app.py", "dependencies.py"}
    named = set(re.findall(r"[\w/]+\.py\b", text))
    assert len(named) > 20
    places = (REPOSITORY, REPOSITORY / "backups")
    for name in named:
        assert any((place / name).is_file() for place in places) if "/" in name else name in found
    for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE):
        for module in re.findall(r"`(\w+)`", row):
            assert f"{module}.py" in found, module
