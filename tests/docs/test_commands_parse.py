"""Every `./bot …` that the program prints or a document has is a command that can be typed."""

from __future__ import annotations

import ast
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

import pytest

from backups.cli import main
from shared.__main__ import build_parser
from tests.support.installation import REPOSITORY

PROGRAM = ("app.py", "backups", "shared", "facebook_integration", "shopify_integration", "deploy")
OTHER_FILES = (
    *("README.md", "CONTRIBUTING.md", "docs/*.md", ".env.example", "compose.yaml", "Makefile"),
    *("deploy/**/*.yaml", "deploy/**/*.json", "deploy/**/*.cron", "deploy/**/*.service"),
    "backups/page/templates/*.html",
)
AN_ID = "20261122T010000Z"
# What stands for a value in a hint or a document, and a value that a person may type for it.
PLACEHOLDERS = {"N": "5", "TIME": "2026-11-22T09:41:07Z", "KIND": "lost-disk"}
# Values of f-strings that are more than one word.
VALUES = {
    "ACCEPT": "--accept-unsigned",
    "IN_PLACE": "--in-place --yes",
    "TO_FOLDER": "--to DIR",
    "target": "--in-place --yes",
}
COMMAND = re.compile(r"\./bot (backups|shared)((?: +(?!\./bot )(?:[-\w./=$:{}~]+|\"[^\"]+\"))*)")


def texts_of(source: str) -> Iterator[str]:
    """The texts of a Python source as they are shown: adjacent ones joined, values filled in."""
    tree = ast.parse(source)
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inner = {id(part) for node in formatted for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield filled_in(node)
        elif isinstance(node, ast.Constant) and id(node) not in inner:
            yield str(node.value)


def filled_in(text: ast.JoinedStr) -> str:
    """An f-string with an id for each value; one that is glued to a word adds more or nothing."""
    shown = ""
    for part in text.values:
        if isinstance(part, ast.Constant):
            shown += str(part.value)
        elif not re.search(r"[\w.]$", shown):
            value = part.value if isinstance(part, ast.FormattedValue) else part
            shown += VALUES.get(ast.unparse(value), AN_ID)
    return shown


def in_lines(document: str) -> str:
    """A document whose sentences are not broken into lines; its examples still are."""
    parts = document.split("```")
    return "\n".join(
        part if number % 2 else part.replace("\n", " ") for number, part in enumerate(parts)
    )


def commands_in(text: str) -> Iterator[list[str]]:
    """The arguments of each `./bot` in a text, with values for what is only named.

    A command ends where its sentence, its marks or its comment do.
    """
    for match in COMMAND.finditer(text):
        line = re.sub(r"\$\w+|\$\{\w+\}", AN_ID, match[0].removeprefix("./bot "))
        words: list[str] = []
        for word in shlex.split(line):
            if word in ("or", "and", "COMMAND", "..."):
                break
            words.append(PLACEHOLDERS.get(word.rstrip(".,:"), word.rstrip(".,:")))
            if word[-1] in ".,:":
                break
        yield words


def refusal_of(arguments: list[str]) -> str | None:
    """Why these arguments of `./bot` cannot be typed; None when they can."""
    said = io.StringIO()
    package, *rest = arguments
    parse = main._parsed if package == "backups" else build_parser().parse_args
    try:
        with redirect_stderr(said), redirect_stdout(said):
            parse(rest)
    except SystemExit as ended:
        return None if ended.code == 0 else said.getvalue().splitlines()[-1]
    return None


def found_in_the_program() -> dict[str, list[list[str]]]:
    """File -> the commands in the texts of the program."""
    paths = [
        path
        for name in PROGRAM
        for path in (
            [REPOSITORY / name] if name.endswith(".py") else (REPOSITORY / name).rglob("*.py")
        )
    ]
    return {
        str(path.relative_to(REPOSITORY)): [
            command for text in texts_of(path.read_text()) for command in commands_in(text)
        ]
        for path in paths
    }


def found_elsewhere() -> dict[str, list[list[str]]]:
    """File -> the commands in documents, templates and files for the deployment."""
    paths = [path for pattern in OTHER_FILES for path in REPOSITORY.glob(pattern)]
    return {
        str(path.relative_to(REPOSITORY)): list(
            commands_in(in_lines(path.read_text()) if path.suffix == ".md" else path.read_text())
        )
        for path in paths
    }


def test_every_command_can_be_typed() -> None:
    """All hints, logs, documents and templates: what stands there parses as it stands."""
    program, elsewhere = found_in_the_program(), found_elsewhere()
    assert sum(map(len, program.values())) > 80
    assert sum(map(len, elsewhere.values())) > 120
    wrong = {
        f"{file}: ./bot {' '.join(command)}": refused
        for found in (program, elsewhere)
        for file, commands in found.items()
        for command in commands
        if len(command) > 1 and (refused := refusal_of(command))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("Make one: ./bot backups run", False),
        ("Make one: ./bot backups rnu", True),
        ("`./bot backups restore --inplace --yes`", True),
        ("(./bot backups list), then", False),
        ("See ./bot backups runs. Then try again.", False),
        ("./bot backups restore --undo --at 2026-11-22", True),
        ("./bot backups restore $SET --only tokens --to DIR", False),
        ("./bot shared rotate-key", True),
    ],
)
def test_a_command_that_cannot_be_typed_is_seen(text: str, *, refused: bool) -> None:
    """The rule above would not notice what is not found, or cut too short."""
    (command,) = commands_in(text)
    assert bool(refusal_of(command)) == refused


def test_each_command_of_a_text_is_seen() -> None:
    """The second one as well, whether a sentence or a word ends the first."""
    text = "./bot backups run. Then: ./bot backups accept --missing or ./bot backups rnu"
    found = list(commands_in(text))
    assert [one[1:] for one in found] == [["run"], ["accept", "--missing"], ["rnu"]]


def test_values_of_an_f_string_are_filled_in() -> None:
    """A hint that names its set is one command, with an id in it."""
    (text,) = (
        one
        for one in texts_of('x = f"Type: ./bot " f"backups restore {a.id} --to DIR."')
        if "./" in one
    )
    assert list(commands_in(text)) == [["backups", "restore", AN_ID, "--to", "DIR"]]
