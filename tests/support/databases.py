"""Databases of plain rows: in the tables of the bot, but not written by its code."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from backups.model import Source

_TABLES = {
    "tokens": "tokens(key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)",
    "sessions": "sessions(session_id TEXT PRIMARY KEY, uuid TEXT NOT NULL, created_at INTEGER)",
}


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for `closing`."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def make_database(
    path: Path, rows: int = 3, *, journal_mode: str = "wal", padding: int = 0
) -> Path:
    """Write a database with one table, called as the file is, in which every row is numbered."""
    table = path.stem
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute(
            f"CREATE TABLE {_TABLES.get(table, _TABLES['tokens'].replace('tokens', table))}"
        )
        connection.execute("PRAGMA user_version=1")
        connection.execute("BEGIN")
        connection.executemany(
            f"INSERT INTO {table} VALUES (printf('%09d', ?), ?, 0)",
            ((number, f"{table}-{number}-{'x' * padding}") for number in range(1, rows + 1)),
        )
        connection.execute("COMMIT")
    return path


def make_sources(folder: Path, rows: int = 60, *, padding: int = 0) -> tuple[Source, ...]:
    """The two databases of the bot, below `folder`, as sources."""
    tokens, sessions = (
        make_database(folder / f"{name}.db", rows, padding=padding)
        for name in ("tokens", "sessions")
    )
    return Source("tokens", tokens), Source("sessions", sessions, volatile=True)


def count_rows(path: Path, table: str | None = None) -> int:
    """How many rows a database has in the table that is called as the file is, or in `table`."""
    with closing(connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table or path.stem}").fetchone()[0])


def write(path: Path, statement: str, *values: object) -> None:
    """Commit one statement, on a connection of its own."""
    with closing(connect(path)) as connection:
        connection.execute(statement, values)


def add_rows(path: Path, number: int, *, padding: int = 0) -> None:
    """Commit that many rows, whose keys are new and random."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"INSERT INTO {path.stem} VALUES (hex(randomblob(16)), ?, 0)",
            (("x" * padding,) for _ in range(number)),
        )
        connection.execute("COMMIT")


def overwrite_leaf(path: Path) -> Callable[[], object]:
    """Fill a page of `tokens` with bytes that are no page; what puts its content back."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        offset, size = connection.execute(
            "SELECT pgoffset, pgsize FROM dbstat WHERE name = 'tokens' AND pagetype = 'leaf'"
            " ORDER BY pageno DESC LIMIT 1"
        ).fetchone()
    sound = path.read_bytes()

    def fill(page: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(page)

    fill(b"\xff" * size)
    return lambda: fill(sound[offset : offset + size])
