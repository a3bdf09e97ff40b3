"""Whether each live database is there and is one, told without opening it: cheap, for each status.

The header is read by a child process: closing a descriptor of a live file in this one would drop
the locks that SQLite holds for it, and a connection of a reader that is not the owner may leave a
`-shm` behind that locks the owner out. It is read again only when the main file has changed. That
a file was replaced by another is no fault: the storage, the change watch and the next snapshot open
the one that is at the path now.
"""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from backups.errors import LinkDangling
from backups.model import Finding, Source
from backups.sources.links import refuse_dangling_link
from backups.sources.pins import what
from shared.databases.sqlite import restore_remedy

# https://www.sqlite.org/fileformat2.html#magic_header_string
_MAGIC = b"SQLite format 3\x00"
# A program that makes its database may leave it without bytes for a moment.
_NEW_FOR = timedelta(minutes=1)
_READ_SECONDS = 20


def source_faults(sources: Sequence[Source], now: datetime) -> tuple[Finding, ...]:
    """A finding for each source whose file is gone, cannot be reached, or is no database."""
    return tuple(fault for source in sources if (fault := _fault(source, now)) is not None)


def damage_seen(damaged: Mapping[str, str]) -> tuple[Finding, ...]:
    """A finding for each source that the follower found damaged, with what it said."""
    return tuple(
        Finding("source_unreadable", message, restore_remedy(name))
        for name, message in damaged.items()
    )


def _fault(source: Source, now: datetime) -> Finding | None:
    try:
        found = source.path.stat()
    except (FileNotFoundError, NotADirectoryError):
        try:
            refuse_dangling_link(source)
        except LinkDangling as error:
            return Finding("source_missing", error.message, error.hint)
        return _damage(source, "source_missing", "does not exist any more")
    except OSError as error:
        try:
            refuse_dangling_link(source)
        except LinkDangling as circle:
            return Finding("source_unreadable", circle.message, circle.hint)
        return Finding(
            "source_unreadable",
            f"{what(source)} cannot be reached: {error.strerror}",
            "Check the owner and mode of the file and its directories.",
        )
    if not stat.S_ISREG(found.st_mode):
        return _damage(source, "source_unreadable", "is no file")
    if found.st_size == 0:
        age = now.timestamp() - found.st_mtime
        if 0 <= age < _NEW_FOR.total_seconds():
            return None
        return _damage(source, "source_unreadable", "has zero bytes: something truncated it")
    try:
        version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        begins_well = _header(source.path, version) == _MAGIC
    except (OSError, subprocess.SubprocessError):
        return Finding(
            "source_unreadable",
            f"{what(source)} cannot be read by this user",
            "Check the owner and mode of the file and its directories.",
        )
    if not begins_well:
        return _damage(source, "source_unreadable", "does not begin as a SQLite database does")
    return None


def _damage(source: Source, code: str, fault: str) -> Finding:
    return Finding(code, f"{what(source)} {fault}", restore_remedy(source.name))


@lru_cache(maxsize=64)
def _header(path: Path, _version: tuple[int, int, int, int]) -> bytes:
    """The first bytes of this version of a file; raises `OSError`, `SubprocessError`."""
    return subprocess.run(
        ["head", "-c", str(len(_MAGIC)), "--", str(path)],
        capture_output=True,
        check=True,
        timeout=_READ_SECONDS,
    ).stdout
