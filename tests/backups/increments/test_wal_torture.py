"""Captures by the -wal while three processes write, roll back, vacuum, checkpoint and are killed."""

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
    """How the captures went; each that the -wal showed was right."""
    rng = random.Random(seed)
    how: Counter[str] = Counter()
    with closing(connect(path, 30)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchone()
        live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
    with (
        FollowedDatabase(path, most_frames=rng.choice((200, 4000))) as followed,
        writing(path, seed) as writers,
    ):
        while how.total() < captures:
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
    assert how["wal"] > 30


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
    assert how["wal"] > CAPTURES * 0.3
