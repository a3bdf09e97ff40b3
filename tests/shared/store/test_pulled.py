"""Tests of `shared.store.pulled`."""

from __future__ import annotations

import threading

import pytest

from shared.errors import StoreUnreachable
from shared.store.object_store import Sink
from shared.store.pulled import pulled

PIECES = [b"a" * 10, b"", b"b" * 3, b"c" * 1000]


def get(sink: Sink) -> None:
    """Bring all pieces."""
    for piece in PIECES:
        sink.write(piece)


@pytest.mark.parametrize("size", [1, 7, 10_000, -1])
def test_what_comes_is_read_in_its_order(size: int) -> None:
    """In reads of any size, to an end that stays one."""
    found = []
    with pulled(get) as source:
        while piece := source.read(size):
            found.append(piece)
        assert source.read(size) == b""

    assert b"".join(found) == b"".join(PIECES)
    assert size < 0 or max(map(len, found)) <= size


def test_what_the_get_raises_is_raised_where_it_is_read() -> None:
    """After what had come before it."""

    def broken(sink: Sink) -> None:
        sink.write(b"before")
        raise StoreUnreachable("no answer")

    with pulled(broken) as source:
        assert source.read() == b"before"
        with pytest.raises(StoreUnreachable):
            source.read()
        with pytest.raises(StoreUnreachable):
            source.drain()


def test_a_reader_that_leaves_ends_the_get() -> None:
    """At its next piece: nothing goes on behind the reader's back, and little waits in memory."""
    written: list[int] = []
    ended = threading.Event()

    def endless(sink: Sink) -> None:
        try:
            while True:
                sink.write(b"x")
                written.append(1)
        finally:
            ended.set()

    with pulled(endless) as source:
        assert source.read() == b"x"
    assert ended.is_set()
    assert len(written) <= 4


def test_the_get_waits_for_its_reader() -> None:
    """An object of any size takes the memory of a few pieces."""
    written: list[int] = []

    def count(sink: Sink) -> None:
        for number in range(100):
            sink.write(b"x")
            written.append(number)

    with pulled(count) as source:
        for _ in range(50):
            assert source.read() == b"x"
            assert len(written) <= 53
        source.drain()
    assert len(written) == 100
