"""Making a database anew that may be lost: what is damaged is moved aside, and nothing deleted."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from shared.errors import DatabaseCorrupt, DatabaseEmpty, DatabaseMissing, DatabaseNotSqlite

# After these, nothing in the file can be used any more.
LOST = (DatabaseMissing, DatabaseEmpty, DatabaseNotSqlite, DatabaseCorrupt)

_SIDE_FILES = ("-wal", "-shm", "-journal")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says by this that the file is no database, or a damaged one."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this block for the same folder. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def has_side_files(path: Path) -> bool:
    """Whether a side file lies beside the place of a database. Raises `OSError`."""
    return any(os.path.lexists(side) for side in _side_files(path))


def move_aside(path: Path) -> Path | None:
    """Move a database, with its side files, to `<name>.damaged-<time>` beside it.

    Returns the new path, or None when nothing was there. The side files go first: SQLite would
    apply a `-wal` that is left to the next database of that name. Raises `OSError`.
    """
    aside = _free_name(path)
    moved = [
        _moved(path.with_name(path.name + suffix), aside.with_name(aside.name + suffix))
        for suffix in (*_SIDE_FILES, "")
    ]
    return aside if any(moved) else None


def moved_aside(path: Path) -> list[Path]:
    """The damaged files that `move_aside` left beside the database at `path`, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _SIDE_FILES]


def _free_name(path: Path) -> Path:
    stem = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    aside = path.with_name(stem)
    while any(os.path.lexists(taken) for taken in (aside, *_side_files(aside))):
        number += 1
        aside = path.with_name(f"{stem}-{number}")
    return aside


def _moved(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True
