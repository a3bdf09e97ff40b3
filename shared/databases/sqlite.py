"""SQLite files of our own: private creation, numbered migrations, transactions that notice
when the file under the path was replaced, and the translation of sqlite3's errors.

One file, because `Database` alone is most of it, and the rest is what each of its steps calls.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from shared.errors import (
    DatabaseCorrupt,
    DatabaseEmpty,
    DatabaseError,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseNotSqlite,
    DatabaseSchemaMismatch,
    DatabaseUnreadable,
    DiskFull,
)
from shared.files import create_private_file, sync_directory, sync_file

BUSY_TIMEOUT_SECONDS = 30.0
_SECONDS_BETWEEN_TRIES = 0.005

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


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `DatabaseError` or a subclass in place of any `sqlite3.Error`.

    `what` names the file for a person, such as ``source tokens (./data/tokens.db)``.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, what) from error


def translate(error: sqlite3.Error, what: str) -> DatabaseError:
    """The error of our tree for one of sqlite3's, by its primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _TRANSLATION:
        kind, happened, hint = _TRANSLATION[primary]
        return kind(f"{what} {happened}", hint)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return DatabaseError(
        f"{what}: SQLite answered {name} ({error})", "See sqlite.org/rescode.html."
    )


@contextmanager
def _reachable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseUnreadable(
            f"{path} cannot be created: {error.strerror}",
            "Check the owner and mode of its directory, and the free space.",
        ) from error


class Database:
    """One connection to one WAL database, shared by all threads of a process.

    The file is created 0600 when it is missing at opening, and brought to the newest of
    `migrations` (SQL scripts; script number n leaves `user_version` at n). `additions` is a
    script of `CREATE … IF NOT EXISTS` for what older versions of the program may ignore. Once
    open, a file that has disappeared is an error, never a reason to start empty.
    """

    def __init__(
        self,
        path: Path,
        migrations: tuple[str, ...],
        *,
        additions: str = "",
        busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._additions = additions
        self._busy_timeout = busy_timeout
        self._lock = threading.RLock()
        self._identity: tuple[int, int] | None = None
        with _reachable(path):
            self._create_if_missing()
        with self._lock:
            self._connection = self._connect()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction on the file that is at the path now.

        Commits when the block ends, rolls back when it raises. Raises `DatabaseError` or a
        subclass; a file replaced since the last transaction is reopened first.
        """
        with self._lock, translated(str(self.path)):
            connection = self._begin("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction on the file that is at the path now; nothing is written."""
        with self._lock, translated(str(self.path)):
            connection = self._begin("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; closing twice is allowed."""
        with self._lock:
            self._connection.close()

    def _begin(self, statement: str) -> sqlite3.Connection:
        # The check comes after BEGIN: a replacement by rename in between would otherwise
        # leave this transaction on a file that has no name any more.
        while True:
            failure: sqlite3.Error | None = None
            try:
                self._connection.execute(statement)
            except sqlite3.Error as error:
                failure = error
            current = self._is_current()
            if current and failure is None:
                return self._connection
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if current and failure is not None:
                raise failure
            self._connection.close()
            self._identity = None  # should the next line fail, the next transaction tries again
            self._connection = self._connect()

    def _create_if_missing(self) -> None:
        """Build a new database beside its place, and give it its name when it is whole.

        So nobody ever meets an empty file here, and one with zero bytes is damaged.
        """
        if self.path.exists():
            return
        beside = self.path.with_name(f".{self.path.name}.{uuid4().hex}")
        create_private_file(beside)
        try:
            self._open(beside).close()
            sync_file(beside)
            with suppress(FileExistsError):  # another process was quicker
                os.link(beside, self.path)
            sync_directory(self.path.parent)
        finally:
            for suffix in ("", "-wal", "-shm"):
                beside.with_name(beside.name + suffix).unlink(missing_ok=True)

    def _is_current(self) -> bool:
        try:
            return self._identity == _identity(self.path)
        except DatabaseError:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _connect(self) -> sqlite3.Connection:
        # Stat on both sides of the opening, so that the identity kept is the opened file's.
        while True:
            before = _identity(self.path)
            _refuse_zero_bytes(self.path)
            connection = self._open(self.path)
            if before == _identity(self.path):
                self._identity = before
                return connection
            connection.close()

    def _open(self, path: Path) -> sqlite3.Connection:
        with translated(str(path)):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                if path.stat().st_mode & 0o077:
                    with suppress(PermissionError):  # not the owner; the doctor tells
                        path.chmod(0o600)
                self._use_wal(connection)
                connection.execute("PRAGMA synchronous=FULL")
                self._migrate(connection)
                for statement in self._additions.split(";"):
                    connection.execute(statement)  # writes nothing where it is there
            except BaseException:
                connection.close()
                raise
            return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # Of several processes that open a new database at once, SQLite tells all but one
        # that it is busy, without waiting.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        newest = len(self._migrations)
        if _user_version(connection) == newest:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _user_version(connection)
            if version > newest:
                raise DatabaseSchemaMismatch(
                    f"{self.path} has schema version {version}, this program supports {newest}",
                    "Start the newer version of this program that wrote it.",
                )
            for number in range(version, newest):
                for statement in self._migrations[number].split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={newest}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def _user_version(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        return int(cursor.fetchone()[0])


def _refuse_zero_bytes(path: Path) -> None:
    """SQLite unlinks the `-wal` beside an empty main file as it opens it, with what is in it."""
    if path.stat().st_size == 0:
        raise DatabaseEmpty(
            f"{path} has zero bytes",
            "Something truncated it. Keep the -wal beside it, if there is one. If it is backed up: "
            "python -m backups restore --in-place --yes. If not, move it aside, and start again.",
        )


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DatabaseMissing(
            f"{path} no longer exists",
            "Restore it: python -m backups restore --in-place --yes",
        ) from None
    except OSError as error:
        raise DatabaseUnreadable(
            f"{path} cannot be reached: {error.strerror}",
            "Check the owner and mode of its directories.",
        ) from error
    return found.st_dev, found.st_ino
