"""The errors of sqlite3 as errors of our tree, by the primary result code."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from shared.databases.renewal import LOST
from shared.errors import (
    DatabaseCorrupt,
    DatabaseDiskFault,
    DatabaseError,
    DatabaseLocked,
    DatabaseNotSqlite,
    DatabaseUnreadable,
    DiskFull,
)

# Primary result codes, https://www.sqlite.org/rescode.html: class, what happened, what to do.
_TRANSLATION: dict[int, tuple[type[DatabaseError], str, str]] = {
    sqlite3.SQLITE_BUSY: (
        DatabaseLocked,
        "is locked by another connection for longer than the busy timeout",
        "Find the process that holds a transaction open on it, and end it.",
    ),
    sqlite3.SQLITE_LOCKED: (
        DatabaseLocked,
        "is locked by another statement of this process",
        "Run the operation again.",
    ),
    sqlite3.SQLITE_NOTADB: (
        DatabaseNotSqlite,
        "is not a SQLite database",
        "Check that the path names the right file; if the file was damaged, restore it.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        DatabaseCorrupt,
        "is damaged",
        "Stop writing to it and restore the newest proven backup.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        DatabaseUnreadable,
        "cannot be opened",
        "Check that this user may read and write the file and its directory.",
    ),
    sqlite3.SQLITE_PERM: (
        DatabaseUnreadable,
        "may not be opened by this user",
        "Check the owner and mode of the file and its directory.",
    ),
    sqlite3.SQLITE_READONLY: (
        DatabaseUnreadable,
        "cannot be written by this user",
        "Check the owner and mode of the file and its directory.",
    ),
    sqlite3.SQLITE_FULL: (
        DiskFull,
        "cannot grow: the disk is full",
        "Make room on that disk, then try again.",
    ),
    sqlite3.SQLITE_IOERR: (
        DatabaseError,
        "could not be read or written (input/output error)",
        "Check the disk and its free space (dmesg, df).",
    ),
}

# Extended result codes of reads. Linux answers EIO for a page, and SQLite calls that CORRUPTFS.
_READ_FAULTS = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA,
}
# What SQLite answers when it cannot make a `-shm` as large as it has to be, which takes room only
# (`unixShmMap`, https://www.sqlite.org/src/file/src/os_unix.c).
_NO_ROOM = {sqlite3.SQLITE_IOERR_SHMSIZE}
# Of a write that failed SQLite says no more: only ENOSPC is SQLITE_FULL, and a quota is not.
_WRITE_FAULTS = {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC}
# Texts of SQLite that name a part of the schema. Any other text may quote a value of a row, such
# as "Could not decode to UTF-8 column 'value' with text '…'".
_NAMES_ONLY = re.compile(
    r"(?:no such (?:table|column|module|collation sequence|function)|unknown function)"
    r": [\w.]{1,100}(?:\(\))?"
)


@contextmanager
def translated(what: str, remedy: str | None = None) -> Iterator[None]:
    """Raise `DatabaseError` or a subclass in place of any `sqlite3.Error`.

    `what` names the file for a person, such as ``source tokens (./data/tokens.db)``; `remedy` is
    the hint for a damaged one. An error whose text may quote a value is not its cause, so that no
    traceback in a log shows it.
    """
    try:
        yield
    except sqlite3.Error as error:
        cause = error if _is_named(error) or harmless_text(error) else None
        raise translate(error, what, remedy) from cause


def translate(error: sqlite3.Error, what: str, remedy: str | None = None) -> DatabaseError:
    """The error of our tree for one of sqlite3's, by its primary result code."""
    if getattr(error, "sqlite_errorcode", None) in _READ_FAULTS:
        return DatabaseDiskFault(
            f"{what} cannot be read: the disk returns an input/output error",
            "Check the disk (dmesg, smartctl). If it fails, restore onto another one.",
        )
    if getattr(error, "sqlite_errorcode", None) in _WRITE_FAULTS:
        return DatabaseError(
            f"{what} cannot be written: the disk has a fault, or its quota is used up",
            "Check the quota and the free space of that disk (quota, df), then the disk (dmesg).",
        )
    primary = primary_code(error)
    if getattr(error, "sqlite_errorcode", None) in _NO_ROOM:
        primary = sqlite3.SQLITE_FULL
    if primary in _TRANSLATION:
        kind, happened, hint = _TRANSLATION[primary]
        return kind(f"{what} {happened}", remedy if remedy and kind in LOST else hint)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    text = harmless_text(error)
    return DatabaseError(
        f"{what}: SQLite answered {name}" + (f" ({text})" if text else ""),
        "See sqlite.org/rescode.html.",
    )


def primary_code(error: sqlite3.Error) -> int | None:
    """The primary result code of SQLite; None for an error of the Python module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def harmless_text(error: sqlite3.Error) -> str:
    """What SQLite said, where that can only name a part of the schema; else empty."""
    text = str(error)
    return text if _NAMES_ONLY.fullmatch(text) else ""


def _is_named(error: sqlite3.Error) -> bool:
    return primary_code(error) in _TRANSLATION
