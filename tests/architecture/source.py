"""What the source of a tree says about itself: its modules, and which imports which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_files(root: Path, folder: str) -> list[Path]:
    """Every Python file below a folder of `root`, in order; none when there is no such folder."""
    return sorted((root / folder).rglob("*.py"))


def is_dunder(path: Path) -> bool:
    """Whether it is `__init__.py`, `__main__.py`, `__pycache__`: no module with work of its own."""
    return path.name.startswith("__")


def module_of(root: Path, path: Path) -> str:
    """The dotted name under which a file below `root` is imported."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(root: Path, path: Path) -> str:
    """The package in which a file below `root` is, from which its relative imports count."""
    return ".".join(path.relative_to(root).parent.parts)


def imports_of_file(root: Path, path: Path) -> frozenset[str]:
    """Every module that a file below `root` imports, wherever in it, and each name with it."""
    return imports_of(path.read_text(), package_of(root, path))


def import_graph(root: Path, *folders: str) -> dict[str, frozenset[str]]:
    """Each module below the folders, with those of them that it imports."""
    files = {
        module_of(root, path): path for folder in folders for path in python_files(root, folder)
    }
    return {
        module: frozenset(imports_of_file(root, path) & files.keys() - {module})
        for module, path in files.items()
    }


@cache
def imports_of(source: str, package: str) -> frozenset[str]:
    """Every module that a source of `package` imports, wherever that stands, and each name."""
    modules = {
        _module(node, package)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
    }
    return imported_names(source, package) | modules


@cache
def imported_names(source: str, package: str) -> frozenset[str]:
    """Each thing that a source of `package` imports: `a.b.c` of `from a.b import c`."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named |= {f"{_module(node, package)}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and last_name(node.func) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            named.add(str(node.args[0].value))
    return frozenset(named)


def _module(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def last_name(node: ast.expr) -> str | None:
    """The last name of an expression: `now` of `datetime.now`, `open` of `open`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def names_in(source: str) -> set[str]:
    """Every name that a source uses, as a name, an attribute or an import."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            named.add(node.id)
        elif isinstance(node, ast.Attribute):
            named.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            named |= {alias.name for alias in node.names}
    return named


def forbidden_imports(paths: list[Path], *modules: str) -> Iterator[str]:
    """Where one of `paths` imports one of `modules`, or something below it."""
    for path in paths:
        for named in sorted(imports_of_file(ROOT, path)):
            if any(named == module or named.startswith(f"{module}.") for module in modules):
                yield f"{path.relative_to(ROOT)} imports {named}"


def change(root: Path, file: str, source: str) -> None:
    """Write a file of the copy, and the folders above it."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(source)
