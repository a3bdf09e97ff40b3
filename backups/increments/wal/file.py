"""The frames of a `-wal`: which follow on what was read before, and what is in them.

The file is read by a plain descriptor: no lock lies on it, while one of the main file or of the
`-shm`, when closed, would drop SQLite's own locks (https://www.sqlite.org/walformat.html,
https://www.sqlite.org/howtocorrupt.html). Where the log ends is not decided here: SQLite's index
says it (`wal_index`), because a writer that died between its commit mark and the index, or whose
commit failed in `fsync`, leaves a transaction with right salts, checksums and mark that SQLite does
not count, and writes over. Nothing that the file says is trusted before it is bounded.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST_TAIL_BYTES = 64 << 20  # of frames in one capture
HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24

_MAGIC = 0x377F0682  # the lowest bit says in which byte order the words of a checksum are
_VERSION = 3007000
_HEADER = struct.Struct(">4I8s2I")
_FRAME = struct.Struct(">2I8s2I")
_WORD = 0xFFFFFFFF
_CHUNK_BYTES = 1 << 20

Checksum = tuple[int, int]


class ContinuityLost(Exception):
    """Why the frames do not show all that changed; a comparison does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TailTooLarge(Exception):
    """More was written since the last capture than is read from a `-wal`."""


@dataclass(frozen=True)
class LogEnd:
    """Where SQLite says that the log ends.

    `frame` counts from 1, and is 0 for a log in which nothing is; `pages` is the size of the
    database at that frame, `checksum` is the running one after it.
    """

    salts: bytes
    frame: int
    pages: int
    checksum: Checksum
    page_size: int


@dataclass(frozen=True)
class Position:
    """How far a log was read: its salts, the last frame (0: none), and the 24 bytes before it."""

    salts: bytes
    frame: int
    anchor: bytes


@dataclass(frozen=True)
class WalHeader:
    """The first 32 bytes of a `-wal`, checked."""

    page_size: int
    little_endian: bool
    salts: bytes
    checksum: Checksum

    @property
    def frame_bytes(self) -> int:
        """How long a frame is, in bytes."""
        return FRAME_HEADER_BYTES + self.page_size


@dataclass(frozen=True)
class WalChange:
    """The pages that changed, by number, and how many pages the database has after it.

    `pages_after` is None where nothing was committed. Pages that were there before and are above
    it are gone.
    """

    pages: dict[int, bytes]
    pages_after: int | None


def running_checksum(seed: Checksum, data: bytes, order: str) -> Checksum:
    """SQLite's checksum of `data`, a multiple of 8 bytes, after `seed`; `order` as in `struct`."""
    first, second = seed
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second


def read_header(descriptor: int) -> WalHeader:
    """The header of a `-wal`. Raises `ContinuityLost` where there is none that is whole."""
    raw = os.pread(descriptor, HEADER_BYTES, 0)
    if len(raw) < HEADER_BYTES:
        raise ContinuityLost("the -wal has no header")
    magic, version, page_size, _, salts, *checksum = _HEADER.unpack(raw)
    little_endian = magic == _MAGIC
    if magic & ~1 != _MAGIC or version != _VERSION or not is_page_size(page_size):
        raise ContinuityLost("the header of the -wal is not one of SQLite")
    if running_checksum((0, 0), raw[:24], _order(little_endian)) != tuple(checksum):
        raise ContinuityLost("the header of the -wal is damaged")
    return WalHeader(page_size, little_endian, salts, (checksum[0], checksum[1]))


def is_page_size(size: int) -> bool:
    """Whether a database may have pages of that many bytes."""
    return 512 <= size <= 65536 and size & (size - 1) == 0


def next_frame(position: Position, end: LogEnd, held: bool) -> int:
    """The first frame that was not read yet. Raises `ContinuityLost`.

    `held` says that a read transaction has been open since `position`. While it is, no frame
    after `position` goes into the database, and so no log that has one is begun anew: what was
    committed is in the log of `end`. That is the same log, or, where all of the old one was in
    the database, the next one. Its first salt is one higher; its sequence may be any, because
    each connection has a counter of its own.
    """
    if position.frame == 0 and not held:  # SQLite may give an empty log no salts
        raise ContinuityLost("the log was empty, and no read was held")
    if position.salts == end.salts:
        if position.frame > end.frame:
            raise ContinuityLost(
                f"the log ends at frame {end.frame}, and was read to {position.frame}"
            )
        return position.frame + 1
    if not held:
        raise ContinuityLost("the log was begun anew while no read was held")
    if position.frame == 0 or _first_salt(end.salts) == (_first_salt(position.salts) + 1) & _WORD:
        return 1
    raise ContinuityLost("the log was begun anew more than once")


