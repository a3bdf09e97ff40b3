"""`LiveWriter`: a process of its own that writes to both databases in turn.

Each step commits its number to `tokens` and then the same number to `sessions`, so that at
every instant the one is at most one step ahead of the other.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.warm_python import WarmPopen


class LiveWriter:
    """Writes for the length of a `with` block; `rate` is transactions a second, 0 for no limit."""

    def __init__(self, tokens: Path, sessions: Path, *, rate: int) -> None:
        self._process = WarmPopen(
            [
                sys.executable,
                "-m",
                "tests.support.live_writer",
                *map(str, (tokens, sessions, rate)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "writing\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # ends its input, and so the process


def newest_step(connection: sqlite3.Connection, table: str) -> int:
    """The number of the last step in a table."""
    column = {"tokens": "key", "sessions": "session_id"}[table]
    return int(connection.execute(f"SELECT max({column}) FROM {table}").fetchone()[0])


def _main(tokens_path: str, sessions_path: str, rate: str) -> None:
    pause = 1 / int(rate) if int(rate) else 0
    threading.Thread(target=_end_with_input, daemon=True).start()
    with closing(_open(tokens_path)) as tokens, closing(_open(sessions_path)) as sessions:
        first = newest_step(tokens, "tokens") + 1
        for step in itertools.count(first):
            tokens.execute("INSERT INTO tokens VALUES (printf('%09d', ?), 'value', 0)", (step,))
            time.sleep(pause)
            sessions.execute("INSERT INTO sessions VALUES (printf('%09d', ?), 'user', 0)", (step,))
            time.sleep(pause)
            if step == first:
                print("writing", flush=True)


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
