"""The rules between the packages, read from the source: who imports whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.source import ROOT, forbidden_imports, imports_of, names_in

INTEGRATIONS = ("facebook_integration", "shopify_integration")
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


def test_shared_imports_nothing_above_it() -> None:
    """`shared` is for everyone, so it knows neither the backups, nor the bot, nor the app.

    Its command line is no part that others use: `rotate-keys` is for the tokens and the backups.
    """
    used = [path for path in sources("shared") if path != ROOT / "shared" / "__main__.py"]

    assert len(used) == len(sources("shared")) - 1
    assert list(forbidden_imports(used, "backups", "app", *INTEGRATIONS)) == []
    assert list(forbidden_imports(sources("shared"), "app", *INTEGRATIONS)) == []


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
