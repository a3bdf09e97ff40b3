"""What is open of a followed database: three connections, the -wal, SQLite's index of it."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from backups.increments.wal.file import ContinuityLost, LogEnd
from backups.increments.wal.index import WalIndex
from backups.model import Source
from backups.sources.links import real_path
from backups.sources.pins import open_pin, what

# For so long somebody has the write lock, and commits nothing, before a checkpoint is assumed.
_STAYS_SECONDS = 0.05

# Device and inode of the main file, and of the -wal.
Files = tuple[int, int, int, int]


@dataclass
class OpenDatabase:
    """Two connections that read in turn, one that checkpoints, a descriptor of the -wal."""

    stack: ExitStack
    files: Files | None
    reader: sqlite3.Connection
    next_reader: sqlite3.Connection
    checkpointer: sqlite3.Connection
    index: WalIndex | None
    wal: int


def open_database(source: Source, busy_timeout: float) -> OpenDatabase:
    """Open a source in WAL mode; `stack` of the answer closes it.

    Raises `ContinuityLost` where it has no -wal that can be read, and `DatabaseError` and its
    subclasses where it cannot be opened.
    """
    path = real_path(source.path)
    with ExitStack() as opening:
        pins = [open_pin(opening, source, busy_timeout) for _ in range(3)]
        if not all(pin.gated for pin in pins):
            raise ContinuityLost(
                f"{what(source)} is not in WAL mode, or this user may not write to it"
            )
        files = files_of(path)
        wal = _open_wal(_beside(path, "-wal"))
        opening.callback(os.close, wal)
        index = WalIndex.find(_beside(path, "-shm"))
        reader, next_reader, checkpointer = (pin.connection for pin in pins)
        return OpenDatabase(opening.pop_all(), files, reader, next_reader, checkpointer, index, wal)


def files_of(path: Path) -> Files | None:
    """Which files a database and its -wal are; None where one of them is not there."""
    try:
        database, wal = path.stat(), _beside(path, "-wal").stat()
    except OSError:
        return None
    return database.st_dev, database.st_ino, wal.st_dev, wal.st_ino


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring the log into the database as far as no read is in the way; waits for nobody."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def end_read(connection: sqlite3.Connection) -> None:
    """End the transaction of a connection, if it has one."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def end_of_log(index: WalIndex | None) -> LogEnd | None:
    """Where SQLite says that the log ends; None where that cannot be read."""
    return index.end() if index is not None else None


def stays_locked(connection: sqlite3.Connection, index: WalIndex | None) -> bool:
    """Whether somebody keeps the write lock, and commits nothing: a checkpoint that waits does.

    `connection` waits for no lock. The answer comes within a tenth of a second.
    """
    now = time.monotonic()
    give_up, since, end = now + 2 * _STAYS_SECONDS, now, end_of_log(index)
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            now, newer = time.monotonic(), end_of_log(index)
            if newer != end:
                since, end = now, newer
            if now - since >= _STAYS_SECONDS:
                return True
            if now >= give_up:
                return False
            time.sleep(_STAYS_SECONDS / 50)
        else:
            connection.execute("ROLLBACK")
            return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


def _open_wal(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise ContinuityLost(f"the -wal cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ContinuityLost("the -wal is not a file")
    return descriptor
