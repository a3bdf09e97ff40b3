"""The rooms of `backups/` and `shared/`: their order, that nothing goes in a circle, their sizes.

A room is a folder or a file at the top of either. docs/architecture.md has the order of the rooms
of `backups/`, and is where the test reads it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, change, import_graph, is_dunder, python_files

HOUSES = ("backups", "shared")
ORDER = "docs/architecture.md"
MOST_ROOMS = 24
MOST_MODULES = 14
MOST_LINES = 400
LINES_WITHOUT_A_REASON = 300
REASON = "One file, because "


# --- what is checked, of any tree ---------------------------------------------------------


def circles_of_files(root: Path) -> list[str]:
    """Each way on which a module imports itself in the end, through functions and types too."""
    return circles(import_graph(root, *HOUSES))


def circles_of_rooms(root: Path) -> list[str]:
    """Each way on which a room imports itself in the end, although no file of it may do so."""
    rooms: dict[str, set[str]] = {}
    for importer, imported in room_imports(root):
        rooms.setdefault(room_of(importer), set()).add(room_of(imported))
    return circles(rooms)


def upward_imports(root: Path) -> list[str]:
    """Where a room of `backups/` imports one that is above it, or beside it, in the order."""
    floors = documented_floors(root)
    return [
        f"{importer} imports {imported}: {above} is not below {room}"
        for importer, imported in room_imports(root)
        if (room := room_of(importer)) in floors
        and (above := room_of(imported)) in floors
        and floors[above] >= floors[room]
    ]


def rooms_without_a_place(root: Path) -> list[str]:
    """The rooms of `backups/` that the order does not name, and the names that are no room."""
    documented, there = documented_floors(root).keys(), rooms(root, "backups")
    return [
        *(f"{room} is not in the order of {ORDER}" for room in sorted(there - documented)),
        *(f"{ORDER} names {room}, which is not there" for room in sorted(documented - there)),
    ]


def crowds(root: Path) -> list[str]:
    """The folders that have more in them than a reader takes in."""
    there = len(rooms(root, "backups"))
    files = [path for house in HOUSES for path in python_files(root, house) if not is_dunder(path)]
    modules = {path.parent: 0 for path in files}
    for path in files:
        modules[path.parent] += 1
    return [
        *([f"backups has {there} rooms, not {MOST_ROOMS} at most"] if there > MOST_ROOMS else []),
        *(
            f"{folder.relative_to(root)} has {count} modules, not {MOST_MODULES} at most"
            for folder, count in sorted(modules.items())
            if count > MOST_MODULES
        ),
    ]


def long_modules(root: Path) -> list[str]:
    """The modules that are too long, or long for no reason that their docstring gives."""
    long = []
    for path in (path for house in HOUSES for path in python_files(root, house)):
        source = path.read_text()
        lines, name = len(source.splitlines()), path.relative_to(root)
        if lines > MOST_LINES:
            long.append(f"{name} has {lines} lines, not {MOST_LINES} at most")
        elif lines > LINES_WITHOUT_A_REASON and not gives_reason(source):
            long.append(f"{name} has {lines} lines, and does not say: {REASON}...")
    return long


def circles(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The circles of a graph of imports, one a line: with one import less in each, none is left."""
    left = {node: sorted(nexts) for node, nexts in graph.items()}
    lines: list[str] = []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            circle = error.args[1][:0:-1]  # each imports the next; the last is the first again
            left[circle[0]].remove(circle[1])
            start = circle.index(min(circle))
            turned = [*circle[start:], *circle[:start]]
            lines.append(" -> ".join([*turned, turned[0]]))
        else:
            return sorted(lines)


def documented_floors(root: Path) -> dict[str, int]:
    """The floor of each room of `backups/` as the docs have it, from the lowest, 0."""
    text = (root / ORDER).read_text()
    block = re.search(r"^##+ The rooms of `backups/`$.*?^```text\n(.*?)^```$", text, re.M | re.S)
    assert block, f"{ORDER} has no order of rooms"
    return {
        f"backups.{room}": floor
        for floor, line in enumerate(reversed(block[1].splitlines()))
        for room in re.split(" {2,}", line)[0].split()  # what is in them stands behind
    }


def rooms(root: Path, house: str) -> set[str]:
    """The folders with modules, and the modules, at the top of a house."""
    return {
        f"{house}.{path.stem}"
        for path in (root / house).iterdir()
        if not is_dunder(path) and (path.suffix == ".py" or any(path.glob("*.py")))
    }


def room_of(module: str) -> str:
    """`backups.host` of `backups.host.lease`, `backups.model` of itself."""
    return ".".join(module.split(".")[:2])


def room_imports(root: Path) -> list[tuple[str, str]]:
    """Each import from one room into another, in order; `__main__` and packages are no rooms."""
    there = {room for house in HOUSES for room in rooms(root, house)}
    return sorted(
        (importer, imported)
        for importer, names in import_graph(root, *HOUSES).items()
        for imported in names
        if {room_of(importer), room_of(imported)} <= there
        and room_of(importer) != room_of(imported)
    )


def gives_reason(source: str) -> bool:
    """Whether the docstring of a module says why it is long."""
    return REASON in (ast.get_docstring(ast.parse(source)) or "")


# --- the rules, of our tree -----------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        circles_of_files,
        circles_of_rooms,
        upward_imports,
        rooms_without_a_place,
        crowds,
        long_modules,
    ],
)
def test_the_house_is_in_order(check: Callable[[Path], list[str]]) -> None:
    """Imports go down from room to room, and no room or module is too large to be read."""
    assert check(ROOT) == []


