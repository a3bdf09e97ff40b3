"""The rules of the layout, read from the source: who imports whom, and what stays pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTEGRATIONS = ("facebook_integration", "shopify_integration")
PURE = (
    "model",
    "errors",
    "naming",
    "manifest",
    "legacy",
    "retention",
    "restore_plan",
    "health",
    "schedule",
    "headline",
    "calendar",
    "chart",
    "wording",
    "page/steps",
)
IMPURE_MODULES = (
    "os",
    "io",
    "shutil",
    "tempfile",
    "glob",
    "fcntl",
    "filelock",
    "sqlite3",
    "boto3",
    "botocore",
    "time",
    "random",
    "secrets",
    "uuid",
    "socket",
    "subprocess",
    "threading",
    "logging",
    "dotenv",
    "shared.settings.load",
    "shared.databases.sqlite",
    "shared.store.spaces",
    "shared.store.directory",
    "shared.logs",
)
IMPURE_CALLS = {
    # the clock
    "now",
    "utcnow",
    "today",
    # the file system; `Path` itself may be named, as the type of a field
    "open",
    "exists",
    "is_file",
    "is_dir",
    "stat",
    "resolve",
    "iterdir",
    "glob",
    "rglob",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkdir",
    "rmdir",
    "touch",
    "unlink",
    "rename",
    "chmod",
    "symlink_to",
    "hardlink_to",
    "cwd",
    "home",
    "expanduser",
    "print",
    "input",
}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv", "dotenv_values"}


def sources(*names: str) -> list[Path]:
    """The Python files of packages or single files at the top; none is a fault in the test."""
    found = [
        path
        for name in names
        for path in sorted(
            (ROOT / name).rglob("*.py") if (ROOT / name).is_dir() else ROOT.glob(f"{name}.py")
        )
    ]
    assert found
    return found


def imports_of(source: str, package: str) -> set[str]:
    """Every module that a source of `package` names in an import, wherever that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            above = parts if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif (
            isinstance(node, ast.Call)
            and name_of(node.func) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


def name_of(node: ast.expr) -> str | None:
    """The last name of an expression: `now` of `datetime.now`, `open` of `open`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def names_in(source: str) -> set[str]:
    """Every name that a source uses, as a name, an attribute or an import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found


def calls_in(source: str) -> set[str]:
    """The last name of everything that a source calls."""
    return {
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and (name := name_of(node.func))
    }


def forbidden_imports(paths: list[Path], *modules: str) -> Iterator[str]:
    """Where one of `paths` imports one of `modules`, or something below it."""
    for path in paths:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for found in sorted(imports_of(path.read_text(), package)):
            if any(found == module or found.startswith(f"{module}.") for module in modules):
                yield f"{path.relative_to(ROOT)} imports {found}"


def test_shared_imports_nothing_above_it() -> None:
    """`shared` is for everyone, so it knows neither the backups, nor the bot, nor the app."""
    assert list(forbidden_imports(sources("shared"), "backups", "app", *INTEGRATIONS)) == []


def test_backups_do_not_know_what_is_in_a_source() -> None:
    """`backups` never imports the bot's state, the integrations, or the app."""
    forbidden = ("shared.databases.tokens", "shared.databases.sessions", "app", *INTEGRATIONS)

    assert list(forbidden_imports(sources("backups"), *forbidden)) == []


def test_the_integrations_do_not_know_the_backups() -> None:
    """Neither integration imports the backups, the app, or the other integration."""
    for one, other in (INTEGRATIONS, INTEGRATIONS[::-1]):
        assert list(forbidden_imports(sources(one), "backups", "app", other)) == []


def test_the_stand_ins_do_not_know_the_bot() -> None:
    """They sign and check with code of their own, or both sides could be wrong in the same way."""
    forbidden = ("shared", "backups", "app", *INTEGRATIONS)

    assert list(forbidden_imports(sources("tests/fakes"), *forbidden)) == []


def test_only_the_settings_read_the_environment() -> None:
    """Only `shared/settings/load.py` has `os.environ`, `os.getenv` or the reader of `.env`."""
    readers = [
        str(path.relative_to(ROOT))
        for path in sources("app", "shared", "backups", *INTEGRATIONS)
        if names_in(path.read_text()) & ENVIRONMENT
    ]

    assert readers == ["shared/settings/load.py"]


def pure_sources() -> list[Path]:
    found = [path for name in PURE if (path := ROOT / "backups" / f"{name}.py").is_file()]
    assert found
    return found


def test_what_is_pure_imports_no_io_and_no_clock() -> None:
    """Decisions are made from arguments: their modules import nothing that acts or looks."""
    assert list(forbidden_imports(pure_sources(), *IMPURE_MODULES)) == []


def test_what_is_pure_asks_neither_the_clock_nor_a_file() -> None:
    """No `datetime.now()` and no method of `Path` that touches a disk is called in them."""
    calls = {
        path.name: found
        for path in pure_sources()
        if (found := calls_in(path.read_text()) & IMPURE_CALLS)
    }

    assert calls == {}


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import backups", "backups"),
        ("import backups.model as m", "backups.model"),
        ("from backups import model", "backups.model"),
        ("from backups.model import Run", "backups.model"),
        ("def f():\n    from backups import model", "backups.model"),
        ("if TYPE_CHECKING:\n    import backups", "backups"),
        ("from . import tokens", "shared.tokens"),
        ("from .tokens import put", "shared.tokens"),
        ("from .deeper.tokens import put", "shared.deeper.tokens"),
        ("import importlib\nimportlib.import_module('backups.model')", "backups.model"),
        ("__import__('backups')", "backups"),
    ],
)
def test_every_form_of_an_import_is_seen(source: str, module: str) -> None:
    """The rules above would not notice what `imports_of` overlooks."""
    assert module in imports_of(source, "shared")


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "import os as system\nsystem.getenv('A')",
        "from os import environ",
        "from os import getenv as g",
        "from dotenv import dotenv_values",
    ],
)
def test_every_reading_of_the_environment_is_seen(source: str) -> None:
    """The rule above would not notice what `names_in` overlooks."""
    assert names_in(source) & ENVIRONMENT


@pytest.mark.parametrize(
    "source", ["datetime.now(UTC)", "datetime.datetime.utcnow()", "open('a')", "Path('a').open()"]
)
def test_every_impure_call_is_seen(source: str) -> None:
    """The rule above would not notice what `calls_in` overlooks."""
    assert calls_in(source) & IMPURE_CALLS
