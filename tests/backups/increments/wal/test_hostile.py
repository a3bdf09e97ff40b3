"""A -wal, and SQLite's index of it, in which anything may be."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.increments.wal import file as wal_file
from backups.increments.wal.file import (
    ContinuityLost,
    LogEnd,
    committed,
    header_at,
    position_at,
    read_frames,
    read_header,
)
from backups.increments.wal.index import WalIndex, parse_index
from tests.support.memory import folder_in_memory
from tests.support.wal_capture import ScannedFrame, connect, scan

Damage = list[tuple[int, bytes]]
SIZE = 32 + 40 * (512 + 24)
damages = st.lists(st.tuples(st.integers(0, SIZE), st.binary(min_size=1, max_size=40)), max_size=4)


def a_log(spill: bool) -> tuple[bytes, LogEnd]:
    """A log of small pages, its end: single-page commits, or one transaction of many pages."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "live.db")
        with closing(connect(path)) as live:
            live.execute("PRAGMA page_size=512")
            live.execute("PRAGMA journal_mode=WAL").fetchone()
            live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
            if spill:
                live.execute("INSERT INTO t (b) VALUES (randomblob(10000))")
            else:
                live.execute("INSERT INTO t VALUES (1, randomblob(300))")
                live.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                for _ in range(20):
                    live.execute("UPDATE t SET b = randomblob(300)")
            index = WalIndex.find(path.with_name("live.db-shm"))
            end = index.end() if index else None
            assert end
            return path.with_name("live.db-wal").read_bytes(), end


ONE_PAGE, MANY_PAGES = a_log(False), a_log(True)


def damaged(raw: bytes, damage: Damage, cut: int | None) -> bytes:
    """A log with other bytes at some places, cut somewhere."""
    log = bytearray(raw)
    for start, other in damage:
        log[start : start + len(other)] = other
    return bytes(log[:cut])


@contextmanager
def descriptor_of(raw: bytes) -> Iterator[int]:
    """A file with that content."""
    with TemporaryDirectory(dir=folder_in_memory()) as folder:
        path = Path(folder, "live.db-wal")
        path.write_bytes(raw)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def read(raw: bytes, end: LogEnd) -> dict[int, bytes]:
    """All pages of a log up to an end. Raises `ContinuityLost`."""
    with descriptor_of(raw) as descriptor:
        header = header_at(descriptor, end)
        position_at(descriptor, end)
        return committed(read_frames(descriptor, header, 1, end.frame), header, b"", end)


def newest(frames: list[ScannedFrame]) -> dict[int, bytes]:
    """The newest content of each page."""
    return {frame.number: frame.page for frame in frames}


@pytest.mark.parametrize("log", [ONE_PAGE, MANY_PAGES])
def test_a_whole_log(log: tuple[bytes, LogEnd]) -> None:
    """Up to SQLite's end every page is as a scan of all checksums finds it."""
    raw, end = log
    assert read(raw, end) == newest(scan(raw))


@given(damages, st.none() | st.integers(0, SIZE))
def test_no_page_with_a_wrong_checksum(damage: Damage, cut: int | None) -> None:
    """Of transactions of one page, what is returned has passed every checksum; else it is lost."""
    raw, end = ONE_PAGE
    log = damaged(raw, damage, cut)
    try:
        pages = read(log, end)
    except ContinuityLost:
        return
    assert pages == newest(scan(log)[: end.frame])


@given(
    damages,
    st.none() | st.integers(0, SIZE),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 512, 1024, 65536]),
)
def test_whatever_is_in_it(
    damage: Damage, cut: int | None, frame: int, pages: int, page_size: int
) -> None:
    """Nothing but a loss comes of damage; no more pages come back than are in the file."""
    raw, end = MANY_PAGES
    log = damaged(raw, damage, cut)
    for end_of_it in (end, replace(end, frame=frame, pages=pages, page_size=page_size)):
        try:
            found = read(log, end_of_it)
        except ContinuityLost:
            continue
        assert sum(map(len, found.values())) <= len(log)


@given(st.binary(max_size=2 * SIZE))
def test_random_bytes(raw: bytes) -> None:
    """A file of random bytes has no header."""
    with descriptor_of(raw) as descriptor, pytest.raises(ContinuityLost):
        read_header(descriptor)


@given(st.binary(max_size=200) | st.binary(min_size=96, max_size=96))
def test_a_random_index(raw: bytes) -> None:
    """An index of random bytes says nothing."""
    assert parse_index(raw) is None


def within_a_transaction(raw: bytes, end: LogEnd, frame: int) -> LogEnd:
    """An end after a frame that has the right checksum and no commit mark."""
    return replace(end, frame=frame, checksum=scan(raw)[frame - 1].checksum)


def test_an_end_within_a_transaction() -> None:
    """Frames before a commit mark are no change, whatever the index says."""
    raw, end = MANY_PAGES
    with pytest.raises(ContinuityLost, match="does not end a transaction"):
        read(raw, within_a_transaction(raw, end, end.frame - 3))


def test_a_reader_without_the_commit_mark_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that check half a transaction would come back."""
    raw, end = MANY_PAGES
    monkeypatch.setattr(wal_file, "check_commit", lambda *_: None)
    half = read(raw, within_a_transaction(raw, end, end.frame - 3))
    assert half != newest(scan(raw))


def test_an_index_that_is_being_written(tmp_path: Path) -> None:
    """One whose two copies differ, or whose checksum is wrong, says nothing."""
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchone()
        live.execute("CREATE TABLE t (a)")
        copy = path.with_name("live.db-shm").read_bytes()[:48]
    other = copy[:16] + bytes([copy[16] ^ 1]) + copy[17:]
    assert parse_index(copy + copy) is not None
    assert parse_index(copy + other) is None
    assert parse_index(other + other) is None
    assert parse_index(copy) is None
