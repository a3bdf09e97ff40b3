"""A process that writes to a database in every way that SQLite has, at random, until it is killed.

`python -m tests.support.wal_writers PATH SEED`
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen

MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


class Writers:
    """Processes that write to one database, and are killed and started again at random."""

    def __init__(self, path: Path, seed: int, count: int = 3) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._processes = [self._start() for _ in range(count)]
        self.killed = 0

    def _start(self) -> Popen[bytes]:
        return Popen(
            [
                sys.executable,
                "-S",
                str(Path(__file__)),
                str(self._path),
                str(self._random.randrange(10**9)),
            ],
            stderr=DEVNULL,
        )

    def kill_one(self) -> None:
        """Kill one of them with SIGKILL, wherever it is, and start another."""
        index = self._random.randrange(len(self._processes))
        self._processes[index].kill()
        self._processes[index].wait()
        self._processes[index] = self._start()
        self.killed += 1

    def end(self) -> None:
        """Kill all of them."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def writing(path: Path, seed: int) -> Iterator[Writers]:
    """Three of them, for the length of a `with` block."""
    writers = Writers(path, seed)
    try:
        yield writers
    finally:
        writers.end()


def _act(live: sqlite3.Connection, rng: random.Random) -> None:
    rows = live.execute("SELECT count(*) FROM t").fetchone()[0]
    choice = rng.random()
    if choice < 0.55:  # small
        live.execute("INSERT INTO t (b) VALUES (randomblob(?))", (rng.randrange(10, 900),))
        live.execute("UPDATE t SET b = randomblob(300) WHERE a = ?", (rng.randrange(1, 500),))
    elif choice < 0.65:
        live.execute("DELETE FROM t WHERE a % 7 = ?", (rng.randrange(7),))
    elif choice < 0.85:  # large: its pages are written before it ends
        live.execute(f"PRAGMA cache_size={rng.choice((5, 50, 2000))}")
        live.execute("BEGIN IMMEDIATE")
        live.execute("UPDATE t SET b = randomblob(300) WHERE a % ? = 0", (rng.choice((1, 2, 9)),))
        live.execute("INSERT INTO t (b) SELECT randomblob(200) FROM t LIMIT 300")
        live.execute(rng.choice(("COMMIT", "ROLLBACK")))
    elif choice < 0.9:
        live.execute("VACUUM")
    else:
        live.execute(f"PRAGMA wal_checkpoint({rng.choice(MODES)})").fetchone()
    if rows > 2000:
        live.execute("DELETE FROM t WHERE a % 4 > 0")


def _main(path: str, seed: str) -> None:
    rng = random.Random(int(seed))
    while True:
        with (
            contextlib.suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(path, isolation_level=None, timeout=0.2)) as live,
        ):
            live.execute(f"PRAGMA synchronous={rng.choice(('OFF', 'NORMAL', 'FULL'))}")
            live.execute(f"PRAGMA wal_autocheckpoint={rng.choice((0, 20, 1000))}")
            for _ in range(rng.choice((1, 10, 100))):
                _act(live, rng)
                time.sleep(rng.choice((0, 0, 0.001, 0.005)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
