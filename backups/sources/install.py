"""Bringing a checked database file to the place of a live one, without ever opening that raw.

Only SQLite opens a live file: closing any other descriptor of it would drop SQLite's locks
for the whole process.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from backups.errors import OwnerDiffers
from backups.model import Source
from backups.sources.live import connect, side_files
from backups.sources.pins import what
from shared.databases.translation import translated
from shared.errors import (
    DatabaseLocked,
    DatabaseUnreadable,
)
from shared.files import make_private_directory, open_private, sync_directory

_PAGES_A_STEP = 1024


def refuse_foreign_owner(path: Path) -> None:
    """Raise `OwnerDiffers` unless what this user writes gets the owner of the data directory."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise OwnerDiffers(
            f"{folder} belongs to user {owner}, and this process runs as user {os.geteuid()}: "
            "restored files would have the wrong owner. Nothing was changed",
            f"Run it as the owner: sudo -u '#{owner}' python -m backups restore ...",
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

    Readers see the old content until the commit, writers wait. When anything raises, or the
    process dies, the old content stays. `staged` is rewritten to the live page size first.
    Raises `DatabaseError`: `DatabaseCorrupt` or `DatabaseNotSqlite` when the live file is too
    damaged to be written into.
    """
    with translated(what(source)), closing(connect(source.path, busy_timeout)) as target:
        page_size = int(target.execute("PRAGMA page_size").fetchone()[0])
        pages = _prepare(staged, page_size)
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
            _in_wal_mode(target),
            closing(sqlite3.connect(staged, isolation_level=None)) as replacement,
        ):
            # Never all pages in one step: the lock must be held when `keep_old` is called.
            step = max(1, min(_PAGES_A_STEP, pages // 2))
            replacement.backup(target, pages=step, progress=on_step, sleep=0.01)
    if not kept:
        raise DatabaseUnreadable(
            f"{what(source)} was replaced without a safety copy",
            "Report this, with the log: it is a bug in this program.",
        )


def quarantine(path: Path, folder: Path) -> None:
    """Move a database's files into a folder beside them; the same call again finishes it.

    1. Its side files are linked into the folder, so that nobody can take them away.
    2. The main file is moved. Nobody ever sees it without its side files, or adds to it
       after that; and SQLite applies none of these to what a process begins here anew.
    3. The names of the side files are removed here.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    main = folder / path.name
    if path.exists():
        for side in side_files(path):
            kept = folder / side.name
            kept.unlink(missing_ok=True)  # of an earlier call: what is here may be newer
            if side.exists():
                os.link(side, kept)
        sync_directory(folder)
        path.rename(main)
    elif not main.exists():  # nothing but side files was left of it
        for side in side_files(path):
            if side.exists():
                side.rename(folder / side.name)
    remove_moved(path, folder)


def remove_moved(path: Path, folder: Path) -> None:
    """The last step of `quarantine`: whatever else may be at the place stays."""
    for side in side_files(path):
        kept = folder / side.name
        if not (side.exists() and kept.exists() and side.samefile(kept)):
            continue
        if path.exists() and side.name.endswith("-shm"):
            continue  # whoever began a database here uses it
        side.unlink()
    sync_directory(path.parent)


def bring_back(folder: Path, path: Path, *, begun: bool = False) -> None:
    """Undo `quarantine`: the database's own side files first, then the main file.

    The place must be free, but for what an earlier call has brought back if it was `begun`;
    raises `FileExistsError` when it is not.
    """
    for file in (*side_files(path), path):
        if file.exists() and (not begun or (folder / file.name).exists()):
            raise FileExistsError(f"{file} is in the way")
    for file in (*side_files(path), path):
        kept = folder / file.name
        if kept.exists():
            kept.rename(file)
    sync_directory(path.parent)


def install_new(staged: Path, path: Path) -> None:
    """Put a copy of `staged` where no database is: beside, synced, linked, directory synced.

    Raises `FileExistsError` when a database has appeared there meanwhile.
    """
    make_private_directory(path.parent)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with open_private(beside) as target, staged.open("rb") as source:
            shutil.copyfileobj(source, target, 1024 * 1024)
            target.flush()
            os.fsync(target.fileno())
        os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_directory(path.parent)


def leave_wal_mode(path: Path) -> None:
    """Make a copy one self-contained file; a legacy copy may still be flagged for WAL."""
    with translated(str(path)), closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")


def quarantine_folder(path: Path, run_id: str) -> Path:
    """Where `quarantine` puts a database's files: on the same disk, beside them."""
    return path.with_name(f"{path.name}.quarantine-{run_id}")


def _prepare(staged: Path, page_size: int) -> int:
    """Give the staged copy the live page size and at least two pages; how many it has."""
    with closing(sqlite3.connect(staged, isolation_level=None)) as copy:
        if int(copy.execute("PRAGMA page_size").fetchone()[0]) != page_size:
            copy.execute(f"PRAGMA page_size={page_size}")
            copy.execute("VACUUM")
        if int(copy.execute("PRAGMA page_count").fetchone()[0]) < 2:
            copy.execute("CREATE TABLE padding(x)")
            copy.execute("DROP TABLE padding")
        return int(copy.execute("PRAGMA page_count").fetchone()[0])


@contextmanager
def _in_wal_mode(target: sqlite3.Connection) -> Iterator[None]:
    """Outside WAL mode the backup API keeps readers out, and the safety copy is read by one."""
    mode = str(target.execute("PRAGMA journal_mode").fetchone()[0])
    if mode != "wal":
        target.execute("PRAGMA journal_mode=WAL")
    try:
        yield
    finally:
        if mode != "wal":
            with suppress(sqlite3.OperationalError):  # in use: it stays in WAL mode
                target.execute(f"PRAGMA journal_mode={mode}")
