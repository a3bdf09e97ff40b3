"""Bringing a checked database file to the place of a live one, without ever opening that raw.

Only SQLite opens a live file: closing any other descriptor of it would drop SQLite's locks
for the whole process.

One file, because all ways to the place of a live file have the same dangers.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from uuid import uuid4

from backups.errors import OwnerDiffers
from backups.host.removal import remove_file
from backups.model import Source
from backups.runs.log_files import source_log
from backups.sources.live import connect, side_files
from backups.sources.page_size import change_page_size
from backups.sources.pins import what
from shared.databases.translation import translated
from shared.databases.untrusted import open_untrusted
from shared.errors import DatabaseLocked, DatabaseUnreadable, DiskFull
from shared.files import copy_private, link, make_private_directory, sync_directory, sync_file

_PAGES_A_STEP = 1024
_SECONDS_BETWEEN_TRIES = 0.05
# Bytes 18 and 19 of a file that is not in WAL mode (https://www.sqlite.org/fileformat2.html).
_ROLLBACK_JOURNAL = b"\x01\x01"


def refuse_foreign_owner(path: Path, beside: Iterable[Path] = ()) -> None:
    """Raise `OwnerDiffers` unless what this user writes gets the owner of the data.

    That is the owner of the file at `path`; where there is none, of a database of `beside` in the
    same folder (an app that root runs may have its data in a folder of another user); else of the
    data directory.
    """
    databases = [path, *(one for one in beside if one.parent == path.parent)]
    data = next(one for one in (*databases, *path.absolute().parents) if one.exists())
    owner = data.stat().st_uid
    if owner != os.geteuid():
        raise OwnerDiffers(
            f"{data} belongs to user {owner}, and this process runs as user {os.geteuid()}: "
            "restored files would have the wrong owner. Nothing was changed",
            f"Run it as the owner: sudo -u '#{owner}' ./bot backups restore ...",
        )


def replace_content(
    staged: Path,
    source: Source,
    busy_timeout: float,
    keep_old: Callable[[], None],
    tick: Callable[[int, int], None],
) -> None:
    """Write `staged` into the live database of `source` in one transaction.

    1. The first pages are written: SQLite holds the live write lock from here on.
    2. `keep_old` is called. It copies the live database from another connection, and sees
       every row that was acknowledged before the switch, since no writer can add one now.
    3. The rest is written, and all is committed.
    4. What was committed to the `-wal` goes into the main file, else the next writer's commit
       would have to do it.

    Readers see the old content until the commit, writers wait. When anything raises, or the
    process dies, the old content stays. `staged` is rewritten to the live page size first, and
    its rows keep their rowids. Raises `DatabaseError`: `DatabaseCorrupt` or `DatabaseNotSqlite`
    when the live file is too damaged to be written into, and `PageSizeDiffers` when `staged`
    cannot be rewritten. Where `keep_old` raises `StagedIsRead`, all begins anew, and it may write
    to `staged` then.
    """
    try:
        _replace_content(staged, source, busy_timeout, keep_old, tick)
    except StagedIsRead:
        make_own(staged)
        _replace_content(staged, source, busy_timeout, keep_old, tick, writable=True)


def _replace_content(
    staged: Path,
    source: Source,
    busy_timeout: float,
    keep_old: Callable[[], None],
    tick: Callable[[int, int], None],
    *,
    writable: bool = False,
) -> None:
    with translated(what(source)), closing(connect(source.path, busy_timeout)) as target:
        page_size = int(target.execute("PRAGMA page_size").fetchone()[0])
        pages = _prepare(staged, page_size, source, lambda: tick(0, 0))
        deadline = time.monotonic() + busy_timeout
        kept = False

        def on_step(status: int, remaining: int, total: int) -> None:
            nonlocal kept
            if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                if not kept and time.monotonic() > deadline:
                    raise DatabaseLocked(
                        f"{what(source)} was locked by another connection for too long",
                        "Find the process that holds a transaction open on it, and end it.",
                    )
                return
            if not kept and remaining:
                keep_old()
                kept = True
            tick((total - remaining) * page_size, total * page_size)

        with (
            _in_wal_mode(target, source, busy_timeout),
            open_untrusted(staged, what(source), writes=writable) as replacement,
        ):
            # Never all pages in one step: the lock must be held when `keep_old` is called.
            step = max(1, min(_PAGES_A_STEP, pages // 2))
            replacement.backup(target, pages=step, progress=on_step, sleep=0.01)
            _checkpoint(target, source, busy_timeout)
    if not kept:
        raise DatabaseUnreadable(
            f"{what(source)} was replaced without a safety copy",
            "Report this, with the log: it is a bug in this program.",
        )


@contextmanager
def errors_beside(source: Source) -> Iterator[None]:
    """Raise `DiskFull` or `DatabaseUnreadable` in place of an `OSError` beside a live database.

    `FileExistsError` is left to the caller: another process began a database there.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        where = f"{what(source)}: its files in {error.filename or source.path.parent}"
        if error.errno in (ENOSPC, EDQUOT):
            raise DiskFull(
                f"{where} could not be moved or written: the disk is full",
                f"Make room on the disk of {source.path.parent}, then type the same command again.",
            ) from error
        raise DatabaseUnreadable(
            f"{where} could not be moved or written: {error.strerror or error}",
            f"Give this user write access to {source.path.parent}, and check that disk; then type "
            "the same command again: it finishes what was begun.",
        ) from error


