"""A follower that reads the `-wal`: it does, and nothing that came to nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backups.increments.wal import logs
from shared.errors import DiskFull
from shared.store.directory import DirectoryStore
from tests.support.bench import Bench, open_bench
from tests.support.databases import connect
from tests.support.following import (
    SECOND,
    begun,
    following,
    increment_of,
    rotate,
    step,
)
from tests.support.store_wrappers import WatchedStore


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    """An empty folder as a store, which the test breaks."""
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore) -> Iterator[Bench]:
    """An installation that follows changes by the `-wal`."""
    with open_bench(tmp_path, store, follow="wal", change_delay=SECOND, run_by="app") as bench:
        yield bench


def values_in(bench: Bench, chain: str, *numbers: int) -> list[str]:
    """How the changes of these numbers were found."""
    return [increment_of(bench, chain, number).how for number in numbers]


def test_changes_are_read_from_the_wal(bench: Bench) -> None:
    """The first one is found by comparing, because nothing was read before; the others are not."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        for value in ("one", "two", "three"):
            rotate(bench, value)
            assert step(bench, follower) == "stored"
    assert values_in(bench, chain, 1, 2, 3)[-1] == "wal"


@pytest.mark.parametrize(("bytes_of_it", "how"), [(1, "wal"), (2**40, "compare")])
def test_a_large_source_is_read_and_a_small_one_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_of_it: int, how: str
) -> None:
    """`auto` chooses by the size of the file."""
    monkeypatch.setattr(logs, "LARGE_BYTES", bytes_of_it)
    with open_bench(tmp_path, follow="auto", change_delay=SECOND, run_by="app") as bench:
        with following(bench) as follower:
            chain = begun(bench, follower)
            for value in ("one", "two"):
                rotate(bench, value)
                assert step(bench, follower) == "stored"
        assert values_in(bench, chain, 2) == [how]


def test_what_was_read_and_not_stored_is_compared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `-wal` shows a change once: a capture that fails after it must not lose it."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "one")
        assert step(bench, follower) == "stored"
        rotate(bench, "two")
        with monkeypatch.context() as patched:

            def full(*_: object) -> None:
                raise DiskFull("the disk is full", "Make room.")

            patched.setattr("backups.increments.capture.refuse_small_disk", full)
            assert step(bench, follower) == "needs_full"
        assert step(bench, follower) == "stored"
    assert values_in(bench, chain, 2) == ["compare"]
    assert increment_of(bench, chain, 2).sources[0].source == "tokens"


def test_a_store_that_is_away_holds_no_log(bench: Bench, store: WatchedStore) -> None:
    """The read is let go, so that a checkpoint can end, and the change is stored afterwards."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "one")
        assert step(bench, follower) == "stored"
        rotate(bench, "two")
        store.break_at("put", 0)
        assert step(bench, follower) == "waiting"
        with closing(connect(bench.tokens)) as connection:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
        rotate(bench, "three")
        store.mend()
        assert step(bench, follower, seconds=600) == "stored"
    assert increment_of(bench, chain, 2).seq == 2


def test_a_waiting_checkpoint_gets_the_read(bench: Bench) -> None:
    """At the next look, while nothing is written: `TRUNCATE` of another process can end."""
    with following(bench) as follower:
        begun(bench, follower)
        rotate(bench, "one")
        assert step(bench, follower) == "stored"
        with closing(connect(bench.tokens)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert step(bench, follower) == "idle"
            connection.execute("ROLLBACK")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
