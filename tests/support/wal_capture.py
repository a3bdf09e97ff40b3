"""`FollowedDatabase`: captures by the -wal, each compared with SQLite's own copy of that instant.

It does what the caller of `WalFollower` does: it shuts a gate, lets the read go when that takes
longer than a second, applies the pages to a plain copy of the state before, and compares when
continuity is lost.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backups.increments.wal.file import ContinuityLost, TailTooLarge, running_checksum
from backups.increments.wal.follower import WalFollower
from backups.model import Source

PATIENCE = 1.0  # seconds until the read is let go


@dataclass(frozen=True)
class Capture:
    """How a capture went: the pages of the `-wal`, or why it had to be a comparison.

    `wrong` are the numbers of the pages that are not as SQLite's own copy has them.
    """

    pages: int
    lost: str | None
    wrong: list[int]

    @property
    def how(self) -> str:
        """`wal` or `compare`."""
        return "compare" if self.lost else "wal"


class FollowedDatabase:
    """A database that is followed, and the state that the captures made of it."""

    def __init__(self, path: Path, most_frames: int = 4000) -> None:
        self.path = path
        self.follower = WalFollower(Source("tokens", path), most_frames=most_frames)
        self.state: list[bytes] = []
        self.let_go = 0
        self.before_gates: Callable[[], None] = lambda: None
        self._stack = ExitStack()
        self._stack.callback(self.follower.close)
        self._reopen()

    def _reopen(self) -> None:
        self.gate = self._stack.enter_context(closing(connect(self.path, 0)))
        self.own = self._stack.enter_context(closing(connect(self.path, 5)))
        self._inode = self.path.stat().st_ino

    def __enter__(self) -> Self:
        assert self.capture().how == "compare"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def capture(self, *, hold: bool = True) -> Capture:
        """Capture what changed, by either way, and compare; `hold`: keep the read afterwards."""
        if self.path.stat().st_ino != self._inode:
            self._reopen()
        self.follower.prepare()
        self.before_gates()
        self._shut_gate()
        try:
            self.follower.in_gates()
            self.own.execute("BEGIN")
            self.own.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        finally:
            self.gate.execute("ROLLBACK")
        lost, pages = None, 0
        try:
            change = self.follower.finish()
            pages = len(change.pages)
            if change.pages_after is not None:
                self.state = applied(self.state, change.pages, change.pages_after)
        except (ContinuityLost, TailTooLarge) as reason:
            lost = str(reason)
        copy = own_copy(self.own)
        self.own.execute("ROLLBACK")
        wrong = [] if lost else differing(self.state, copy)
        if lost or not self.state:
            # Page 1 as the log has it: SQLite's copy has other bytes in its header.
            self.state = copy
        if not hold:
            self.follower.let_go()
        return Capture(pages, lost, wrong)

    def _shut_gate(self) -> None:
        since = time.monotonic()
        while not self._gate_is_shut():
            if time.monotonic() > since + PATIENCE and self.follower.held:
                self.follower.let_go()
                self.let_go += 1
            assert time.monotonic() < since + 60, "the write lock was not to be had"
            time.sleep(0.0005)

    def _gate_is_shut(self) -> bool:
        try:
            self.gate.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def connect(path: Path, timeout: float = 5) -> sqlite3.Connection:
    """A connection without implicit transactions."""
    return sqlite3.connect(path, isolation_level=None, timeout=timeout, check_same_thread=False)


def applied(state: list[bytes], pages: dict[int, bytes], pages_after: int) -> list[bytes]:
    """A state with other pages, cut or lengthened."""
    size = len(next(iter(pages.values()))) if pages else len(state[0])
    state = [*state[:pages_after], *[bytes(size)] * (pages_after - len(state))]
    for number, page in pages.items():
        state[number - 1] = page
    return state


def own_copy(pinned: sqlite3.Connection) -> list[bytes]:
    """The pages as SQLite itself copies them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy.db")
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode=OFF")
            copy.execute("PRAGMA synchronous=OFF")
            pinned.backup(copy, pages=1024)
        raw = path.read_bytes()
    size = {0: 65536, 1: 65536}.get(value := int.from_bytes(raw[16:18], "big"), value)
    return [raw[start : start + size] for start in range(0, len(raw), size)]


def differing(state: list[bytes], copy: list[bytes]) -> list[int]:
    """The numbers of the pages that differ, apart from what `Connection.backup` changes."""
    wrong = [
        number
        for number, (one, other) in enumerate(zip(state, copy, strict=False), start=1)
        if one != other and not (number == 1 and _without_header(one) == _without_header(other))
    ]
    shorter, longer = sorted((len(state), len(copy)))
    return [*wrong, *range(shorter + 1, longer + 1)]


def _without_header(page: bytes) -> bytes:
    return page[:18] + page[20:24] + page[28:40] + page[44:92] + page[100:]


# --- logs made and read by hand -----------------------------------------------------------


@dataclass(frozen=True)
class ScannedFrame:
    """A frame with a right checksum."""

    number: int
    page: bytes
    commit: int
    checksum: tuple[int, int]


def scan(raw: bytes) -> list[ScannedFrame]:
    """Every frame of a log up to the last commit mark, with every checksum computed."""
    if len(raw) < 32:
        return []
    size, salts = int.from_bytes(raw[8:12], "big"), raw[16:24]
    order = ">" if raw[3] & 1 else "<"
    seed: tuple[int, int] = struct.unpack_from(">2I", raw, 24)
    frames: list[ScannedFrame] = []
    for start in range(32, len(raw) - size - 23, size + 24):
        head, page = raw[start : start + 24], raw[start + 24 : start + 24 + size]
        seed = running_checksum(seed, head[:8] + page, order)
        if head[8:16] != salts or struct.pack(">2I", *seed) != head[16:]:
            break
        number, commit = struct.unpack_from(">2I", head)
        frames.append(ScannedFrame(number, page, commit, seed))
    while frames and frames[-1].commit == 0:
        frames.pop()
    return frames


def append_transaction(path: Path, after: int, pages: dict[int, bytes], commit: int) -> None:
    """Write a transaction with right salts and checksums behind frame `after` of a -wal.

    As a writer leaves it that dies before SQLite's index has its transaction.
    """
    raw = path.read_bytes()
    size, salts, order = int.from_bytes(raw[8:12], "big"), raw[16:24], ">" if raw[3] & 1 else "<"
    at = 32 + after * (size + 24)
    seed: tuple[int, int] = struct.unpack_from(">2I", raw, at - size - 8 if after else 24)
    frames = b""
    for index, (number, page) in enumerate(pages.items(), start=1):
        head = struct.pack(">2I", number, commit if index == len(pages) else 0)
        seed = running_checksum(seed, head + page, order)
        frames += head + salts + struct.pack(">2I", *seed) + page
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, frames, at)
    finally:
        os.close(descriptor)
