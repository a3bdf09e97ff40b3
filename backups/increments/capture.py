"""What changed in the live databases since the shadows, of all sources at one instant.

    gates of all sources -> number, pins -> open the gates -> copy -> compare with the shadow

A source is copied as it is, page by page, and only if it was written. It is not checked: what a
damaged database has is what its next set, and the self-check of the chain, look at.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backups.errors import LinkDangling
from backups.format.increment import MOST_CHANGED_BYTES
from backups.host.removal import remove_file
from backups.increments.shadow import Delta, Shadow
from backups.model import ProgressSink, Source
from backups.sources.change_watch import ChangeWatch
from backups.sources.links import refuse_dangling_link
from backups.sources.pins import (
    Pin,
    PinFailed,
    begin_read,
    open_pin,
    pin_together,
    refuse_changed,
    what,
)
from backups.sources.room import refuse_small_disk
from shared.clock import Clock
from shared.databases.translation import translated
from shared.errors import AppError, DatabaseError, DatabaseMissing
from shared.files import open_private

_CHUNK = 1024 * 1024
_PIECE = 16 * 1024
_PAGES_A_STEP = 4096
# Half of a file may change in an increment while that is no more than this.
_SMALL_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Captured:
    """What changed: by source, and the instant that it shows.

    `needs_full` says why an increment cannot carry it; nothing else is of use then. `failures` are
    sources that could not be read; they are as they were. `seen` are those that were compared.
    """

    instant: datetime
    sequence: int
    deltas: Mapping[str, Delta]
    seen: frozenset[str]
    same_instant: bool
    failures: Mapping[str, AppError] = field(default_factory=dict)
    needs_full: str | None = None


class Capture:
    """Captures the `sources`, which `watch` watches; copies are made in `folder`, and removed."""

    def __init__(
        self,
        sources: Sequence[Source],
        watch: ChangeWatch,
        folder: Path,
        clock: Clock,
        *,
        busy_timeout: float,
        number: Callable[[], int],
    ) -> None:
        self._sources = sources
        self._watch = watch
        self._folder = folder
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._number = number
        # What was written since it was last captured, as far as it was noticed.
        self.pending: set[str] = set()
        # Whether the copies of the next capture stay until `remove_copies`.
        self.keeps_copies = False
        self.copies: dict[str, Path] = {}

    def remove_copies(self) -> None:
        """Remove the copies that were kept."""
        for path in self.copies.values():
            remove_file(path)
        self.copies = {}

    def poll(self) -> None:
        """Notice what was written since the last poll."""
        self.pending |= self._watch.changed()

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def take(self, shadows: Mapping[str, Shadow], progress: ProgressSink) -> Captured:
        """What leads from the `shadows` to the present, of the `pending` sources.

        With them go the sources that are written until the gates are closed. What was compared is
        pending no more. Raises the error of a source where none can be read, `DiskFull`, and what
        `progress` raises.
        """
        failures: dict[str, AppError] = {}
        sequence: list[int] = []
        self.remove_copies()
        if self.keeps_copies:
            self.pending |= set(shadows)

        def in_the_gates() -> None:
            self.poll()
            sequence[:] = [self._number()]

        with ExitStack() as stack:
            pins = []
            for source in self._sources:
                try:
                    _refuse_unusable(source)
                    pins.append(open_pin(stack, source, self._busy_timeout))
                except (DatabaseError, LinkDangling) as error:
                    failures[source.name] = error
            gated = [pin for pin in pins if pin.gated]
            while True:
                try:
                    instant = pin_together(
                        gated, self._clock, self._busy_timeout, progress, in_the_gates
                    )
                    break
                except PinFailed as failed:
                    failures[failed.source.name] = failed.error
                    gated = [pin for pin in gated if pin.source != failed.source]
            pins = [pin for pin in pins if pin in gated or not pin.gated]
            if not pins and failures:
                raise next(iter(failures.values()))
            needed = [pin for pin in pins if pin.source.name in self.pending]
            refuse_small_disk([pin.source for pin in needed], self._folder)
            deltas, seen, why = {}, set(), None
            for pin in needed:
                name = pin.source.name
                if name not in shadows:
                    why = why or f"{name} is not in the chain"
                    continue
                try:
                    delta = self._compared(pin, shadows[name])
                except DatabaseError as error:
                    failures[name] = error
                    continue
                if isinstance(delta, str):
                    why = why or f"{name}: {delta}"
                    continue
                seen.add(name)
                if not delta.is_empty:
                    deltas[name] = delta
        if why is None:
            self.pending -= seen
        return Captured(
            instant,
            sequence[0],
            deltas,
            frozenset(seen),
            same_instant=all(pin.gated for pin in needed) and not failures,
            failures=failures,
            needs_full=why,
        )

    def _compared(self, pin: Pin, shadow: Shadow) -> Delta | str:
        """What leads from a shadow to what a pin holds still, or why that needs a full."""
        path = self._folder / f"{pin.source.name}.copy"
        remove_file(path)
        try:
            with translated(what(pin.source)):
                if not pin.gated:
                    begin_read(pin.connection)
                _copy(pin.connection, path)
                pin.connection.execute("ROLLBACK")
            refuse_changed(pin)
            found = compare(path, shadow)
            if self.keeps_copies:
                self.copies[pin.source.name] = path
            return found
        finally:
            if pin.source.name not in self.copies:
                remove_file(path)


def compare(path: Path, shadow: Shadow) -> Delta | str:
    """What leads from a shadow to the database file at `path`; a text says why a full is needed."""
    size = shadow.page_size
    with path.open("rb", buffering=0) as copy:
        if page_size_of(os.pread(copy.fileno(), 100, 0)) != size:
            return "its page size has changed"
        pages_after = os.fstat(copy.fileno()).st_size // size
        most = min(MOST_CHANGED_BYTES, max(_SMALL_BYTES, pages_after * size // 2)) // size
        pages: dict[int, bytes] = {}
        offset = 0
        while new := os.pread(copy.fileno(), _CHUNK, offset):
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


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    open_private(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        connection.backup(target, pages=_PAGES_A_STEP)


def _refuse_unusable(source: Source) -> None:
    refuse_dangling_link(source)
    try:
        size = source.path.stat().st_size
    except OSError as error:
        raise DatabaseMissing(
            f"{what(source)} cannot be reached: {error.strerror}",
            f"If it was lost, restore it: python -m backups restore --only {source.name} "
            "--in-place --yes",
        ) from error
    if not size:  # SQLite would unlink the `-wal` as it opens it
        raise DatabaseMissing(
            f"{what(source)} has zero bytes",
            "Keep the -wal beside it, if there is one. Then: python -m backups doctor",
        )
