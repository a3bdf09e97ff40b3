"""A process that opens a damaged database in the moment in which its files are moved aside.

What it writes there belongs to what is moved. The restored database has the rows of the set and no
others, for every process that opens it.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backups.sources import install
from backups.sources.quarantine import exchange, moves
from shared.files import sync_directory
from tests.support.bench import open_bench
from tests.support.generations import (
    BESIDE_TOKENS,
    SOURCES,
    bring_into,
    leave_wal_behind,
    side_files,
)
from tests.support.moving_process import put, write_in_a_process
from tests.support.warm_python import run_warm

pytestmark = pytest.mark.slow


def tables(path: Path) -> set[str]:
    """The tables of a sound database, as somebody who opens it sees them."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {str(row[0]) for row in found}


def make(path: Path, table: str) -> Path:
    """A database with one table."""
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}(x)")
    return path


def test_a_restore_that_succeeded_shows_only_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `-wal` that a process makes while the damaged files are moved goes with them."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bring_into("zero bytes", bench.tokens)

        def open_the_window(folder: Path) -> None:
            monkeypatch.setattr(exchange, "sync_directory", sync_directory)
            sync_directory(folder)
            write_in_a_process(bench.tokens)

        monkeypatch.setattr(exchange, "sync_directory", open_the_window)
        bench.restored()
        assert tables(bench.tokens) == {"tokens", *BESIDE_TOKENS}
        assert bench.generations() == dict.fromkeys(SOURCES, "genset")
        (aside,) = bench.quarantined("tokens")
        assert tables(aside / "tokens.db") == {"foreign_rows"}


@pytest.mark.parametrize("wal", [True, False])
@pytest.mark.parametrize("act", ["restore", "undo"])
def test_a_kill_at_every_step_of_the_moving(tmp_path: Path, act: str, wal: bool) -> None:
    """Wherever the moving dies, the same again leaves nothing foreign beside the new database."""
    killed, last = True, 0
    while killed:
        folder = tmp_path / f"at-{last}"
        path = make(folder / "t.db", "old")
        make(folder / "staged.db", "new")
        if act == "undo":
            moves.quarantine(make(folder / "before.db", "new"), folder / "earlier")
            leave_wal_behind(folder / "earlier" / "before.db")
            for file in (folder / "earlier").iterdir():
                file.rename(file.with_name(file.name.replace("before", "t")))
        if wal:
            leave_wal_behind(path)
        before = tables_of_a_copy(folder)
        mover = run_warm(
            [sys.executable, "-m", "tests.support.moving_process", act, str(path), str(last)]
        )
        killed = mover.returncode == -signal.SIGKILL
        assert killed or mover.returncode == 0, mover.stderr
        aside = folder / "aside" / "t.db"
        assert path.exists(), last
        moved = aside.exists() and not aside.samefile(path)
        if killed:
            put(act, path)
        assert tables(path) == ({"new", "stale"} if act == "undo" else {"new"}), last
        written = {"foreign_rows"} if moved and act == "restore" else set()
        assert tables(aside) >= before | written
        last += 1
    assert last >= 4


def tables_of_a_copy(folder: Path) -> set[str]:
    """The tables of `t.db` with its side files, which stay as they are."""
    (folder / "copy").mkdir()
    path = folder / "t.db"
    for file in (path, *side_files(path)):
        if file.exists():
            (folder / "copy" / file.name).write_bytes(file.read_bytes())
    return tables(folder / "copy" / "t.db")


def test_a_new_file_never_comes_beside_a_foreign_wal(tmp_path: Path) -> None:
    """Whatever SQLite would apply to a new database is in its way, until it is moved."""
    path, staged = make(tmp_path / "t.db", "old"), make(tmp_path / "staged.db", "new")
    leave_wal_behind(path)
    path.rename(tmp_path / "moved")
    with pytest.raises(FileExistsError, match="-wal is in the way"):
        install.install_new(staged, path)
    assert not path.exists()
    moves.quarantine(path, tmp_path / "aside")
    install.install_new(staged, path)
    assert tables(path) == {"new"}