def header_at(descriptor: int, end: LogEnd) -> WalHeader:
    """The header of the `-wal` that the index describes. Raises `ContinuityLost`.

    Where no frame is in the log, the file may not have its header yet.
    """
    if end.frame == 0:
        return WalHeader(end.page_size, False, end.salts, (0, 0))
    header = read_header(descriptor)
    if (header.salts, header.page_size) != (end.salts, end.page_size):
        raise ContinuityLost("the -wal is not the one that SQLite's index describes")
    return header


def position_at(descriptor: int, end: LogEnd) -> Position:
    """The position at the end of the log. Raises `ContinuityLost` where the file ends before."""
    header = header_at(descriptor, end)
    return Position(end.salts, end.frame, read_anchor(descriptor, header, end.frame))


def read_anchor(descriptor: int, header: WalHeader, frame: int) -> bytes:
    """The 24 bytes before the page of a frame; empty for frame 0. Raises `ContinuityLost`."""
    if frame == 0:
        return b""
    anchor = os.pread(descriptor, FRAME_HEADER_BYTES, _offset(header, frame))
    if len(anchor) < FRAME_HEADER_BYTES or anchor[8:16] != header.salts:
        raise ContinuityLost(f"frame {frame} is not in the -wal any more")
    return anchor


def check_anchor(descriptor: int, header: WalHeader, position: Position) -> None:
    """Raise `ContinuityLost` unless the last frame that was read is still the same."""
    if read_anchor(descriptor, header, position.frame) != position.anchor:
        raise ContinuityLost(f"frame {position.frame} was written over")


def read_frames(descriptor: int, header: WalHeader, first: int, last: int) -> Iterator[bytes]:
    """The frames from `first` to `last`, some whole ones at a time. Raises `ContinuityLost`."""
    step = max(1, _CHUNK_BYTES // header.frame_bytes)
    for frame in range(first, last + 1, step):
        wanted = min(step, last + 1 - frame) * header.frame_bytes
        raw = os.pread(descriptor, wanted, _offset(header, frame))
        if len(raw) < wanted:
            raise ContinuityLost(f"the -wal ends before frame {last}")
        yield raw


def committed(
    chunks: Iterable[bytes], header: WalHeader, before: bytes, end: LogEnd
) -> dict[int, bytes]:
    """The newest content of each page in the frames after the one with the header `before`.

    `before` is empty where they are the first ones of the log; the last of them is that of `end`.
    The checksum is computed of the first frame of each transaction and of the last frame: 0.1 ms
    a frame is too much for all, and each frame's own checksum covers those before it. Raises
    `ContinuityLost` unless they are frames of this log, in this order, and end with a commit.
    """
    pages: dict[int, bytes] = {}
    seed = _checksum(before) if before else header.checksum
    begins, commit, last_seed, last = True, 0, seed, b""
    for chunk in chunks:
        for start in range(0, len(chunk), header.frame_bytes):
            frame = chunk[start : start + header.frame_bytes]
            number, commit, salts, *stored = _FRAME.unpack_from(frame)
            if salts != header.salts or number == 0:
                raise ContinuityLost("a frame of another log lies before the end of this one")
            if begins:
                check_frame(header, seed, frame)
            pages[number] = frame[FRAME_HEADER_BYTES:]
            last_seed, last = seed, frame
            seed, begins = (stored[0], stored[1]), commit != 0
    if last:
        check_frame(header, last_seed, last)
        check_commit(commit, end)
    if seed != end.checksum and end.frame:
        raise ContinuityLost("the last frame is not the one that SQLite's index describes")
    return pages


def check_frame(header: WalHeader, seed: Checksum, frame: bytes) -> None:
    """Raise `ContinuityLost` unless a frame has the checksum that follows on `seed`."""
    order = _order(header.little_endian)
    computed = running_checksum(seed, frame[:8] + frame[FRAME_HEADER_BYTES:], order)
    if computed != _checksum(frame):
        raise ContinuityLost("a frame has a wrong checksum")


def check_commit(commit: int, end: LogEnd) -> None:
    """Raise `ContinuityLost` unless the last frame ends a transaction of the right size."""
    if commit == 0 or commit != end.pages:
        raise ContinuityLost("the last frame does not end a transaction")


def _offset(header: WalHeader, frame: int) -> int:
    return HEADER_BYTES + (frame - 1) * header.frame_bytes


def _checksum(frame: bytes) -> Checksum:
    first, second = struct.unpack_from(">2I", frame, 16)
    return first, second


def _first_salt(salts: bytes) -> int:
    return int.from_bytes(salts[:4], "big")


def _order(little_endian: bool) -> str:
    return "<" if little_endian else ">"
