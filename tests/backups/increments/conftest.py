"""A database that is written, and one that follows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.wal_capture import FollowedDatabase, connect


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database in WAL mode with 300 rows."""
    with closing(connect(tmp_path / "live.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        insert(connection, 300)
        yield connection


@pytest.fixture
def followed(writer: sqlite3.Connection, tmp_path: Path) -> Iterator[FollowedDatabase]:
    """The same database, followed; its first capture is done."""
    with FollowedDatabase(tmp_path / "live.db") as followed:
        yield followed


def insert(connection: sqlite3.Connection, rows: int = 1) -> None:
    """Commit rows, each in a transaction of its own where there are few."""
    if rows > 10:
        connection.execute("BEGIN")
    for _ in range(rows):
        connection.execute("INSERT INTO t (b) VALUES (randomblob(300))")
    if rows > 10:
        connection.execute("COMMIT")
