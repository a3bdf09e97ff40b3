"""Inspecting a live database: every state in which one can be found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backups.model import Source
from backups.sources.live import inspect_live
from backups.sources.quarantine import moves
from tests.support.generations import LIVE_STATES, bring_into, checkpoint


def make(path: Path, *, rows: int) -> Path:
    """A database in WAL mode with a table called `t`."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, padding TEXT)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, "x" * 400) for n in range(rows)))
        connection.execute("COMMIT")
    return path


def test_inspection_knows_every_state(tmp_path: Path) -> None:
    """Each way in which a live database can be found has its name, and healthy ones are counted."""
    found = {}
    for state in LIVE_STATES:
        path = make(tmp_path / state / "t.db", rows=500)
        bring_into(state, path)
        inspected = inspect_live(Source("t", path), 1.0)
        found[state] = (inspected.state, inspected.rows)
    assert found == {
        "healthy": ("healthy", {"t": 500}),
        "corrupt body": ("corrupt", None),
        "corrupt header": ("corrupt", None),
        "missing": ("missing", None),
        "leftover": ("leftover", None),
        "zero bytes": ("empty", None),
    }


@pytest.mark.parametrize("size", [2, 15, 16, 99, 100, 511, 512, 4096, 5000, 12288, 40960])
def test_a_file_cut_anywhere_is_corrupt_and_is_never_healthy(tmp_path: Path, size: int) -> None:
    """Wherever a live file was cut, it is known as corrupt, never as healthy or as an accident."""
    path = make(tmp_path / "live" / "t.db", rows=300)
    checkpoint(path)
    with path.open("r+b") as file:
        file.truncate(size)
    assert inspect_live(Source("t", path), 1.0).state == "corrupt"


@pytest.mark.parametrize("side", ["-wal", "-shm", "-journal"])
def test_a_leftover_side_file_is_seen(tmp_path: Path, side: str) -> None:
    """A file that SQLite would apply to a new database is noticed where the database is gone."""
    path = tmp_path / "t.db"
    path.with_name(f"t.db{side}").write_bytes(b"left")
    assert inspect_live(Source("t", path), 1.0).state == "leftover"
    moves.quarantine(path, tmp_path / "aside")
    assert [file.name for file in (tmp_path / "aside").iterdir()] == [f"t.db{side}"]
    assert inspect_live(Source("t", path), 1.0).state == "missing"
