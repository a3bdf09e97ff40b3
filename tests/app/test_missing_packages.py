"""A Python that cannot run the program is told what to do about it, and no traceback."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.installation import REPOSITORY

WAYS = (("-m", "backups", "status"), ("-m", "shared", "rotate-keys"), ("app.py",))
# What an old Python has to read before it is told.
READ_FIRST = (
    "app.py",
    "backups/__init__.py",
    "backups/__main__.py",
    "shared/__init__.py",
    "shared/__main__.py",
    "shared/interpreter.py",
)
AN_OLD_PYTHON = """
import runpy, sys
sys.version_info = (3, 9, 18, "final", 0)
sys.argv = ["?", "status"]
run = runpy.run_path if "{name}".endswith(".py") else runpy.run_module
run("{name}", run_name="__main__")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the program, in which nothing was installed."""
    for name in ("backups", "shared", "facebook_integration", "shopify_integration"):
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("app.py", "bot"):
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """The Python of a virtual environment without any package."""
    return empty_venv(tmp_path / "elsewhere")


def empty_venv(folder: Path) -> Path:
    """Make a virtual environment without pip; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def typed(
    folder: Path, *command: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder, with nothing of this process's packages."""
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_python_without_packages(checkout: Path, bare_python: Path, way: Sequence[str]) -> None:
    """Every way in names the package, and the command that installs all or the one that has it."""
    done = typed(checkout, bare_python, *way)
    assert (done.returncode, done.stdout) == (1, "")
    named, advice = done.stderr.splitlines()
    assert named.startswith("The package ")
    assert named.endswith(f" is not installed for {bare_python}.")
    assert f"In {checkout} type: make env, then ./bot backups status" in advice
    empty_venv(checkout / ".venv")
    advice = typed(checkout, bare_python, *way).stderr.splitlines()[1]
    assert f"In {checkout} type: ./bot backups status" in advice
    assert not (checkout / "data").exists()


def test_an_environment_of_ours_that_lacks_a_package(checkout: Path) -> None:
    """`./bot` uses `.venv` from any folder; where that lacks a package, it is to be made anew."""
    empty_venv(checkout / ".venv")
    done = typed(checkout.parent, checkout / "bot", "backups", "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"is not installed for {checkout}/.venv/bin/python." in done.stderr
    assert f"cd {checkout}, then: make clean env" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_fault_keeps_its_traceback(checkout: Path, bare_python: Path) -> None:
    """Only a package that is missing is explained: a module of ours, or another fault, is a bug."""
    (checkout / "backups" / "cli" / "main.py").write_text("import shared.gone\n")
    done = typed(checkout, bare_python, "-m", "backups", "status")
    assert "Traceback" in done.stderr
    assert "No module named 'shared.gone'" in done.stderr
    (checkout / "backups" / "cli" / "main.py").write_text("1 / 0\n")
    assert "ZeroDivisionError" in typed(checkout, bare_python, "-m", "backups").stderr


@pytest.mark.parametrize("name", ["backups", "shared", "app.py"])
def test_a_python_that_is_too_old(checkout: Path, name: str) -> None:
    """Its version and the one that is needed are named, before anything newer is read."""
    script = AN_OLD_PYTHON.format(name=name)
    done = typed(checkout, sys.executable, "-c", script, PYTHONPATH=str(checkout))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Python 3.11 or newer is needed, and {sys.executable} is Python 3.9.18.",
        f"In {checkout} type: make env PYTHON=python3.11. Then: ./bot backups status",
    ]


@pytest.mark.parametrize("name", READ_FIRST)
def test_what_an_old_python_reads_is_old_python(name: str) -> None:
    """Python 3.8 can parse what stands before the check, so that it comes to the check."""
    ast.parse((REPOSITORY / name).read_text(), feature_version=(3, 8))


def test_no_python_at_all(checkout: Path) -> None:
    """`./bot` names the Python that it looked for."""
    done = typed(checkout, "sh", "bot", "backups", "status", PYTHON="python-that-is-not-here")
    assert done.returncode == 1
    assert done.stderr == (
        "There is no python-that-is-not-here here: install Python 3.11 or newer, "
        f"then type in {checkout}: make env\n"
    )


@pytest.mark.parametrize("arguments", [(), ("status",), ("run",)], ids=str)
def test_bot_says_how_it_is_used(checkout: Path, arguments: Sequence[str]) -> None:
    """Without arguments, or with another first word, `./bot` prints its usage and exits with 2."""
    done = typed(checkout, "./bot", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ./bot backups COMMAND ...")
    shown = typed(checkout, "./bot", "--help")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, done.stderr, "")
