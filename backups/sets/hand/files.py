"""One file in hand: it is only read, never waited for, and never a live database."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from backups.errors import FileUnusable
from backups.host.directory import disk_errors
from backups.model import Source
from backups.sets.seal import SQLITE_MAGIC
from backups.sources.room import RESERVE_BYTES, free_bytes
from shared.databases.untrusted import open_untrusted
from shared.errors import DiskFull
from shared.files import open_private
from shared.store.object_store import CHUNK_BYTES

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_AGE_MAGIC = b"age-encryption.org/v1\n"
_SIDE_FILES = ("-wal", "-journal")

# The live databases and their side files, by device and inode.
LiveFiles = Mapping[tuple[int, int], Path]


@dataclass(frozen=True)
class HandFile:
    """A regular file: `path` is read, `given` is what a person calls it; `size` is in bytes."""

    path: Path
    given: Path
    size: int
    modified_at: datetime


def live_files(sources: Sequence[Source]) -> LiveFiles:
    """The files of the live databases, however a path leads to them; none of them is opened."""
    found = {}
    for source in sources:
        for suffix in ("", *_SIDE_FILES, "-shm"):
            path = Path(f"{source.path}{suffix}")
            try:
                seen = path.stat()
            except OSError:
                continue
            found[seen.st_dev, seen.st_ino] = path
    return found


def stat_of(given: Path) -> os.stat_result:
    """What is at a path; raises `FileUnusable`."""
    try:
        return given.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileUnusable(
            f"{given} is not there", "Check the path: --from takes a file or a folder."
        ) from None
    except (OSError, ValueError) as error:
        raise unreadable(given, error) from error


def unreadable(given: Path, error: Exception) -> FileUnusable:
    """The error for what this user cannot read, or its disk does not return."""
    why = error.strerror if isinstance(error, OSError) else None
    return FileUnusable(
        f"{given} cannot be read: {why or type(error).__name__}",
        f"Check its owner, mode and disk: the command reads it as user {os.geteuid()}.",
    )


def file_at(given: Path, live: LiveFiles, found: os.stat_result | None = None) -> HandFile:
    """The regular file at a path; raises `FileUnusable` for anything else, and a live database."""
    found = found or stat_of(given)
    refuse_live(given, live, found)
    if not stat.S_ISREG(found.st_mode):
        raise FileUnusable(
            f"{given} is neither a regular file nor a folder",
            "Save what it returns in a file, and name that.",
        )
    modified_at = datetime.fromtimestamp(max(found.st_mtime, 0), UTC)
    return HandFile(Path(os.path.realpath(given)), given, found.st_size, modified_at)


def refuse_live(given: Path, live: LiveFiles, found: os.stat_result) -> None:
    """Raise `FileUnusable` for a live database, whichever name or link leads to it."""
    database = live.get((found.st_dev, found.st_ino))
    if database is not None:
        raise FileUnusable(
            f"{given} is the live database {database}, which a restore would replace",
            "Name the file or the folder of a copy. To return to what a restore replaced: "
            "./bot backups restore --undo",
        )


def chunks(file: HandFile, size: int = CHUNK_BYTES) -> Generator[bytes]:
    """The bytes of a file, so many at a time; what has become a pipe meanwhile is not waited for.

    Raises `FileUnusable`, also for a fault of the disk in the middle.
    """
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(file.given, error) from error
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileUnusable(f"{file.given} is not a regular file any more", "Try again.")
        while True:
            try:
                chunk = opened.read(size)
            except OSError as error:
                raise unreadable(file.given, error) from error
            if not chunk:
                return
            yield chunk


def head_of(file: HandFile, size: int) -> bytes:
    """The first bytes of a file."""
    with closing(chunks(file, size)) as found:
        return next(found, b"")


def suffix_of(file: HandFile) -> str:
    """How the content of a file is sealed, as what follows `.db` in a key says it.

    The content decides; of what is inside an encrypted file, its name. Raises `FileUnusable` for
    an empty file, and for one that is neither a database nor sealed.
    """
    head = head_of(file, 64)
    if not head:
        raise FileUnusable(f"{file.given} is empty", "Download or copy it again.")
    if head.startswith(SQLITE_MAGIC):
        return ""
    if head.startswith(_ZSTD_MAGIC):
        return ".zst"
    if head.startswith(_AGE_MAGIC):
        return ".zst.age" if ".zst" in file.given.name else ".age"
    if head.lstrip()[:1] == b"{" or file.given.suffix in (".inc", ".pack"):
        raise FileUnusable(
            f"{file.given} is a part of a set or a chain",
            "Name the folder that has the manifest and the objects: --from DIR.",
        )
    raise FileUnusable(
        f"{file.given} is neither an SQLite database, nor compressed with zstd, nor encrypted "
        "with age",
        "Name a backup. Unpack an archive first (tar, unzip, gunzip), and decode an armored age "
        "file with `age --decrypt`.",
    )


def with_side_files(file: HandFile, scratch: Path) -> HandFile:
    """The file, or a copy of it in `scratch` with what its `-wal` or `-journal` has.

    The file itself is never opened by SQLite to be written. Raises `DatabaseError`, `DiskFull`,
    `DirectoryUnusable`.
    """
    sides = [path for suffix in _SIDE_FILES if _size(path := Path(f"{file.path}{suffix}"))]
    if not sides:
        return file
    needed = file.size + 2 * sum(map(_size, sides))
    if needed > free_bytes(scratch) - RESERVE_BYTES:
        raise DiskFull(
            f"{file.given} has a {sides[0].name} beside it, and there is no room for a copy of "
            f"both in {scratch.parent} ({needed:,} bytes)",
            "Set TMPDIR to a folder on a larger disk.",
        )
    with disk_errors(scratch):
        copy = Path(tempfile.mkdtemp(dir=scratch)) / "copy.db"
        _copy(file, copy)
        for side in sides:
            suffix = side.name.removeprefix(file.path.name)
            beside = replace(file, path=side, given=Path(f"{file.given}{suffix}"))
            _copy(beside, Path(f"{copy}{suffix}"))
    with open_untrusted(copy, str(file.given), writes=True) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")
    return replace(file, path=copy, size=copy.stat().st_size)


def _copy(file: HandFile, target: Path) -> None:
    with open_private(target) as copy:
        for chunk in chunks(file):
            copy.write(chunk)


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