def test_every_room_is_looked_at() -> None:
    """The rules are not kept for want of rooms."""
    assert {"backups.format", "backups.model", "backups.cli"} <= rooms(ROOT, "backups")
    assert {"shared.store", "shared.errors"} <= rooms(ROOT, "shared")
    assert len(room_imports(ROOT)) > 100


# --- each rule can see ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "import backups.format.there",
        "from backups.format import there",
        "from backups.format.there import thing",
        "from . import there",
        "def act():\n    from backups.format.there import thing",
        "if TYPE_CHECKING:\n    from backups.format.there import Thing",
    ],
)
def test_a_circle_of_two_files_is_seen(copied_tree: Path, statement: str) -> None:
    """Two modules that import each other are named, whatever the form and place of the import."""
    change(copied_tree, "backups/format/here.py", statement)
    change(copied_tree, "backups/format/there.py", "import backups.format.here")

    line = "backups.format.here -> backups.format.there -> backups.format.here"
    assert line in circles_of_files(copied_tree)


def test_two_circles_are_both_seen(copied_tree: Path) -> None:
    """All circles are named at once, of three files as well as of two."""
    for here, there in ("ab", "ba", "cd", "de", "ec"):
        change(copied_tree, f"shared/web/{here}.py", f"from shared.web import {there}")

    seen = circles_of_files(copied_tree)
    assert "shared.web.a -> shared.web.b -> shared.web.a" in seen
    assert "shared.web.c -> shared.web.d -> shared.web.e -> shared.web.c" in seen


@pytest.mark.parametrize(
    ("house", "first", "second"), [("backups", "alerts", "host"), ("shared", "store", "web")]
)
def test_a_circle_of_rooms_is_seen(copied_tree: Path, house: str, first: str, second: str) -> None:
    """Two rooms that import each other are named, although no two files of them do."""
    for here, there in ((first, second), (second, first)):
        change(copied_tree, f"{house}/{here}/imports.py", f"import {house}.{there}.imported")
        change(copied_tree, f"{house}/{here}/imported.py", "")

    assert circles_of_files(copied_tree) == circles_of_files(ROOT)
    assert any(
        f"{house}.{first} -> {house}.{second}" in line
        or f"{house}.{second} -> {house}.{first}" in line
        for line in set(circles_of_rooms(copied_tree)) - set(circles_of_rooms(ROOT))
    )


@pytest.mark.parametrize(
    ("room", "above"), [("runs", "sources"), ("host", "decisions"), ("decisions", "host")]
)
def test_an_upward_import_is_seen(copied_tree: Path, room: str, above: str) -> None:
    """A module that imports from a room above its own, or beside it, is named."""
    change(copied_tree, f"backups/{above}/there.py", "")
    change(copied_tree, f"backups/{room}/here.py", f"import backups.{above}.there")

    line = (
        f"backups.{room}.here imports backups.{above}.there: "
        f"backups.{above} is not below backups.{room}"
    )
    assert line in upward_imports(copied_tree)


def test_a_room_without_a_place_is_seen(copied_tree: Path) -> None:
    """A new folder, and a new file, at the top of `backups/` have to be put in the order."""
    change(copied_tree, "backups/attic/things.py", "")
    change(copied_tree, "backups/shed.py", "")

    seen = rooms_without_a_place(copied_tree)
    assert f"backups.attic is not in the order of {ORDER}" in seen
    assert f"backups.shed is not in the order of {ORDER}" in seen


def test_a_place_without_a_room_is_seen(copied_tree: Path) -> None:
    """The order in the docs names no room that is gone."""
    (copied_tree / "backups/model.py").unlink()

    assert f"{ORDER} names backups.model, which is not there" in rooms_without_a_place(copied_tree)


def test_too_many_rooms_are_seen(copied_tree: Path) -> None:
    """At the top of `backups/` are 24 rooms at most."""
    for number in range(MOST_ROOMS + 1 - len(rooms(ROOT, "backups"))):
        assert not any("rooms" in line for line in crowds(copied_tree))
        change(copied_tree, f"backups/room_{number}.py", "")

    assert "backups has 25 rooms, not 24 at most" in crowds(copied_tree)


@pytest.mark.parametrize("folder", ["backups/alerts", "shared/web"])
def test_a_fifteenth_module_is_seen(copied_tree: Path, folder: str) -> None:
    """No folder of either house has more than 14 modules; `__init__.py` is not one."""
    modules = [path for path in (copied_tree / folder).glob("*.py") if not is_dunder(path)]
    for number in range(MOST_MODULES + 1 - len(modules)):
        assert not any(line.startswith(folder) for line in crowds(copied_tree))
        change(copied_tree, f"{folder}/module_{number}.py", "")

    assert f"{folder} has 15 modules, not 14 at most" in crowds(copied_tree)


@pytest.mark.parametrize(
    ("lines", "docstring", "fault"),
    [
        (300, "Things.", ""),
        (301, "Things.", " has 301 lines, and does not say: One file, because ..."),
        (301, "Things.\n\nOne file, because they belong together.", ""),
        (400, "Things. One file, because they belong together.", ""),
        (401, "Things. One file, because they belong together.", " has 401 lines, not 400 at most"),
    ],
)
def test_a_long_module_is_seen(copied_tree: Path, lines: int, docstring: str, fault: str) -> None:
    """A module has 300 lines at most, or up to 400 and a reason in its docstring."""
    source = f'"""{docstring}"""\n'
    source += "x = 1\n" * (lines - source.count("\n"))
    change(copied_tree, "shared/web/things.py", source)

    seen = [line for line in long_modules(copied_tree) if line.startswith("shared/web/things.py")]
    assert seen == ([f"shared/web/things.py{fault}"] if fault else [])
