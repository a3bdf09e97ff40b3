"""A live database as it is found: its state, its side files, and a connection to it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from backups.decisions.restore_plan import LiveState, SourceState
from backups.errors import LinkDangling
from backups.model import Finding, Source
from backups.sources.checking.inspection import read_facts
from backups.sources.checking.soundness import soundness_of
from backups.sources.links import refuse_dangling_link
from backups.sources.pins import what
from shared.databases.translation import translated
from shared.errors import (
    AppError,
    DatabaseCorrupt,
    DatabaseDiskFault,
    DatabaseEmpty,
    DatabaseError,
    DatabaseLocked,
    DatabaseNotSqlite,
    DatabaseUnreadable,
)

_SIDE_FILES = ("-wal", "-shm", "-journal")
# What SQLite's check says of a page that it could not read: https://www.sqlite.org/rescode.html
_UNREAD_PAGE = re.compile(r"unable to get the page\. error code=(\d+)")


def look_at(source: Source, busy_timeout: float) -> LiveState:
    """How a source is now; what keeps it from being opened is its `fault`. Raises nothing."""
    try:
        refuse_dangling_link(source)
        live = inspect_live(source, busy_timeout)
    except (DatabaseError, LinkDangling) as error:
        state: SourceState = "locked" if isinstance(error, DatabaseLocked) else "unreadable"
        return LiveState(source.name, source.path, state, fault=_finding(error))
    if live.state in ("corrupt", "empty") and _is_mounted_alone(source.path):
        mounted = Finding(
            "mounted_alone",
            f"{what(source)} is damaged, and mounted as a single file, which nobody can move aside",
            "Mount its folder in place of the file, and start again.",
        )
        return LiveState(source.name, source.path, "unreadable", fault=mounted)
    return live


def _is_mounted_alone(path: Path) -> bool:
    """Whether the file itself is a mount point (proc_pid_mountinfo(5), the fifth field)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return False
    mounted = {line.split(" ")[4] for line in lines}
    named = str(path.absolute())
    for character in "\\ \t\n":
        named = named.replace(character, f"\\{ord(character):03o}")
    return named in mounted


def inspect_live(source: Source, busy_timeout: float) -> LiveState:
    """How a source is now; raises `DatabaseError` for one that cannot be opened, as a locked one.

    Damage raises nothing, nor does a disk that does not return what is in the file.
    """
    path = source.path
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
        empty = DatabaseEmpty(f"{what(source)} has 0 bytes: something truncated it")
        return LiveState(source.name, path, "empty", fault=_finding(empty))
    try:
        with translated(what(source)), closing(connect(path, busy_timeout)) as connection:
            connection.execute("BEGIN")
            soundness = soundness_of(connection, "quick_check")
            fault = soundness.fault or soundness.wrong_index or None  # whoever uses it needs both
            if fault is None:
                return LiveState(source.name, path, "healthy", read_facts(connection).rows)
    except (DatabaseCorrupt, DatabaseNotSqlite, DatabaseDiskFault) as error:
        return _damaged(source, error)
    return _damaged(source, _damage(source, fault))


def still_sound(seen: LiveState | None) -> LiveState | None:
    """What was seen sound a while ago, if a file is still there, which SQLite may open then."""
    if seen is None or seen.state != "healthy":
        return None
    try:
        return seen if seen.path.stat().st_size else None
    except OSError:
        return None


def rows_of(source: Source, busy_timeout: float) -> Mapping[str, int] | None:
    """The rows of each table of a live database, as they are now; None where nobody can say."""
    try:
        if not source.path.stat().st_size:  # SQLite would unlink the `-wal` as it opens it
            return None
        with translated(what(source)), closing(connect(source.path, busy_timeout)) as connection:
            connection.execute("BEGIN")
            return read_facts(connection).rows
    except (OSError, DatabaseError):
        return None


def _damaged(source: Source, error: DatabaseError) -> LiveState:
    on_disk = isinstance(error, DatabaseDiskFault)
    return LiveState(source.name, source.path, "corrupt", fault=_finding(error), on_disk=on_disk)


def _damage(source: Source, fault: str) -> DatabaseError:
    """The error for what SQLite's check has found: a page that the disk does not return, or one
    whose content is wrong."""
    unread = _UNREAD_PAGE.search(fault)
    if unread and int(unread[1]) & 0xFF == sqlite3.SQLITE_IOERR:
        return DatabaseDiskFault(
            f"{what(source)} cannot be read: the disk returns an input/output error",
            "Check the disk (dmesg, smartctl). If it fails, restore onto another one.",
        )
    return DatabaseCorrupt(f"{what(source)} is damaged")


def _finding(error: AppError) -> Finding:
    return Finding(error.code, error.message, error.hint)


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
