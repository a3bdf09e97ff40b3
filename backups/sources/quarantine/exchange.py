"""Giving the place of a database to another file, so that a main file is there at any moment."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path

from backups.model import Source
from backups.sources.install import is_in_wal_mode
from backups.sources.live import connect, inspect_live, side_files
from backups.sources.pins import what
from backups.sources.quarantine.moves import link_sides, move_sides
from shared.databases.translation import translated
from shared.errors import DatabaseError, DatabaseLocked
from shared.files import sync_directory

_log = logging.getLogger("backups.run")

_SECONDS_BETWEEN_TRIES = 0.01


def hold_still(stack: ExitStack, source: Source, busy_timeout: float) -> bool:
    """Keep writers out of a live database until `stack` is left, if it is sound; whether it is.

    All its rows are in its main file meanwhile: its `-wal` has no content, and says nothing about
    another main file. A damaged one is not touched. Raises `DatabaseLocked` when a connection keeps
    a transaction open for longer than `busy_timeout`.
    """
    try:
        if inspect_live(source, busy_timeout).state != "healthy":
            return False
        stack.enter_context(_held_still(source, busy_timeout))
    except DatabaseLocked:
        raise
    except DatabaseError as error:  # as a disk that does not return all of it
        _log.warning("%s", error.message)
        return False
    return True


@contextmanager
def _held_still(source: Source, busy_timeout: float) -> Iterator[None]:
    wal = source.path.with_name(f"{source.path.name}-wal")
    deadline = time.monotonic() + busy_timeout
    with translated(what(source)), closing(connect(source.path, busy_timeout)) as holder:
        while True:
            holder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            holder.execute("BEGIN IMMEDIATE")
            if not (wal.exists() and wal.stat().st_size):
                break
            holder.execute("ROLLBACK")  # somebody has written in between, or reads
            if time.monotonic() > deadline:
                raise DatabaseLocked(
                    f"{what(source)} was in use by another connection for too long",
                    "Find the process that holds a transaction open on it, and end it.",
                )
            time.sleep(_SECONDS_BETWEEN_TRIES)
        yield


def exchange(path: Path, folder: Path, coming: Path, *, is_still: bool, is_copy: bool) -> None:
    """Give the place of a database to the file `coming`, and keep its own files in `folder`.

    A main file is at the place at any moment: the former, which gets a second name in `folder`
    first, or `coming`, which is renamed over it. No side file of the former with content is ever
    beside `coming`: where the former `is_still` (see `hold_still`) it has none, else they leave
    the place before. A `coming` that `is_copy` of ours is kept closed until what belonged to the
    former has gone. Raises `FileExistsError` when another process has put a file there meanwhile.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    former = folder / path.name
    os.link(path, former)
    if not is_still:
        link_sides(path, folder)
    sync_directory(folder)
    with _kept_closed(coming) if is_copy else nullcontext():
        if not path.samefile(former):
            raise FileExistsError(f"{path} is another file meanwhile")
        if not is_still:
            link_sides(path, folder)  # a process may have begun a `-wal` since
            for side in side_files(path):
                side.unlink(missing_ok=True)
        coming.rename(path)
        move_sides(path, folder)
    sync_directory(folder)
    sync_directory(path.parent)


@contextmanager
def _kept_closed(file: Path) -> Iterator[None]:
    """Let nobody read a file, also under another name: others wait until what SQLite would apply
    to it is taken away. It may not be in WAL mode, where the lock would be in files beside it."""
    if is_in_wal_mode(file):
        yield
        return
    with closing(connect(file, 0)) as connection:
        with suppress(sqlite3.DatabaseError):  # a damaged one, which nobody else reads either
            connection.execute("BEGIN EXCLUSIVE")
        yield


def forget_exchange(path: Path, folder: Path) -> None:
    """Take back what an `exchange`, or a `quarantine`, that died before its rename has linked.

    Side files that have left the place return, if nobody has begun others there.
    """
    main = folder / path.name
    is_linked = main.exists() and path.exists() and main.samefile(path)
    for side in side_files(path):
        kept = folder / side.name
        if not kept.exists():
            continue
        if side.exists() and kept.samefile(side):
            kept.unlink()
        elif is_linked and not side.exists() and not _was_written_since(path, kept):
            kept.rename(side)
    if is_linked:
        sync_directory(path.parent)
        main.unlink()
    folder.rmdir()


def _was_written_since(path: Path, side: Path) -> bool:
    """Whether a main file was written after a side file had lost its name beside it."""
    return path.stat().st_mtime_ns > side.stat().st_ctime_ns
