"""The wall around what decides: its modules compute from their arguments, and from nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import (
    ROOT,
    change,
    imported_names,
    is_dunder,
    last_name,
    package_of,
    python_files,
)

PURE_ROOMS = ("backups/format", "backups/decisions", "backups/view", "backups/vocabulary")
# What these rooms use beside them, and so has to be as pure.
PURE_FILES = (
    "backups/model.py",
    "backups/errors.py",
    "shared/errors.py",
    "shared/bounded.py",
    "shared/crontab.py",
    "shared/printable.py",
    "shared/words.py",
    "shared/store/object_store.py",
)
PURE = {name.removesuffix(".py").replace("/", ".") for name in (*PURE_ROOMS, *PURE_FILES)}
COMPUTES_ONLY = {
    "__future__",
    "abc",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "hmac",
    "html",
    "itertools",
    "json",
    "math",
    "operator",
    "pathlib",  # `Path` is the type of a field; its methods that touch a disk are not called
    "re",
    "statistics",
    "string",
    "struct",
    "textwrap",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "zlib",
    "cronsim",
    "pydantic",
    "shared.adapters.adapter_of",
    "shared.clock.format_utc",
    "shared.clock.parse_utc",
    "shared.printable.printable",
}
CLOCKS = {"now", "utcnow", "today"}
OF_THE_WORLD = {"open", "print", "input", "eval", "exec", "breakpoint", "__import__"}
DISK_METHODS = {
    "absolute",
    "chmod",
    "cwd",
    "exists",
    "expanduser",
    "glob",
    "hardlink_to",
    "home",
    "is_dir",
    "is_file",
    "is_symlink",
    "iterdir",
    "lstat",
    "mkdir",
    "open",
    "read_bytes",
    "read_text",
    "readlink",
    "rename",
    "resolve",
    "rglob",
    "rmdir",
    "samefile",
    "stat",
    "symlink_to",
    "touch",
    "unlink",
    "write_bytes",
    "write_text",
}


# --- what is checked, of any tree ---------------------------------------------------------


def holes(root: Path) -> list[str]:
    """Where the pure rooms and files of a tree reach outside, and which of them are not there."""
    return [*absent(root), *(hole for path in pure_files(root) for hole in holes_of(root, path))]


def absent(root: Path) -> Iterator[str]:
    """The pure rooms without a module, and the pure files that are not there."""
    for room in PURE_ROOMS:
        if all(is_dunder(path) for path in python_files(root, room)):
            yield f"{room} has no module"
    for name in PURE_FILES:
        if not (root / name).is_file():
            yield f"{name} is not there"


def pure_files(root: Path) -> list[Path]:
    """Every file that has to be pure, however deep in its room."""
    return [
        *(path for room in PURE_ROOMS for path in python_files(root, room)),
        *(root / name for name in PURE_FILES if (root / name).is_file()),
    ]


def holes_of(root: Path, path: Path) -> Iterator[str]:
    """Where one file imports what does more than compute, or asks the world."""
    source, name = path.read_text(), path.relative_to(root)
    for imported in sorted(imported_names(source, package_of(root, path))):
        if not any(imported == one or imported.startswith(f"{one}.") for one in allowed()):
            yield f"{name} imports {imported}"
    for asked in sorted(asked_of_the_world(source)):
        yield f"{name} uses {asked}"


def allowed() -> set[str]:
    """The modules, and single names of modules, that may be imported behind the wall."""
    return COMPUTES_ONLY | PURE


def asked_of_the_world(source: str) -> set[str]:
    """What a source asks of the clock, the host's time zone, the disk or the terminal."""
    asked = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in OF_THE_WORLD:
            asked.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in CLOCKS
            and last_name(node.value) in ("datetime", "date")
        ):
            asked.add(node.attr)  # also where it is handed on and not called
        elif isinstance(node, ast.Call) and (called := last_name(node.func)):
            arguments = len(node.args) + len(node.keywords)
            if (
                called in CLOCKS | DISK_METHODS
                or (called == "astimezone" and arguments == 0)
                or (called == "fromtimestamp" and arguments == 1)
            ):
                asked.add(called)
    return asked


# --- the rule, of our tree -------------------------------------------------------------------


def test_what_decides_is_pure() -> None:
    """`format`, `decisions`, `view` and the records have no I/O, no clock and no environment."""
    assert holes(ROOT) == []


def test_the_docs_name_the_pure_rooms() -> None:
    """The docs say of the same rooms that they are pure."""
    lines = (ROOT / "docs/architecture.md").read_text().splitlines()

    assert any(
        "are pure" in line
        and all(f"{room.removeprefix('backups/')}/`" in line for room in PURE_ROOMS)
        for line in lines
    )


