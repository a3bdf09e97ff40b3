"""A live database as it is found: its state, its side files, and a connection to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from backups.errors import LinkDangling
from backups.model import Finding, LiveState, Source
from backups.sources.inspection import fault_of, read_facts
from backups.sources.links import refuse_dangling_link
from backups.sources.pins import what
from shared.databases.translation import translated
from shared.errors import DatabaseCorrupt, DatabaseNotSqlite, DatabaseUnreadable

_SIDE_FILES = ("-wal", "-shm", "-journal")


def inspect_live(source: Source, busy_timeout: float) -> LiveState:
    """How a source is now; raises `DatabaseLocked` or `DatabaseUnreadable`."""
    path = source.path
    try:
        refuse_dangling_link(source)
    except LinkDangling as error:
        obstacle = Finding(error.code, error.message, error.hint)
        return LiveState(source.name, path, "missing", obstacle=obstacle)
    try:
        there = path.exists()
    except OSError as error:
        raise DatabaseUnreadable(
            f"{what(source)} cannot be reached: {error.strerror}",
            "Check the owner and mode of its directories.",
        ) from error
    if not there:
        leftover = any(side.exists() for side in side_files(path))
        return LiveState(source.name, path, "leftover" if leftover else "missing")
    if path.stat().st_size == 0:
        return LiveState(source.name, path, "corrupt")
    try:
        with translated(what(source)), closing(connect(path, busy_timeout)) as connection:
            connection.execute("BEGIN")
            if fault_of(connection, "quick_check") is not None:
                return LiveState(source.name, path, "corrupt")
            return LiveState(source.name, path, "healthy", read_facts(connection).rows)
    except (DatabaseCorrupt, DatabaseNotSqlite):
        return LiveState(source.name, path, "corrupt")


def is_taken(path: Path) -> bool:
    """Whether a database, or what SQLite would apply to one, is at the path."""
    return any(file.exists() for file in (*side_files(path), path))


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection in autocommit mode to a live file, which must be there already."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None
    )


def side_files(path: Path) -> tuple[Path, ...]:
    """What SQLite would apply to a main file at this path."""
    return tuple(path.with_name(f"{path.name}{suffix}") for suffix in _SIDE_FILES)
