"""Files that a command names: `./bot` goes to its own folder, and the person stays in theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.clock import SystemClock
from tests.support.bench import open_bench
from tests.support.databases import count_rows
from tests.support.installation import Installation, installation_in
from tests.support.typed import type_in

pytestmark = pytest.mark.slow


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A host with one set."""
    with open_bench(tmp_path, settings={}, clock=SystemClock()) as bench:
        bench.write("genset")
        bench.made()
    return installation_in(tmp_path)


def test_a_relative_folder_is_that_of_the_caller(installation: Installation) -> None:
    """`../bot backups restore --to out` writes below the folder that it was typed in."""
    elsewhere = installation.folder / "else where"
    elsewhere.mkdir()

    done = type_in(installation, 'cd "else where"; ../bot backups restore --to out')

    assert done.returncode == 0, done.stderr
    assert count_rows(elsewhere / "out" / "tokens.db", "tokens") > 0
    assert not (installation.folder / "out").exists()


def test_a_relative_file_is_read_and_written_beside_the_caller(installation: Installation) -> None:
    """`keygen --to FILE` and `drill --identity FILE` mean the same file from the same folder."""
    (installation.folder / "keys").mkdir()

    done = type_in(
        installation,
        "cd keys; ../bot backups keygen --to mine.txt; ../bot backups drill --identity mine.txt",
    )

    assert done.returncode == 0, done.stderr
    assert (installation.folder / "keys" / "mine.txt").is_file()


def test_without_the_script_a_folder_is_relative_to_the_current_one(
    installation: Installation,
) -> None:
    """`python -m backups restore --to out` has no other folder than the current one."""
    done = installation.cli("restore", "--to", "out")

    assert done.returncode == 0, done.stderr
    assert count_rows(installation.folder / "out" / "tokens.db", "tokens") > 0