# --- the rule can see ------------------------------------------------------------------------


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_an_empty_room_is_seen(copied_tree: Path, room: str) -> None:
    """A room whose modules have moved away does not count as pure."""
    for path in python_files(copied_tree, room):
        if not is_dunder(path):
            path.unlink()

    assert f"{room} has no module" in holes(copied_tree)


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_a_room_that_is_gone_is_seen(copied_tree: Path, room: str) -> None:
    """A room that has another name now does not count as pure."""
    (copied_tree / room).rename(copied_tree / "backups/elsewhere")

    assert f"{room} has no module" in holes(copied_tree)


@pytest.mark.parametrize("name", PURE_FILES)
def test_a_file_that_is_gone_is_seen(copied_tree: Path, name: str) -> None:
    """A file that has moved away does not count as pure."""
    (copied_tree / name).unlink()

    assert f"{name} is not there" in holes(copied_tree)


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_every_module_of_the_tree_is_behind_the_wall(copied_tree: Path, room: str) -> None:
    """`import os` is seen in each module of a room, in a new one, and in a folder of the room."""
    change(copied_tree, f"{room}/new.py", "")
    change(copied_tree, f"{room}/deeper/new.py", "")
    paths = python_files(copied_tree, room)
    for path in paths:
        path.write_text(f"{path.read_text()}\nimport os\n")

    assert len(paths) > 4
    assert {f"{path.relative_to(copied_tree)} imports os" for path in paths} <= set(
        holes(copied_tree)
    )


@pytest.mark.parametrize("name", PURE_FILES)
def test_every_file_is_behind_the_wall(copied_tree: Path, name: str) -> None:
    """`import os` is seen in the records, the errors, and what of `shared/` is used."""
    change(copied_tree, name, f"{(ROOT / name).read_text()}\nimport os\n")

    assert f"{name} imports os" in holes(copied_tree)


@pytest.mark.parametrize(
    ("statement", "hole"),
    [
        ("import os.path", "imports os.path"),
        ("import time", "imports time"),
        ("import io, sqlite3", "imports sqlite3"),
        ("import types_boto3_s3", "imports types_boto3_s3"),
        ("from random import random", "imports random.random"),
        ("from uuid import uuid4", "imports uuid.uuid4"),
        ("from urllib import request", "imports urllib.request"),
        ("def act():\n    import threading", "imports threading"),
        ("if TYPE_CHECKING:\n    import logging", "imports logging"),
        ("import importlib\nimportlib.import_module('os')", "imports os"),
        ("from shared.clock import SystemClock", "imports shared.clock.SystemClock"),
        ("import shared.clock", "imports shared.clock"),
        ("from shared.store.directory import DirectoryStore", "imports shared.store.directory."),
        ("from backups.host import records", "imports backups.host.records"),
        ("from ..host.records import Records", "imports backups.host.records.Records"),
        ("from backups import wiring", "imports backups.wiring"),
        ("datetime.now(UTC)", "uses now"),
        ("datetime.datetime.utcnow()", "uses utcnow"),
        ("when: datetime = field(default_factory=datetime.now)", "uses now"),
        ("clock.now()", "uses now"),
        ("datetime.today()", "uses today"),
        ("date.today()", "uses today"),
        ("instant.astimezone()", "uses astimezone"),
        ("datetime.fromtimestamp(1)", "uses fromtimestamp"),
        ("open('a')", "uses open"),
        ("read = open", "uses open"),
        ("Path('a').open()", "uses open"),
        ("path.read_text()", "uses read_text"),
        ("path.exists()", "uses exists"),
        ("Path.cwd()", "uses cwd"),
        ("print('a')", "uses print"),
    ],
)
def test_a_hole_is_seen(copied_tree: Path, statement: str, hole: str) -> None:
    """Each way to a clock, a disk, the environment, or a module that has one, is named."""
    change(copied_tree, "backups/decisions/new.py", statement)

    assert any(line.startswith(f"backups/decisions/new.py {hole}") for line in holes(copied_tree))


@pytest.mark.parametrize(
    "statement",
    [
        "from pathlib import Path\n\nwhere: Path",
        "age = facts.now - made_at",
        "instant.astimezone(UTC)",
        "datetime.fromtimestamp(1, UTC)",
        "from shared.clock import format_utc, parse_utc",
        "from backups.format.naming import stem",
        "from . import health",
    ],
)
def test_what_only_computes_is_let_through(copied_tree: Path, statement: str) -> None:
    """A record may have a path, and a decision a time that it was given."""
    change(copied_tree, "backups/decisions/new.py", statement)

    assert not any(line.startswith("backups/decisions/new.py") for line in holes(copied_tree))