def install_new(staged: Path, path: Path) -> None:
    """Move `staged` where no database is: beside, synced, linked, directory synced.

    What is installed has no other name. Raises `FileExistsError` when a database, or what SQLite
    would apply to one, has appeared there meanwhile.
    """
    make_private_directory(path.parent)
    with durable_beside(staged, path) as beside:
        for side in side_files(path):
            if side.exists():
                raise FileExistsError(f"{side} is in the way")
        os.link(beside, path)
    remove_file(staged)
    sync_directory(path.parent)


@contextmanager
def durable_beside(staged: Path, path: Path) -> Iterator[Path]:
    """`staged` under a durable name in the folder of `path`, to be renamed, or removed again.

    On another file system it is a copy, and so it is of a file that has another name already.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        if staged.stat().st_nlink > 1 or not link(staged, beside):
            copy_private(staged, beside)
        beside.chmod(0o600)
        sync_file(beside)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def borrow(copy: Path, staged: Path) -> None:
    """Let `staged` be a 0600 copy that is kept, to be read; who writes to it calls `make_own`."""
    if not link(copy, staged):
        copy_private(copy, staged)
    staged.chmod(0o600)


def make_own(staged: Path) -> None:
    """Make a staged file one that may be written to: another name of it keeps what it has."""
    if staged.stat().st_nlink > 1:
        beside = staged.with_name(f"{staged.name}.own")
        copy_private(staged, beside)
        beside.replace(staged)


class StagedIsRead(Exception):
    """What is being read as a file that nobody changes cannot be written to now."""


class RefusedOnce:
    """Asked before a staged file is written to while it is installed: raises `StagedIsRead` the
    first time. The second time `replace_content` has opened it so that this can be done."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, _staged: Path) -> None:
        """See the class."""
        if not self._asked:
            self._asked = True
            raise StagedIsRead


def leave_wal_mode(path: Path) -> None:
    """Make a copy one self-contained file; a legacy copy may still be flagged for WAL."""
    if not is_in_wal_mode(path):
        return
    make_own(path)
    with open_untrusted(path, str(path), writes=True) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")


def is_in_wal_mode(file: Path) -> bool:
    """Whether a file that is not live is flagged for WAL, or is damaged so that nobody can say."""
    with file.open("rb") as opened:
        return opened.read(20)[18:] != _ROLLBACK_JOURNAL


def _prepare(staged: Path, page_size: int, source: Source, ask: Callable[[], None]) -> int:
    """Give the staged copy the live page size and at least two pages; how many it has."""
    with open_untrusted(staged, what(source)) as copy:  # the header alone has it
        found = int(copy.execute("PRAGMA page_size").fetchone()[0])
    if found != page_size:
        change_page_size(staged, page_size, ask)
    with open_untrusted(staged, what(source)) as copy:
        pages = int(copy.execute("PRAGMA page_count").fetchone()[0])
    if pages > 1:
        return pages
    make_own(staged)
    with open_untrusted(staged, what(source), writes=True) as copy:
        copy.execute("CREATE TABLE padding(x)")
        copy.execute("DROP TABLE padding")
        return int(copy.execute("PRAGMA page_count").fetchone()[0])


def _checkpoint(target: sqlite3.Connection, source: Source, busy_timeout: float) -> None:
    """Bring the log into the main file, as far as no reader is in the way; waits for none.

    Under the write lock: SQLite up to 3.51.2 can lose a commit that begins the log anew while a
    checkpoint runs. What hinders it is no fault of a restore that is done: others do it later.
    """
    try:
        target.execute("BEGIN IMMEDIATE")
        try:
            with closing(connect(source.path, busy_timeout)) as other:
                other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            target.execute("ROLLBACK")
    except sqlite3.Error as error:
        source_log(source.name).warning("the log was not brought into the database: %s", error)


@contextmanager
def _in_wal_mode(target: sqlite3.Connection, source: Source, busy_timeout: float) -> Iterator[None]:
    """Outside WAL mode the backup API keeps readers out, and the safety copy is read by one.

    A process that reads meanwhile is in WAL mode, too, until it closes its connection: that is
    waited for within the busy timeout. After it, the mode stays, and a warning says so.
    """
    mode = str(target.execute("PRAGMA journal_mode").fetchone()[0])
    if mode == "wal":
        yield
        return
    _set_journal_mode(target, "wal", busy_timeout)
    try:
        yield
    finally:
        try:
            _set_journal_mode(target, mode, busy_timeout)
        except sqlite3.OperationalError as error:
            source_log(source.name).warning(
                "%s stays in WAL mode, which the restore needs: %s. To put it back, end the "
                "process that has it open, then: sqlite3 '%s' 'PRAGMA journal_mode=%s'",
                what(source),
                error,
                source.path,
                mode,
            )


def _set_journal_mode(target: sqlite3.Connection, mode: str, busy_timeout: float) -> None:
    """Change the mode, which takes the file alone; of its locks, SQLite waits for some only."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            target.execute(f"PRAGMA journal_mode={mode}")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(_SECONDS_BETWEEN_TRIES)
