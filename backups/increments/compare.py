"""Comparing a copy of a database with a shadow: the way to find changes that is always right."""

from __future__ import annotations

import os
import sqlite3
import struct
import tempfile
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from backups.format.increment import MOST_CHANGED_BYTES
from backups.host.removal import remove_file
from backups.increments.shadow import Delta, Shadow
from shared.files import open_private

_CHUNK = 1024 * 1024
_PIECE = 16 * 1024
_PAGES_A_STEP = 4096
# Half of a file may change in an increment while that is no more than this.
_SMALL_BYTES = 4 * 1024 * 1024


def most_changed(pages: int, page_size: int) -> int:
    """How many pages of a database of `pages` an increment carries at the most."""
    return min(MOST_CHANGED_BYTES, max(_SMALL_BYTES, pages * page_size // 2)) // page_size


def compare(copy: BinaryIO, shadow: Shadow) -> Delta | str:
    """What leads from a shadow to the database in `copy`; a text says why a full is needed."""
    size = shadow.page_size
    pages_after = copy.seek(0, os.SEEK_END) // size
    copy.seek(0)
    if page_size_of(copy.read(100)) != size:
        return "its page size has changed"
    most = most_changed(pages_after, size)
    pages: dict[int, bytes] = {}
    offset = copy.seek(0)
    while new := copy.read(_CHUNK):
        _differences(new, shadow.chunk(offset, _CHUNK), offset, size, pages)
        if len(pages) > most:
            return f"more than {most:,} of its {pages_after:,} pages have changed"
        offset += len(new)
    return shadow.delta(pages, pages_after)


def _differences(
    new: bytes, old: bytes, offset: int, page_size: int, pages: dict[int, bytes]
) -> None:
    """Enter the pages of a chunk that differ; chunks and pieces that are equal cost one look."""
    if new == old:
        return
    step = max(_PIECE, page_size)
    for start in range(0, len(new), step):
        if new[start : start + step] == old[start : start + step]:
            continue
        for at in range(start, min(start + step, len(new)), page_size):
            page = new[at : at + page_size]
            if page != old[at : at + page_size]:
                pages[(offset + at) // page_size + 1] = page


def page_size_of(header: bytes) -> int:
    """The page size that the header of a database names; 0 where it is none.

    https://www.sqlite.org/fileformat2.html#page_size
    """
    if len(header) < 18 or not header.startswith(b"SQLite format 3\x00"):
        return 0
    (size,) = struct.unpack(">H", header[16:18])
    return 65536 if size == 1 else int(size)


def copy_pages(connection: sqlite3.Connection, kept: Path | None, folder: Path) -> BinaryIO:
    """Copy what a connection sees, page by page as it is; the copy, open to be read.

    It is the new 0600 file `kept`, or one in `folder` that has no name by then: whatever ends this
    process, nothing of it stays.
    """
    if kept:
        remove_file(kept)
        open_private(kept).close()
        name = str(kept)
        copy = open(name, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
    else:
        descriptor, name = tempfile.mkstemp(dir=folder)
        copy = open(descriptor, "rb", buffering=0)  # noqa: SIM115
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as target:
            if not kept:
                Path(name).unlink()
            target.execute("PRAGMA journal_mode=OFF")
            target.execute("PRAGMA synchronous=OFF")
            connection.backup(target, pages=_PAGES_A_STEP)
    except BaseException:
        copy.close()
        if not kept:
            Path(name).unlink(missing_ok=True)
        raise
    return copy
