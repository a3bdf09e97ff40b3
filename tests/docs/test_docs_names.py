"""The documents: they name every setting, command, route and code, and their examples run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import yaml
from fastapi.routing import APIRoute

from app import create_app, read_settings
from backups.decisions.health import PROBLEM_CODES
from backups.page.routes import page_routers
from shared.errors import AppError, SettingsError
from tests.support.app_process import AppProcess
from tests.support.doc_examples import examples
from tests.support.exposition import METRICS
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.typed import type_in
from tests.support.waiting import eventually
from tests.support.warm_python import run_warm

CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
DOCUMENTS = (
    REPOSITORY / "README.md",
    CONTRIBUTING,
    *sorted((REPOSITORY / "docs").glob("*.md")),
)
NOT_FOR_DAILY_WORK = {"env", "clean"}
SETTING = re.compile(r"`([A-Z]+(?:_[A-Z]+)+|HOST|PORT)[=`]")


def words(name: str) -> set[str]:
    """Everything between backticks in a document of `docs/`."""
    return set(re.findall(r"`([^`]+)`", (REPOSITORY / "docs" / name).read_text()))


class Asked(Mapping[str, str]):
    """Settings that are all unset, and know which of them were asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def settings_that_are_read() -> set[str]:
    """The names that `read_settings` asks for, those of a bucket that is set up included."""
    asked = Asked()
    with pytest.raises(SettingsError):
        read_settings(asked)
    return asked.names | {"SPACES_CA_BUNDLE"}


def error_codes() -> set[str]:
    """The codes of every error class of the program."""
    for package in ("shared", "backups"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if path.stem != "__main__":
                module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
                importlib.import_module(module.removesuffix(".__init__"))

    def codes(kind: type[AppError]) -> set[str]:
        # Tests have errors of their own, which may be in this process too.
        own = [one for one in kind.__subclasses__() if not one.__module__.startswith("tests.")]
        return {kind.code}.union(*(codes(below) for below in own))

    return codes(AppError)


def test_every_setting_is_documented() -> None:
    """The settings that the code reads are those of `docs/settings.md` and `.env.example`."""
    example = (REPOSITORY / ".env.example").read_text()
    documented = set(SETTING.findall((REPOSITORY / "docs" / "settings.md").read_text()))
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == settings_that_are_read()
    assert settings_that_are_read() <= documented
    assert {name for name in documented if not name.endswith("_")} <= settings_that_are_read()


@cache
def commands_that_there_are() -> set[str]:
    """The commands of `--help`."""
    shown = run_warm([sys.executable, "-m", "backups", "--help"]).stdout
    return set(re.findall(r"^    ([a-z]+) ", shown, re.MULTILINE))


def test_every_command_is_documented() -> None:
    """The commands of `--help` are those of `docs/commands.md`."""
    commands = commands_that_there_are()
    assert {"run", "status", "list", "runs", "verify"} <= commands
    documented = {word.split()[0] for word in words("commands.md")}
    assert commands <= documented


def test_every_route_is_documented() -> None:
    """The routes of the OpenAPI document and of the page are those of `docs/commands.md`."""
    routes = {
        f"{method.upper()} {path.removeprefix('/admin/backups')}"
        for path, methods in create_app().openapi()["paths"].items()
        for method in methods
    }
    for router in page_routers():
        for route in router.routes:
            assert isinstance(route, APIRoute)
            routes |= {f"{method} {route.path}" for method in route.methods or ()}
    documented = {word for word in words("commands.md") if re.match("(GET|POST) /", word)}
    assert routes - {"GET "} == documented


def test_every_code_is_documented() -> None:
    """Every error's code, and every problem and warning of status, is in `docs/commands.md`."""
    modules = [REPOSITORY / f"backups/decisions/{name}.py" for name in ("health", "protection")]
    text = "".join(module.read_text() for module in modules)
    findings = set(re.findall(r'Finding\(\s*"([a-z_]+)"', text)) | {*PROBLEM_CODES}
    assert {"no_restore_point", "overdue", "not_wal"} <= findings
    assert findings | error_codes() <= words("commands.md")


def test_every_metric_is_documented() -> None:
    """The table of `docs/metrics.md` has every metric with its type and labels, and no other."""
    table = re.findall(
        r"^\| `(\w+)(?:\{([\w,]+)\})?` \| (\w+) \|",
        (REPOSITORY / "docs" / "metrics.md").read_text(),
        re.MULTILINE,
    )
    documented = {
        name: (kind, tuple(labels.split(",")) if labels else ()) for name, labels, kind in table
    }
    assert documented == METRICS


def test_links_lead_somewhere() -> None:
    """Every link to a file of the repository has a file at its end."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def make_targets(text: str) -> set[str]:
    """The `make` targets that a document names."""
    return set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))


def targets_that_there_are() -> set[str]:
    """The targets of the Makefile that make no file."""
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    return set(phony.split())


def test_make_targets_exist() -> None:
    """Every `make` target that a document names is in the Makefile."""
    for document in DOCUMENTS:
        assert make_targets(document.read_text()) <= targets_that_there_are(), document.name


def test_contributing_names_every_make_target() -> None:
    """Whoever changes the code finds each command that there is for it."""
    named = make_targets(CONTRIBUTING.read_text())
    assert named >= targets_that_there_are() - NOT_FOR_DAILY_WORK


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_files_of_the_code_that_are_named_exist(document: Path) -> None:
    """A path to a source or a script leads to a file."""
    for path in re.findall(
        r"`((?:backups|shared|tests|deploy|benchmarks)/[\w/.-]+\.(?:py|sh|in))\b",
        document.read_text(),
    ):
        assert (REPOSITORY / path).is_file(), path


def test_examples_that_are_not_run_name_what_is_there() -> None:
    """What is for root or Docker is sound shell, and names only files, commands and services
    that there are."""
    services = set(yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"])
    blocks = [block for document in DOCUMENTS for block in examples(document, "bash")]
    assert blocks
    for block in blocks:
        done = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), block
        for path in re.findall(r"deploy/[\w./-]+", block):
            assert (REPOSITORY / path).exists(), path
        for command in re.findall(r"\./bot backups (\w+)", block):
            assert command in commands_that_there_are()
        for service in re.findall(r"docker compose exec (\w+)", block):
            assert service in services


def test_examples_run(tmp_path: Path) -> None:
    """Every shell example runs as it stands, in the folder of an app that is up.

    Only `make` lines are left out (they are another test's), and the port is that of this app.
    """
    installation = Installation(tmp_path).make_databases()
    lines = [f"{name}={value}" for name, value in bot_secrets().items()]
    (tmp_path / ".env").write_text("\n".join(lines) + "\n")
    (tmp_path / ".env").chmod(0o600)
    blocks = [
        block
        for document in DOCUMENTS
        # Other tests of this folder run these.
        if document.name not in ("restore-by-hand.md", "two-places.md")
        for block in examples(document, "sh")
    ]
    assert blocks
    with AppProcess.start(installation) as app, app.client() as client:
        eventually(lambda: client.get("/admin/backups").json()["healthy"], "the first backup")
        for block in blocks:
            script = "\n".join(line for line in block.splitlines() if not line.startswith("make "))
            here = script.replace("127.0.0.1:5000", f"127.0.0.1:{app.port}")
            done = type_in(installation, f"export no_proxy='*'\n{here}")
            assert done.returncode == 0, f"{script}\n{done.stderr}"
            assert "urn:backup:" not in done.stdout
