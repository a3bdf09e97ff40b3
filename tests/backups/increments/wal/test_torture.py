"""Captures by the -wal while three processes write, vacuum, checkpoint and are killed."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.wal_capture import PATIENCE, FollowedDatabase, connect
from tests.support.wal_writers import writing

CAPTURES = int(os.environ.get("WAL_CAPTURES", "10000"))


def torture(path: Path, captures: int, seed: int) -> Counter[str]:
    """How that many captures of a change went, and the others; what the -wal showed was right."""
    rng = random.Random(seed)
    how: Counter[str] = Counter()
    with closing(connect(path, 30)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchone()
        live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
    with (
        FollowedDatabase(path, most_frames=rng.choice((200, 4000))) as followed,
        writing(path, seed) as writers,
    ):
        while how.total() - how["nothing new"] < captures:
            capture = followed.capture(hold=rng.random() > 0.05)
            assert capture.wrong == [], f"seed {seed}, capture {how.total()}"
            how[capture.lost or ("wal" if capture.pages else "nothing new")] += 1
            if rng.random() < 0.1:
                writers.kill_one()
        how["killed"] = writers.killed
        how["let go"] = followed.let_go
    return how


@pytest.mark.slow
def test_a_hundred_captures_under_torture(tmp_path: Path) -> None:
    """Whatever the writers do, what the -wal shows is what SQLite's own copy has."""
    how = torture(tmp_path / "live.db", 100, seed=1)
    assert how["wal"] > 50


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_captures_under_torture(tmp_path: Path) -> None:
    """The same for longer, with databases and seeds of their own."""
    how: Counter[str] = Counter()
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        how += torture(folder / "live.db", CAPTURES // 10, seed)
    print(dict(how))
    assert how["wal"] > CAPTURES // 2


class _Loop(threading.Thread):
    """Captures, one after another, until it is asked to end; an error of it fails the test."""

    def __init__(self, followed: FollowedDatabase, pause: float) -> None:
        super().__init__()
        self._followed, self._pause = followed, pause
        self._end = threading.Event()
        self.error: BaseException | None = None
        self.captures = 0

    def run(self) -> None:
        try:
            while not self._end.wait(self._pause):
                assert self._followed.capture().wrong == []
                self.captures += 1
        except BaseException as error:  # raised by `stop`
            self.error = error

    def stop(self) -> None:
        self._end.set()
        self.join()
        if self.error:
            raise self.error


def test_another_checkpoint_is_let_through(tmp_path: Path) -> None:
    """TRUNCATE waits for a held read and keeps writers out: letting go ends both, no other does."""
    path = tmp_path / "live.db"
    with closing(connect(path, 30)) as live, closing(connect(path, 30)) as other:
        live.execute("PRAGMA journal_mode=WAL").fetchone()
        live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        with FollowedDatabase(path) as followed:
            live.execute("INSERT INTO t (b) VALUES (1)")
            other.execute("PRAGMA busy_timeout=0")
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 1
            other.execute("PRAGMA busy_timeout=30000")
            answers: list[int] = []
            thread = threading.Thread(
                target=lambda: answers.append(
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                )
            )
            thread.start()
            while thread.is_alive() and _can_write(path):
                time.sleep(0.001)  # until it has the write lock, and waits for our read
            capture = followed.capture()
            thread.join()
            assert (answers, followed.let_go) == ([0], 1)
            assert capture.lost
            assert followed.capture().lost in (None, "the log was begun anew more than once")


def _can_write(path: Path) -> bool:
    with closing(connect(path, 0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        other.execute("ROLLBACK")
        return True


@pytest.mark.soak
def test_how_long_others_wait(tmp_path: Path) -> None:
    """While another process cuts the log each 3 seconds, no writer waits 1.5 seconds."""
    path = tmp_path / "live.db"
    with closing(connect(path, 30)) as live, closing(connect(path, 10)) as other:
        live.execute("PRAGMA journal_mode=WAL").fetchone()
        live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        with FollowedDatabase(path) as followed:
            loop, cut = _Loop(followed, 0.2), threading.Event()
            loop.start()

            def cutting() -> None:
                while not cut.wait(3):
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

            thread = threading.Thread(target=cutting)
            thread.start()
            longest, since = 0.0, time.monotonic()
            while time.monotonic() < since + 30:
                begun = time.monotonic()
                live.execute("INSERT INTO t (b) VALUES (randomblob(300))")
                longest = max(longest, time.monotonic() - begun)
                time.sleep(0.005)
            cut.set()
            thread.join()
            loop.stop()
            print(f"longest wait {longest:.2f} s, let go {followed.let_go} of {loop.captures}")
            assert followed.let_go > 0
            assert longest < PATIENCE + 0.5


@pytest.mark.soak
def test_the_log_at_200_transactions_a_second(tmp_path: Path) -> None:
    """In 60 seconds of 200 transactions a second the -wal stays under 25 MB."""
    path = tmp_path / "live.db"
    with closing(connect(path, 30)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchone()
        live.execute("PRAGMA synchronous=NORMAL").fetchone()
        live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB, c TEXT UNIQUE)")
        with FollowedDatabase(path) as followed:
            loop = _Loop(followed, 1.0)
            loop.start()
            most = count = 0
            since = time.monotonic()
            while (passed := time.monotonic() - since) < 60:
                live.execute(
                    "INSERT OR REPLACE INTO t VALUES (?, randomblob(900), hex(randomblob(9)))",
                    (random.randrange(3000),),
                )
                count += 1
                most = max(most, path.with_name("live.db-wal").stat().st_size)
                time.sleep(max(0.0, count / 200 - passed))
            loop.stop()
            print(f"{count} transactions, {loop.captures} captures, -wal of {most / 1e6:.1f} MB")
            assert most < 25_000_000
