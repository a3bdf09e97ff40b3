"""A writer that never pauses: the read stays held, and reading its log delays no point."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backups.increments import chain as chain_module
from backups.increments.capture import Capture
from backups.increments.wal import database
from backups.increments.wal.file import LogEnd
from backups.increments.wal.follower import WalFollower
from tests.support.bench import Bench
from tests.support.databases import connect
from tests.support.following import begun, following, following_bench, increment_of, rotate, step


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation that follows changes by the `-wal`."""
    with following_bench(tmp_path, follow="wal") as bench:
        yield bench


class _Ends:
    """Where the log ends: further at each look, so often."""

    def __init__(self, commits: int) -> None:
        self._left = commits
        self._frame = 0

    def __call__(self, _: object) -> LogEnd:
        if self._left:
            self._left -= 1
            self._frame += 1
        return LogEnd(b"12345678", self._frame, 1, (0, 0), 4096)


@pytest.mark.parametrize(("commits", "stays"), [(10**9, False), (0, True), (3, True)])
def test_a_lock_that_stays_is_told_from_one_that_is_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int, stays: bool
) -> None:
    """Who commits does not wait for a read; who has the lock and commits nothing may."""
    path = tmp_path / "live.db"
    monkeypatch.setattr(database, "end_of_log", _Ends(commits))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with (
        closing(connect(path)) as writer,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as asking,
    ):
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("BEGIN IMMEDIATE")
        assert database.stays_locked(asking, None) is stays
        writer.execute("ROLLBACK")
        assert not database.stays_locked(asking, None)


def test_a_writer_that_commits_does_not_end_the_held_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look while it has the lock: the next change is still read from the `-wal`."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "one")
        assert step(bench, follower) == "stored"
        rotate(bench, "two")
        assert step(bench, follower) == "stored"
        with monkeypatch.context() as patched, closing(connect(bench.tokens)) as writer:
            patched.setattr(database, "end_of_log", _Ends(10**9))
            writer.execute("BEGIN IMMEDIATE")
            assert step(bench, follower) == "idle"
            writer.execute("ROLLBACK")
        with closing(connect(bench.tokens)) as connection:  # all into the database, and anew
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        rotate(bench, "three")
        assert step(bench, follower) == "stored"
    assert increment_of(bench, chain, 3).how == "wal"


@pytest.mark.parametrize(
    ("place", "name", "outcome"),
    [(WalFollower, "finish", "stored"), (Capture, "_difference", "waiting")],
    ids=["reading the log", "anything else"],
)
def test_reading_a_log_delays_no_point(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, outcome: str
) -> None:
    """It is as much work later; of what else a step computes, waiting saves some."""
    computed = [0.0]
    real: Callable[..., object] = getattr(place, name)

    def costly(*args: object) -> object:
        computed[0] += 10.0
        return real(*args)

    with following(bench) as follower:
        begun(bench, follower)
        for value in ("one", "two"):
            rotate(bench, value)
            assert step(bench, follower) == "stored"
        monkeypatch.setattr(time, "thread_time", lambda: computed[0])
        monkeypatch.setattr(place, name, costly)
        rotate(bench, "three")
        assert step(bench, follower) == "stored"
        rotate(bench, "four")
        assert step(bench, follower, seconds=2) == outcome


def test_the_beginning_of_a_chain_delays_no_point(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full is read as a whole once a day, and the next point comes a second later."""
    computed = [0.0]
    real = chain_module.begin_chain

    def costly(*args: Any) -> Any:
        computed[0] += 10.0
        return real(*args)

    monkeypatch.setattr(time, "thread_time", lambda: computed[0])
    monkeypatch.setattr("backups.increments.follower.begin_chain", costly)
    with following(bench) as follower:
        begun(bench, follower)
        rotate(bench, "one")
        assert step(bench, follower, seconds=2) == "stored"
