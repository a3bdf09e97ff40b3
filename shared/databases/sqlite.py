"""SQLite files of our own: private creation, numbered migrations, and transactions that notice
when the file under the path was replaced, has disappeared or is damaged.

One file, because `Database` alone is most of it, and the rest is what each of its steps calls.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from uuid import uuid4

from shared.databases.engines.database import Connection
from shared.databases.renewal import (
    LOST,
    has_side_files,
    is_damage,
    move_aside,
    one_process_at_a_time,
)
from shared.databases.translation import translated
from shared.errors import (
    DatabaseCorrupt,
    DatabaseEmpty,
    DatabaseError,
    DatabaseMissing,
    DatabaseSchemaMismatch,
    DatabaseUnreadable,
    DiskFull,
)
from shared.files import (
    create_private_file,
    make_private_directory,
    sync_directory,
    sync_file,
)

BUSY_TIMEOUT_SECONDS = 30.0
_SECONDS_BETWEEN_TRIES = 0.005

_log = logging.getLogger(__name__)

# For a damaged or missing file of which its owner has not said more.
_REMEDY = "Restore it from a backup, or move it aside with its -wal and -shm, and start again."

# Called when a database was made anew: what was wrong with the former one, and where it is now.
Renewed = Callable[[DatabaseError, Path | None], None]


def restore_remedy(source: str) -> str:
    """The hint for a missing or damaged database that is backed up under the name `source`."""
    return f"Restore it: ./bot backups restore --only {source} --in-place --yes"


@contextmanager
def _reachable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise DiskFull(
                f"{path} cannot be created: the disk is full",
                "Make room on that disk, then try again.",
            ) from error
        raise DatabaseUnreadable(
            f"{path} cannot be created: {error.strerror}",
            "Check the owner and mode of its directory, and the free space.",
        ) from error


class Database:
    """One connection to one WAL database, shared by all threads of a process.

    The file is created 0600 when it is missing at opening, and brought to the newest of
    `migrations` (SQL scripts; script number n leaves `user_version` at n); so is one of another
    version that is found at its place later, before it is read. `additions` is a
    script of `CREATE … IF NOT EXISTS` for what older versions of the program may ignore. The
    scripts whose numbers are in `held` are run for new files only: others are used as they are,
    until their owner has changed their rows and sets `user_version`; `openings` counts the files.
    Once open, a file that has disappeared is an error, never a reason to start empty; `remedy` is
    the hint of that error, and of a damaged file.

    With `renewed`, the database may be lost: when it has disappeared or is damaged, what is left
    is moved aside (`<name>.damaged-<time>`), an empty one is made, and `renewed` is called. Where
    it cannot be opened for now, the constructor raises nothing, and each transaction tries again.
    """

    def __init__(
        self,
        path: Path,
        migrations: tuple[str, ...],
        *,
        additions: str = "",
        held: Collection[int] = (),
        busy_timeout: float = BUSY_TIMEOUT_SECONDS,
        remedy: str = _REMEDY,
        renewed: Renewed | None = None,
    ) -> None:
        self.path = path
        self._remedy = remedy
        self._renewed = renewed
        self._damaged: tuple[int, int] | None = None  # the identity of a file found damaged
        self._migrations = migrations
        self._additions = additions
        self._held = held
        self.openings = 0
        self._busy_timeout = busy_timeout
        self._lock = threading.RLock()
        self._identity: tuple[int, int] | None = None
        with self._lock:
            try:
                with _reachable(path):
                    if renewed is None:
                        self._create_alone()
                    elif not has_side_files(path):
                        self._create_if_missing()
                self._connection = self._connect()
            except DatabaseSchemaMismatch:
                raise
            except DatabaseError:
                if renewed is None:
                    raise
                self._connection = sqlite3.connect(":memory:")
                self._connection.close()  # as after a reopening that failed

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction on the file that is at the path now.

        Commits when the block ends, rolls back when it raises. Raises `DatabaseError` or a
        subclass; a file replaced since the last transaction is reopened first.
        """
        with self._lock, translated(str(self.path), self._remedy), self._noticing_damage():
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
        with self._lock, translated(str(self.path), self._remedy), self._noticing_damage():
            connection = self._begin("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def version(self, connection: Connection) -> int:
        """The `user_version` of the file that this transaction is on."""
        return user_version(connection)

    def advance(self, connection: Connection, version: int, script: str) -> None:
        """Run the script of a held migration, and note its version."""
        for statement in script.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={version}")

    def content(self, connection: Connection) -> tuple[int, int]:
        """How many files were opened, and SQLite's own count, which a restore in place raises."""
        return self.openings, int(connection.execute("PRAGMA schema_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection; closing twice is allowed."""
        with self._lock:
            self._connection.close()

    def _begin(self, statement: str) -> sqlite3.Connection:
        # The check comes after BEGIN: a replacement by rename in between would otherwise
        # leave this transaction on a file that has no name any more. So does the look at the
        # version: a restore replaces the content of the file that is open.
        while True:
            failure: sqlite3.Error | None = None
            up_to_date = False
            try:
                self._connection.execute(statement)
                up_to_date = self._is_usable(user_version(self._connection))
            except sqlite3.Error as error:
                failure = error
            current = self._is_current()
            if current and up_to_date:
                return self._connection
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if current and failure is not None and not self._is_lost(failure):
                raise failure
            self._reopen()

    def _reopen(self) -> None:
        former, self._identity = self._connection, None
        try:
            self._connection = self._connect()  # if it fails, the next transaction tries again
        finally:
            # Last: SQLite does not write the `-wal` back into a file that was moved meanwhile.
            former.close()

    @contextmanager
    def _noticing_damage(self) -> Iterator[None]:
        """Remember that what is read is damaged, so that the next transaction is on a new file."""
        try:
            yield
        except sqlite3.Error as error:
            self._is_lost(error)
            raise

    def _is_lost(self, error: sqlite3.Error) -> bool:
        """Whether the file that is open is to be made anew because of this."""
        if self._renewed is None or not is_damage(error):
            return False
        self._damaged = self._identity
        return True

    def _create_alone(self) -> None:
        """Create it if it is missing, where SQLite finds nothing to apply to it."""
        if self.path.exists():
            return
        make_private_directory(self.path.parent)
        with one_process_at_a_time(self.path.parent):
            if not self.path.exists() and has_side_files(self.path):
                aside = move_aside(self.path)
                _log.warning("what was left of %s is kept as %s-*", self.path, aside)
            self._create_if_missing()

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
            found = self._stat()
            if self._renewed is not None and (
                found.st_size == 0 or _identity(found) == self._damaged
            ):
                return False
            return self._identity == _identity(found)
        except DatabaseError as error:
            if self._renewed is not None and isinstance(error, LOST):
                return False
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _connect(self) -> sqlite3.Connection:
        if self._renewed is None:
            return self._connect_to_what_is_there()
        if self._damaged is None:
            try:
                return self._connect_to_what_is_there()
            except LOST:
                pass
        return self._make_anew(self._renewed)

    def _connect_to_what_is_there(self) -> sqlite3.Connection:
        # Stat on both sides of the opening, so that the identity kept is the opened file's.
        while True:
            before = self._stat()
            if before.st_size == 0:
                # SQLite unlinks the `-wal` beside it as it opens it, with what is in it.
                raise DatabaseEmpty(
                    f"{self.path} has zero bytes: it was truncated, or never filled",
                    f"Keep the -wal beside it, if there is one. {self._remedy}",
                )
            connection = self._open(self.path)
            if _identity(before) == _identity(self._stat()):
                self._identity = _identity(before)
                self.openings += 1
                return connection
            connection.close()

    def _make_anew(self, renewed: Renewed) -> sqlite3.Connection:
        with _reachable(self.path):
            make_private_directory(self.path.parent)
            with one_process_at_a_time(self.path.parent):
                try:
                    if self._damaged is not None and self._damaged == _identity(self._stat()):
                        raise DatabaseCorrupt(f"{self.path} is damaged", self._remedy)
                    return self._connect_to_what_is_there()  # another process was quicker
                except LOST as error:
                    aside = move_aside(self.path)
                    self._create_if_missing()
                    connection = self._connect_to_what_is_there()
                    renewed(error, aside)
                    return connection
                finally:
                    self._damaged = None

    def _open(self, path: Path) -> sqlite3.Connection:
        with translated(str(path), self._remedy):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                if self._stat(path).st_mode & 0o077:
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

    def _is_usable(self, version: int) -> bool:
        return version == len(self._migrations) or version + 1 in self._held

    def _migrate(self, connection: sqlite3.Connection) -> None:
        newest = len(self._migrations)
        if self._is_usable(user_version(connection)):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = user_version(connection)
            if version > newest:
                raise DatabaseSchemaMismatch(
                    f"{self.path} has schema version {version}, this program supports {newest}",
                    "Start the newer version of this program that wrote it.",
                )
            is_new = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None
            while version < newest and (is_new or version + 1 not in self._held):
                for statement in self._migrations[version].split(";"):
                    connection.execute(statement)
                version += 1
            connection.execute(f"PRAGMA user_version={version}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _stat(self, path: Path | None = None) -> os.stat_result:
        """What is at the path now; raises `DatabaseError`."""
        path = path or self.path
        try:
            return path.stat()
        except FileNotFoundError:
            raise DatabaseMissing(f"{path} no longer exists", self._remedy) from None
        except OSError as error:
            raise DatabaseUnreadable(
                f"{path} cannot be reached: {error.strerror}",
                "Check the owner and mode of its directories.",
            ) from error


def user_version(connection: Connection) -> int:
    """The version of the schema that this connection to a file sees."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
