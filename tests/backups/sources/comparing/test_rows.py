"""Rows of a live database beside those of a copy: what is lost, comes back, or is set back."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet

from backups.errors import BackupError
from backups.model import Source
from backups.sources.comparing.rows import compare_rows
from backups.vocabulary.comparison import TableDifference
from shared.errors import DatabaseError, DatabaseLocked


def database(path: Path, *statements: str) -> Path:
    """A database in WAL mode."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for statement in statements:
            connection.execute(statement)
    return path


def copy_of(path: Path) -> Path:
    """A self-contained copy of it."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as file:
        live.backup(file)
        file.execute("PRAGMA journal_mode=DELETE")
    return copy


def compared(
    tmp_path: Path, before: list[str], since: list[str], most: int = 1000
) -> list[TableDifference]:
    """The differences after `since` was done to a database that was copied after `before`."""
    live = database(tmp_path / "live.db", *before)
    copy = copy_of(live)
    database(live, *since)
    return list(compare_rows(copy, Source("live", live), 0.2, most))


KEYED = "CREATE TABLE t (key TEXT PRIMARY KEY, value)"
PLAIN = "CREATE TABLE t (value)"
WITHOUT_ROWID = "CREATE TABLE t (a, b, value, PRIMARY KEY (b, a)) WITHOUT ROWID"


@pytest.mark.parametrize(
    ("before", "since", "expected"),
    [
        ([KEYED, "INSERT INTO t VALUES ('a', 1)"], [], (0, 0, 0)),
        ([KEYED], ["INSERT INTO t VALUES ('a', 1)"], (1, 0, 0)),
        ([KEYED, "INSERT INTO t VALUES ('a', 1), ('b', 2)"], ["DELETE FROM t"], (0, 2, 0)),
        ([KEYED, "INSERT INTO t VALUES ('a', 1)"], ["UPDATE t SET value = 2"], (0, 0, 1)),
        # The same bytes of another type are another value.
        ([KEYED, "INSERT INTO t VALUES ('a', '1')"], ["UPDATE t SET value = x'31'"], (0, 0, 1)),
        ([KEYED, "INSERT INTO t VALUES ('a', 1)"], ["UPDATE t SET value = '1'"], (0, 0, 1)),
        ([KEYED, "INSERT INTO t VALUES ('a', 1)"], ["UPDATE t SET value = NULL"], (0, 0, 1)),
        (
            [PLAIN, "INSERT INTO t VALUES (1), (3)"],
            ["UPDATE t SET value=3"],
            (0, 0, 1),
        ),
        ([PLAIN, "INSERT INTO t VALUES (1), (1)"], ["DELETE FROM t WHERE rowid = 2"], (0, 1, 0)),
        ([WITHOUT_ROWID, "INSERT INTO t VALUES (1,2,3)"], ["UPDATE t SET value=4"], (0, 0, 1)),
        ([WITHOUT_ROWID, "INSERT INTO t VALUES (1,2,3)"], ["UPDATE t SET a=9"], (1, 1, 0)),
        (["CREATE TABLE u (a)"], ["DROP TABLE u", KEYED, "INSERT INTO t VALUES (1,2)"], (1, 0, 0)),
        # A column of another program's version is left out.
        ([KEYED, "INSERT INTO t VALUES ('a', 1)"], ["ALTER TABLE t ADD COLUMN more"], (0, 0, 0)),
        ([KEYED, "INSERT INTO t VALUES ('a', 1)"], ["DROP TABLE t", PLAIN], (0, 1, 0)),
    ],
)
def test_rows_are_told_apart_by_their_key_and_compared_by_their_bytes(
    tmp_path: Path, before: list[str], since: list[str], expected: tuple[int, int, int]
) -> None:
    """Each row is lost, comes back, is set back, or is the same."""
    found = {one.table: one for one in compared(tmp_path, before, since)}
    table = found["t"]
    assert (table.only_live, table.only_stored, table.changed) == expected


def test_the_newest_time_is_that_of_what_would_be_lost(tmp_path: Path) -> None:
    """Not that of rows that stay: 1,700,000,000 s is 2023-11-14T22:13:20Z."""
    made = "CREATE TABLE t (id TEXT PRIMARY KEY, created_at INTEGER)"
    (table,) = compared(
        tmp_path,
        [made, "INSERT INTO t VALUES ('kept', 1900000000)"],
        ["INSERT INTO t VALUES ('older', 1600000000), ('newest', 1700000000), ('odd', 7)"],
    )
    assert table.newest_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_the_time_of_an_encrypted_value_is_the_one_at_which_it_was_encrypted(
    tmp_path: Path,
) -> None:
    """A token of our own database says when it was stored, in the clear and after a rotation; a
    value that is none, or a number in its place, says nothing."""
    old, new = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
    made = "CREATE TABLE tokens (key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)"
    at = (1_600_000_000, 1_700_000_000, 1_500_000_000)
    values = [old.encrypt_at_time(b"x", one).decode() for one in at]
    values[1] = MultiFernet([new, old]).rotate(values[1]).decode()
    live = database(
        tmp_path / "live.db", made, f"INSERT INTO tokens VALUES ('a', '{values[2]}', 't')"
    )
    copy = copy_of(live)
    rows = [
        (str(place), value, "t") for place, value in enumerate([*values, "gAAAAno", "1900000000"])
    ]
    with closing(sqlite3.connect(live)) as connection, connection:
        connection.executemany("INSERT INTO tokens VALUES (?, ?, ?)", rows)
    (table,) = compare_rows(copy, Source("live", live), 0.2, 1000)
    assert table == TableDifference("tokens", 5, 0, 0, datetime.fromtimestamp(at[1], UTC))


def test_a_table_that_is_only_in_the_live_data_has_its_newest_time(tmp_path: Path) -> None:
    """It would be lost as a whole; a table without a column of times has none."""
    found = compared(
        tmp_path,
        [],
        [
            "CREATE TABLE reconnects (account TEXT PRIMARY KEY, since TEXT)",
            "INSERT INTO reconnects VALUES ('a', '2023-11-14T22:13:20Z'), ('b', '2023-11-01')",
            PLAIN,
            "INSERT INTO t VALUES (1900000000)",
        ],
    )
    newest = {one.table: (one.only_live, one.newest_at) for one in found}
    at = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert newest == {"reconnects": (2, at), "t": (1, None)}


def test_nothing_is_written(tmp_path: Path) -> None:
    """Neither the live database nor the copy has another content afterwards."""
    live = database(tmp_path / "live.db", KEYED, "INSERT INTO t VALUES ('a', 1)")
    copy = copy_of(live)
    before = (copy.read_bytes(), live.read_bytes())
    compare_rows(copy, Source("live", live), 0.2, 10)
    assert (copy.read_bytes(), live.read_bytes()) == before


def test_more_rows_than_may_be_read_are_refused_by_name(tmp_path: Path) -> None:
    """A plan does not read a large table for minutes."""
    with pytest.raises(BackupError, match="table t has more than 2 rows"):
        compared(tmp_path, [PLAIN, "INSERT INTO t VALUES (1), (2), (3)"], [], most=2)


def test_a_locked_and_a_damaged_database_raise_their_error(tmp_path: Path) -> None:
    """The caller says why nothing was compared."""
    live = database(tmp_path / "live.db", KEYED, "INSERT INTO t VALUES ('a', 1)")
    copy = copy_of(live)
    with closing(sqlite3.connect(live, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseLocked):
            compare_rows(copy, Source("live", live), 0.0, 10)
    live.write_bytes(b"SQLite format 3\0" + bytes(4080))
    with pytest.raises(DatabaseError):
        compare_rows(copy, Source("live", live), 0.2, 10)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Sixty thousand rows take no more of Python's memory than a few rows."""
    filled = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) "
        "INSERT INTO t SELECT i, hex(randomblob(100)) FROM n"
    )
    live = database(tmp_path / "live.db", KEYED, filled)
    copy = copy_of(live)
    database(live, "DELETE FROM t")
    tracemalloc.start()
    try:
        (table,) = compare_rows(copy, Source("live", live), 0.2, 100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.only_stored == 60_000
    assert peak < 4_000_000
