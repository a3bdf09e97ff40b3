"""What changed in the live databases since the shadows, of all sources at one instant.

    gates of all sources -> number, pins -> open the gates -> copy -> compare with the shadow
                                                           or read the -wal

A source is copied as it is, page by page, and only if it was written. Unless it is large, it is
checked, for what is damaged is no point, and copied in memory. Of a large one the `-wal` is read
(`wal_follower`); where that does not show all, it is compared like the others. The self-check of
the chain looks at all.

One file, because the instant, the pins and what is made of each source belong together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from backups.errors import LinkDangling
from backups.format.increment import How
from backups.host.removal import remove_file
from backups.increments.compare import compare, copy_pages, most_changed
from backups.increments.shadow import Delta, Shadow
from backups.increments.wal.file import WalChange
from backups.increments.wal.logs import Follow, Logs
from backups.model import ProgressSink, Source
from backups.sources.change_watch import ChangeWatch
from backups.sources.checking.soundness import soundness_of
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
from shared.databases.sqlite import restore_remedy
from shared.databases.translation import translated
from shared.errors import AppError, DatabaseCorrupt, DatabaseError, DatabaseMissing
from shared.files import folder_in_memory

# For so long others wait for a lock while the -wal is held.
_PATIENCE_SECONDS = 1.0
# Up to so many bytes a source is checked before it becomes a point, and copied in memory: some
# 100 ms of computing.
_MOST_BYTES_IN_MEMORY = 32 * 1024 * 1024


@dataclass(frozen=True)
class Captured:
    """What changed: by source, and the instant that it shows.

    `needs_full` says why an increment cannot carry it; nothing else is of use then. `failures` are
    sources that could not be read; they are as they were. `seen` are those that were compared, or
    whose -wal was read; `how` is `wal` where no change was found by comparing.
    """

    instant: datetime
    sequence: int
    deltas: Mapping[str, Delta]
    seen: frozenset[str]
    same_instant: bool
    failures: Mapping[str, AppError] = field(default_factory=dict)
    needs_full: str | None = None
    how: How = "compare"


class Capture:
    """Captures the `sources`, which `watch` watches; copies are made in `folder`, and removed.

    What was captured and not stored has to be said (`forget`): a -wal shows it once.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        watch: ChangeWatch,
        folder: Path,
        clock: Clock,
        *,
        busy_timeout: float,
        number: Callable[[], int],
        follow: Follow = "compare",
    ) -> None:
        self._sources = sources
        self._watch = watch
        self._folder = folder
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._number = number
        self._logs = Logs(follow, busy_timeout)
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

    @property
    def names(self) -> frozenset[str]:
        """The names of the sources."""
        return frozenset(source.name for source in self._sources)

    @property
    def how(self) -> How:
        """`wal` while the -wal of a source is read."""
        return "wal" if self._logs.names else "compare"

    @property
    def log_seconds(self) -> float:
        """How much this thread has computed to read logs: waiting longer saves nothing of it."""
        return self._logs.cpu_seconds

    def poll(self, *, hurry: bool = False) -> None:
        """Notice what was written since the last poll; whoever waits for a held read gets it.

        In a `hurry` a source that cannot be asked now may have been written, else it is noticed
        later.
        """
        self.pending |= self._watch.changed()
        if hurry:
            self.pending |= self._watch.unsure
        self._logs.yield_to_others()

    def forget(self, names: Iterable[str]) -> None:
        """Compare these sources at the next capture: what was captured of them came to nothing."""
        self.pending |= set(names)
        self._logs.forget(names)

    def let_go(self) -> None:
        """Hold no read until the next capture: the store is away, and a -wal must not grow."""
        self._logs.let_go()

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()
        self._logs.close()

    def take(self, shadows: Mapping[str, Shadow], progress: ProgressSink) -> Captured:
        """What leads from the `shadows` to the present, of the `pending` sources.

        With them go the sources that are written until the gates are closed. What was compared is
        pending no more. Raises the error of a source where none can be read, `DiskFull`, and what
        `progress` raises.
        """
        try:
            return self._take(shadows, progress)
        except BaseException:
            self.forget(self._logs.names)
            raise

    def _take(self, shadows: Mapping[str, Shadow], progress: ProgressSink) -> Captured:
        failures: dict[str, AppError] = {}
        self.remove_copies()
        if self.keeps_copies:
            self.pending |= set(shadows)
        with ExitStack() as stack:
            pins, instant, sequence = self._pin(stack, failures, progress)
            read = self._logs.read([pin.source.name for pin in pins if pin.gated])
            self.pending |= {
                name for name, change in read.items() if change is None or change.pages
            }
            needed = [pin for pin in pins if pin.source.name in self.pending]
            refuse_small_disk([pin.source for pin in needed], self._folder)
            deltas, seen, why = {}, set(), None
            for pin in needed:
                name = pin.source.name
                if name not in shadows:
                    why = why or f"{name} is not in the chain"
                    continue
                try:
                    delta = self._difference(pin, shadows[name], read.get(name))
                except DatabaseError as error:
                    failures[name] = error
                    self.forget([name])
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
            sequence,
            deltas,
            frozenset(seen),
            same_instant=all(pin.gated for pin in needed) and not failures,
            failures=failures,
            needs_full=why,
            how="wal" if all(read.get(name) is not None for name in seen) else "compare",
        )

    def _pin(
        self, stack: ExitStack, failures: dict[str, AppError], progress: ProgressSink
    ) -> tuple[list[Pin], datetime, int]:
        """The sources held still at one instant, and its number; `stack` lets them go.

        Raises the error of a source where none can be read.
        """
        sequence: list[int] = []
        pins = []
        for source in self._sources:
            try:
                _refuse_unusable(source)
                pins.append(open_pin(stack, source, self._busy_timeout))
            except (DatabaseError, LinkDangling) as error:
                failures[source.name] = error
        self._logs.prepare(pins)
        gated = [pin for pin in pins if pin.gated]

        def in_the_gates() -> None:
            self.pending |= self._watch.changed()
            sequence[:] = [self._number()]
            failures.update(self._logs.in_gates([pin.source.name for pin in gated]))

        patience = _PATIENCE_SECONDS if self._logs.names else self._busy_timeout
        while True:
            try:
                instant = pin_together(gated, self._clock, patience, progress, in_the_gates)
                break
            except PinFailed as failed:
                if patience < self._busy_timeout:  # a checkpoint may wait for a read of ours
                    self.let_go()
                    patience = self._busy_timeout
                    continue
                failures[failed.source.name] = failed.error
                gated = [pin for pin in gated if pin.source != failed.source]
        pins = [pin for pin in pins if pin in gated or not pin.gated]
        if not pins and failures:
            raise next(iter(failures.values()))
        return pins, instant, sequence[0]

    def _difference(self, pin: Pin, shadow: Shadow, change: WalChange | None) -> Delta | str:
        """What leads from a shadow to the present of its source, or why that needs a full.

        Where copies are kept, one is made also where the -wal shows it: it is checked by that.
        """
        if change is not None and not self.keeps_copies:
            return _of_log(change, shadow)
        kept = self._folder / f"{pin.source.name}.copy" if self.keeps_copies else None
        try:
            with self._copy(pin, kept, checked=change is None) as copy:
                found = compare(copy, shadow) if change is None else _of_log(change, shadow)
        except BaseException:
            if kept:
                remove_file(kept)
            raise
        if kept:
            self.copies[pin.source.name] = kept
        return found

    def _copy(self, pin: Pin, kept: Path | None, *, checked: bool) -> BinaryIO:
        """What the read of a pin sees, which ends with that; the file `kept`, or a nameless one.

        A small one is copied in memory: on the disk of the databases, each second, their writers
        would wait for it.
        """
        with translated(what(pin.source)):
            if not pin.gated:
                begin_read(pin.connection)
            size = _size(pin.connection)
            if checked and size <= _MOST_BYTES_IN_MEMORY:
                _refuse_damaged(pin)
            memory = folder_in_memory(2 * size) if size <= _MOST_BYTES_IN_MEMORY else None
            copy = copy_pages(pin.connection, kept, memory or self._folder)
            pin.connection.execute("ROLLBACK")
        refuse_changed(pin)
        return copy


