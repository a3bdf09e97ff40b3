"""Opening files that anybody may have made: what SQLite may do for them, and how it is stopped."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from shared.databases.untrusted import open_untrusted, with_untrusted
from shared.errors import DatabaseError, DatabaseNotSqlite

# A statement that never ends.
ENDLESS = "WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small database, in WAL mode, whose last connection was closed."""
    path = tmp_path / "file.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(name)")
        connection.execute("INSERT INTO t VALUES ('one')")
    return path


def nobody() -> None:
    """Ask for nothing."""


class Stopped(Exception):
    """What the caller raises to stop."""


def test_a_reader_leaves_nothing_beside_the_file(path: Path) -> None:
    """A file that is flagged for WAL is read as it is, and cannot be written."""
    with open_untrusted(path, "a file") as connection:
        assert connection.execute("SELECT name FROM t").fetchall() == [("one",)]
    with (
        pytest.raises(DatabaseError, match="a file"),
        open_untrusted(path, "a file") as connection,
    ):
        connection.execute("INSERT INTO t VALUES ('two')")
    assert list(path.parent.iterdir()) == [path]


def test_what_a_file_may_make_sqlite_do_is_bounded(path: Path) -> None:
    """Its schema is not trusted, its cells are checked, its expressions make no large values."""
    with open_untrusted(path, "a file") as connection:
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert connection.execute("PRAGMA cell_size_check").fetchone() == (1,)
        connection.execute("SELECT zeroblob(1000000)").fetchone()
        with pytest.raises(sqlite3.DataError, match="too big"):
            connection.execute("SELECT zeroblob(1000001)").fetchone()
        with pytest.raises(sqlite3.OperationalError, match="pattern too complex"):
            connection.execute("SELECT 'a' LIKE printf('%.*c', 1001, '_')").fetchone()
        with pytest.raises(sqlite3.DataError, match="query string is too large"):
            connection.execute(f"SELECT 1 /*{'x' * 1_000_000}*/")


def test_the_values_of_a_large_file_can_be_read(path: Path) -> None:
    """No value is longer than its file, so what is larger than the least limit can be read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(3000000))")
    with open_untrusted(path, "a file") as connection:
        assert connection.execute("SELECT max(length(name)) FROM t").fetchone() == (3000000,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_the_caller_raises_ends_a_statement(path: Path) -> None:
    """It is raised to the caller as it is, and the thread of the statement ends."""
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Stopped

    before = set(threading.enumerate())
    with pytest.raises(Stopped):
        with_untrusted(path, "a file", lambda c: c.execute(ENDLESS).fetchone(), ask)
    assert asked == 3
    assert not [one for one in set(threading.enumerate()) - before if one.is_alive()]


def test_no_statement_after_the_one_that_was_ended_goes_on(path: Path) -> None:
    """Work that passes over the error of the statement is ended at the next one."""
    begun = 0

    def work(connection: sqlite3.Connection) -> None:
        nonlocal begun
        for _ in range(3):
            begun += 1
            try:
                connection.execute(ENDLESS)
            except sqlite3.OperationalError:
                continue

    def ask() -> None:
        raise Stopped

    before = set(threading.enumerate())
    with pytest.raises(Stopped):
        with_untrusted(path, "a file", work, ask)
    assert begun == 3
    assert not [one for one in set(threading.enumerate()) - before if one.is_alive()]


def test_the_answer_and_the_error_of_the_work_come_back(path: Path) -> None:
    """Errors of SQLite are those of our tree, with the name of the file."""
    assert with_untrusted(path, "a file", lambda c: c.execute("SELECT 7").fetchone(), nobody) == (
        7,
    )
    path.write_bytes(b"no database at all, but long enough for one" * 100)
    with pytest.raises(DatabaseNotSqlite, match="a file"):
        with_untrusted(path, "a file", lambda c: c.execute("SELECT * FROM t").fetchone(), nobody)
