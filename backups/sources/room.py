"""How much room work needs on this host's disks: one formula, for run, restore, drill and doctor.

The work refuses to begin where the room is missing (`Room.refuse_lack`). While it goes on, it stops
before it takes the reserve of a disk that live databases are on (`Room.refuse_taken_reserve`): the
bot must be able to commit, whatever a backup does.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backups.model import Source
from backups.sources.links import real_path
from shared.errors import DiskFull

# What a `-wal` grows to between two checkpoints (4 MB, SQLite's default) for many databases, with
# the inbox and the logs.
RESERVE_BYTES = 64 * 1024 * 1024
# The records and documents of a run, and the last block of each of its files.
_RECORDS_BYTES = 1024 * 1024
_HINT = "Make room on that disk, or set BACKUP_DIR to a larger one."


@dataclass(frozen=True)
class Need:
    """Bytes that a step of the work writes below a folder, which need not be there yet."""

    folder: Path
    bytes: int


@dataclass(frozen=True)
class Lack:
    """A disk without the room for some work; `needed` includes the `reserve`."""

    work: str
    folder: Path
    free: int
    needed: int
    reserve: int

    @property
    def message(self) -> str:
        """What is missing where."""
        kept = f", {self.reserve:,} of them as a reserve for the live databases"
        return (
            f"{self.folder} has {self.free:,} bytes free, but {self.work} needs {self.needed:,}"
            + (kept if self.reserve else "")
        )

    @property
    def hint(self) -> str:
        """What to do."""
        return _HINT


class Room:
    """The room that some work needs: of each disk, the most that one of its steps needs there.

    What one step has written and a later one needs is in both. `sources` are the live databases.
    """

    def __init__(
        self, work: str, steps: Sequence[Sequence[Need]], sources: Sequence[Source]
    ) -> None:
        self._work = work
        self._folders: dict[int, Path] = {}
        self._bytes: dict[int, int] = {}
        for step in steps:
            taken: dict[int, int] = {}
            for need in step:
                disk = _disk_of(need.folder)
                self._folders.setdefault(disk, need.folder)
                taken[disk] = taken.get(disk, 0) + need.bytes
            for disk, size in taken.items():
                self._bytes[disk] = max(self._bytes.get(disk, 0), size)
        live = set()
        for source in sources:
            with suppress(OSError):  # whoever opens it names that
                live.add(_disk_of(real_path(source.path).parent))
        self._reserves = {disk: RESERVE_BYTES if disk in live else 0 for disk in self._folders}

    def needed(self, folder: Path) -> int:
        """The bytes that are needed on the disk of a folder, its reserve included."""
        disk = _disk_of(folder)
        if disk not in self._bytes:
            return 0
        return self._bytes[disk] + _RECORDS_BYTES + self._reserves[disk]

    def lacks(self) -> Iterator[Lack]:
        """The disks that have too little room now. Raises `OSError`."""
        for disk, folder in self._folders.items():
            free, needed = free_bytes(folder), self.needed(folder)
            if free < needed:
                yield Lack(self._work, folder, free, needed, self._reserves[disk])

    def refuse_lack(self) -> None:
        """Raise `DiskFull` for the first disk that has too little room now."""
        for lack in self.lacks():
            raise DiskFull(lack.message, lack.hint)

    def refuse_taken_reserve(self) -> None:
        """Raise `DiskFull` when a disk has less left than its reserve."""
        for disk, folder in self._folders.items():
            reserve = self._reserves[disk]
            if reserve and free_bytes(folder) < reserve:
                raise DiskFull(
                    f"the disk of {folder} is full but for the reserve of {reserve:,} bytes, "
                    "which is kept for the live databases on it",
                    _HINT,
                )


def to_prove(sizes: Sequence[int], workers: int) -> int:
    """So many files at once are fetched and opened; nothing of them stays."""
    return sum(sorted(sizes, reverse=True)[:workers])


def to_install(source: Source, size: int) -> Need:
    """What the live database of a source, replaced by one of this size, takes beside itself.

    The new content goes through its `-wal`: with each page, 24 bytes (the smallest page has 512,
    https://www.sqlite.org/fileformat2.html#walformat). Then the main file may grow.
    """
    live, _ = _live_bytes(source)
    growth = max(0, size - live) if live else 0
    return Need(real_path(source.path).parent, size + size // 16 + growth)


def bytes_of(source: Source) -> int:
    """The main file and its `-wal`, which may hold pages that a copy has in full."""
    return sum(_live_bytes(source))


def room_for_snapshots(sources: Sequence[Source], staging: Path) -> Room:
    """The room for nothing but copies of live databases."""
    size = sum(bytes_of(source) for source in sources)
    return Room("a copy of the databases", [[Need(staging, size)]], sources)


def room_for_restore(
    sizes: Mapping[str, int], replaced: Sequence[Source], *, staging: Path, kept: Path
) -> Room:
    """The room for a restore in place: fetched, then installed beside the copies that are `kept`.

    What is kept is stored afterwards, where there is room for that too.
    """
    install = [to_install(source, sizes[source.name]) for source in replaced]
    copies = sum(bytes_of(source) for source in replaced)
    step = [Need(staging, sum(sizes.values())), Need(kept, copies), *install]
    return Room("a restore", [step], replaced)


def free_bytes(folder: Path) -> int:
    """What this user may still write to the disk of a folder. Raises `OSError`.

    A file system that tells no size, such as /proc, is not the one that is full.
    """
    usage = shutil.disk_usage(_existing(folder))
    return usage.free if usage.total else sys.maxsize


def refuse_small_disk(sources: Sequence[Source], staging: Path) -> None:
    """Raise `DiskFull` when copies of `sources` do not fit on the disk of `staging`."""
    room_for_snapshots(sources, staging).refuse_lack()


def _live_bytes(source: Source) -> tuple[int, int]:
    """The bytes of a main file and of its `-wal`."""
    main = wal = 0
    with suppress(OSError):  # not there: whoever reads the source names it
        real = real_path(source.path)  # SQLite's own files lie beside the file, not a link
        main = real.stat().st_size
        wal = real.with_name(f"{real.name}-wal").stat().st_size
    return main, wal


def _disk_of(folder: Path) -> int:
    return _existing(folder).stat().st_dev


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    return next(found for found in (folder, *folder.absolute().parents) if found.exists())