def _size(connection: sqlite3.Connection) -> int:
    """How many bytes the database has that a read sees."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(page_size)


def _refuse_damaged(pin: Pin) -> None:
    """Raise `DatabaseCorrupt`: a point of it would be the newest, and no restore would take it.

    Only of a small one. A large one is looked at each hour: here, that would take more than its
    share of the time.
    """
    pin.connection.execute("PRAGMA trusted_schema=OFF")
    pin.connection.execute("PRAGMA cell_size_check=ON")
    fault = soundness_of(pin.connection, "quick_check").fault
    if fault:
        raise DatabaseCorrupt(
            f"{what(pin.source)} is damaged, and no point is made of it: {fault}",
            restore_remedy(pin.source.name),
        )


def _of_log(change: WalChange, shadow: Shadow) -> Delta | str:
    """What leads from a shadow to the state after a change that the -wal shows."""
    after = shadow.pages if change.pages_after is None else change.pages_after
    if any(len(page) != shadow.page_size for page in change.pages.values()):
        return "its page size has changed"
    most = most_changed(after, shadow.page_size)
    if len(change.pages) > most:
        return f"more than {most:,} of its {after:,} pages have changed"
    return shadow.delta(change.pages, after)


def _refuse_unusable(source: Source) -> None:
    refuse_dangling_link(source)
    try:
        size = source.path.stat().st_size
    except OSError as error:
        raise DatabaseMissing(
            f"{what(source)} cannot be reached: {error.strerror}",
            f"If it was lost, restore it: ./bot backups restore --only {source.name} "
            "--in-place --yes",
        ) from error
    if not size:  # SQLite would unlink the `-wal` as it opens it
        raise DatabaseMissing(
            f"{what(source)} has zero bytes",
            "Keep the -wal beside it, if there is one. Then: ./bot backups doctor",
        )
