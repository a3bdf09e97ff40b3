"""`WalFollower`: what changed in one live database since the last time, read from its `-wal`.

A read transaction is open between two captures, so that the log is not begun anew unseen; the
next one begins before the last one ends. A capture has three parts, so that the write lock is held
for as little as can be: `prepare` reads most of what was written while writers go on, `in_gates`
begins the next read and reads the rest while nobody writes, `finish` checks and returns it. Where
the frames do not show all, `finish` raises `ContinuityLost`: the caller compares what
`connection` sees with what it had, and following goes on from there.

SQLite 3.7.0 to 3.51.2 can lose a commit that begins the log anew while a checkpoint runs
(https://www.sqlite.org/wal.html): the only checkpoint here runs while the write lock is held.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from backups.increments.wal.database import (
    OpenDatabase,
    checkpoint,
    end_of_log,
    end_read,
    files_of,
    open_database,
    stays_locked,
)
from backups.increments.wal.file import (
    MOST_TAIL_BYTES,
    ContinuityLost,
    LogEnd,
    Position,
    TailTooLarge,
    WalChange,
    WalHeader,
    check_anchor,
    committed,
    header_at,
    next_frame,
    position_at,
    read_frames,
)
from backups.model import Source
from backups.sources.links import real_path
from backups.sources.pins import begin_read, what
from shared.databases.translation import translated

MOST_FRAMES = 4000  # above it the log is brought into the database


@dataclass
class _Tail:
    """What was read of the log since the last capture, and not returned yet."""

    pages: dict[int, bytes] = field(default_factory=dict)
    pages_after: int | None = None
    bytes_read: int = 0
    fault: ContinuityLost | TailTooLarge | None = None


@dataclass(frozen=True)
class _Frames:
    """The frames up to the end of the log; `before` is the header of the one before them."""

    header: WalHeader
    before: bytes
    chunks: Iterable[bytes]


class WalFollower:
    """Follows one source in WAL mode. One thread at a time may use it.

    The first capture, and each after a loss, has nothing to go on from: its `finish` raises
    `ContinuityLost`, and the next one goes on from it.
    """

    def __init__(
        self, source: Source, busy_timeout: float = 5.0, most_frames: int = MOST_FRAMES
    ) -> None:
        self._source = source
        self._path = real_path(source.path)
        self._busy_timeout = busy_timeout
        self._most_frames = most_frames
        self._open: OpenDatabase | None = None
        self._position: Position | None = None  # None: the next capture has to be a comparison
        self._tail = _Tail()
        self._rest: _Frames | None = None
        self._end: LogEnd | None = None

    @property
    def held(self) -> bool:
        """Whether a read transaction is open."""
        return self.connection is not None

    @property
    def connection(self) -> sqlite3.Connection | None:
        """The connection whose read sees the instant of the last gate; None where none is held.

        It belongs to the follower: the caller neither ends its transaction nor closes it.
        """
        if self._open is None or not self._open.reader.in_transaction:
            return None
        return self._open.reader

    # --- the three parts of a capture -------------------------------------------------------

    def prepare(self) -> None:
        """Open what is not open, and read most of what was written. Outside the gates.

        May be called again where the gates could not be shut: what was read is kept. Raises
        `ContinuityLost` where the source is not in WAL mode or not writable, so that it can only
        be compared; `DatabaseError` and its subclasses where it cannot be opened.
        """
        if self._open is not None and files_of(self._path) != self._open.files:
            self.close()
        if self._open is None:
            self._open = open_database(self._source, self._busy_timeout)
        position = self._position
        if position is None or self._tail.fault is not None:
            return
        end = end_of_log(self._open.index)
        if end is None:  # it is just being written: all is left for the gate
            return
        try:
            self._take(self._frames(self._open.wal, position, end), end)
            self._position = position_at(self._open.wal, end)
        except (ContinuityLost, TailTooLarge) as fault:
            self._tail = _Tail(fault=fault)

    def in_gates(self) -> None:
        """Begin the next read, and read the rest of the log, while a gate holds the write lock.

        Comes after `prepare`. Raises `DatabaseError` and its subclasses: then no read is held, and
        the next `finish` raises `ContinuityLost`.
        """
        opened = self._open
        if opened is None:
            raise RuntimeError("in_gates() without prepare()")
        try:
            with translated(what(self._source)):
                begin_read(opened.next_reader)
                self._read_rest(opened)
                end_read(opened.reader)
                if self._end is not None and self._end.frame > self._most_frames:
                    checkpoint(opened.checkpointer)
                    # A read that begins when all is in the database lets the log begin anew.
                    end_read(opened.next_reader)
                    begin_read(opened.next_reader)
            opened.reader, opened.next_reader = opened.next_reader, opened.reader
        except BaseException:
            self.forget("the capture before failed")
            self.let_go()
            raise
        if files_of(self._path) != opened.files:
            self.forget("the database or its -wal was removed or replaced")
            self.let_go()

    def finish(self) -> WalChange:
        """What was committed between the gate before and the last one. Outside the gates.

        Raises `ContinuityLost` where the frames do not show it, and `TailTooLarge` where it is
        more than `MOST_TAIL_BYTES`. What `connection` sees, where it is not None, is then to be
        compared, and the next capture goes on from there.
        """
        tail, rest, end = self._tail, self._rest, self._end
        self._rest = self._end = None
        try:
            if tail.fault is None and rest is not None and end is not None:
                self._take(rest, end)
        except ContinuityLost as fault:
            tail.fault = fault
        self._tail = _Tail()
        if tail.fault is not None:
            raise tail.fault
        after = tail.pages_after
        if after is None:
            return WalChange({}, None)
        return WalChange({n: page for n, page in tail.pages.items() if n <= after}, after)

    # --- letting go -------------------------------------------------------------------------

    def let_go(self) -> None:
        """End the read: another's checkpoint waits for it, or the log must not grow.

        The next capture goes on only where the log is still the same one.
        """
        if self._open is not None:
            end_read(self._open.reader)
            end_read(self._open.next_reader)

    def yield_to_others(self) -> None:
        """Let go where a checkpoint of somebody else waits for the read.

        One that waits keeps the write lock, and nothing is committed. A writer that never pauses
        has the lock at most looks, too, but commits: letting go for it would let it begin the log
        anew unseen, and a large database would be compared again and again.
        """
        if self._open is None or not self.held:
            return
        connection = self._open.checkpointer
        try:
            connection.execute("PRAGMA busy_timeout=0")
            if stays_locked(connection, self._open.index):
                self.let_go()
        finally:
            connection.execute(f"PRAGMA busy_timeout={int(self._busy_timeout * 1000)}")

    def forget(self, reason: str = "the change before was not stored") -> None:
        """Make the next `finish` raise `ContinuityLost`: what was returned came to nothing."""
        self._position = self._rest = self._end = None
        self._tail = _Tail(fault=ContinuityLost(reason))

    def close(self) -> None:
        """Let go, and close all; `prepare` opens it again."""
        opened, self._open = self._open, None
        self.forget("the database was closed and opened again")
        if opened is not None:
            opened.stack.close()

    # --- reading ----------------------------------------------------------------------------

    def _read_rest(self, opened: OpenDatabase) -> None:
        """Read what `prepare` has not, up to the next position, which is the end of the log."""
        position, self._position = self._position, None
        self._rest, self._end = None, end_of_log(opened.index)
        try:
            if self._end is None:
                raise ContinuityLost("SQLite's index of the -wal cannot be read on this host")
            self._position = position_at(opened.wal, self._end)
            if position is None:
                raise ContinuityLost("nothing was captured before")
            if self._tail.fault is None:
                frames = self._frames(opened.wal, position, self._end)
                self._rest = _Frames(frames.header, frames.before, list(frames.chunks))
        except (ContinuityLost, TailTooLarge) as fault:
            self._tail = _Tail(fault=self._tail.fault or fault)

    def _frames(self, wal: int, position: Position, end: LogEnd) -> _Frames:
        """The frames after `position`. Raises `ContinuityLost`, and `TailTooLarge`."""
        first = next_frame(position, end, self.held)
        header = header_at(wal, end)
        before = b""
        if first > 1:
            check_anchor(wal, header, position)
            before = position.anchor
        self._tail.bytes_read += (end.frame + 1 - first) * header.frame_bytes
        if self._tail.bytes_read > MOST_TAIL_BYTES:
            raise TailTooLarge(f"more than {MOST_TAIL_BYTES} bytes of the -wal are new")
        return _Frames(header, before, read_frames(wal, header, first, end.frame))

    def _take(self, frames: _Frames, end: LogEnd) -> None:
        """Add what is in frames to the tail. Raises `ContinuityLost`."""
        pages = committed(frames.chunks, frames.header, frames.before, end)
        if pages:
            self._tail.pages.update(pages)
            self._tail.pages_after = end.pages
