"""`python -m benchmarks.writer TOKENS SESSIONS RATE FIRST`: writes to both databases in turn.

The newest row of `sessions` by its `uuid` is the last that was written to it: see `NEWEST_ROW`.
It says that it has begun, writes until standard input ends, and prints what each transaction
cost as JSON: when it began (monotonic), the seconds until it had the write lock, and in all.
"""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import select
import sqlite3
import sys
import time
from contextlib import closing

BUSY_TIMEOUT_SECONDS = 30.0
# The number of the last transaction that is in a copy of `sessions`, as `w000000017`; those with an
# even number are. Any other text that is a `uuid` comes before.
NEWEST_ROW = "SELECT max(uuid) FROM sessions"
_VALUES = 1000


def main(tokens_path: str, sessions_path: str, rate: str, first: str) -> None:
    """Write until told to stop; transactions are numbered from `first`, which is odd."""
    told = []
    pause = 1 / float(rate)
    with closing(_connect(tokens_path)) as tokens, closing(_connect(sessions_path)) as sessions:
        # Values that are there already can be read, so that no backup of them looks damaged.
        rows = tokens.execute("SELECT value FROM tokens LIMIT ?", (_VALUES,)).fetchall()
        values = [str(value) for (value,) in rows] or [_random() for _ in range(_VALUES)]
        print("writing", flush=True)
        number, due = int(first), time.monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            due = max(due + pause, time.monotonic())
            connection = tokens if number % 2 else sessions
            began = time.monotonic()
            connection.execute("BEGIN IMMEDIATE")
            locked = time.monotonic()
            _write(connection, number, values)
            connection.execute("COMMIT")
            number += 1
            told.append((began, locked - began, time.monotonic() - began))
    print(json.dumps(told), flush=True)


def _random() -> str:
    return f"gAAAAA{base64.urlsafe_b64encode(os.urandom(150)).decode()}"


def _write(connection: sqlite3.Connection, number: int, values: list[str]) -> None:
    key = f"SHOPIFY_ACCESS_TOKEN_shop-{number % 10_000}"
    if number % 2:
        connection.execute(
            "INSERT INTO tokens VALUES (?, ?, 'token')"
            " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
            # A row that gets the value that it has is no change.
            (key, random.choice(values)),
        )
    else:
        connection.execute(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            (secrets.token_hex(32), f"w{number:09}", int(time.time())),
        )


def _connect(path: str) -> sqlite3.Connection:
    """A connection as the app's storages have it."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


if __name__ == "__main__":
    main(*sys.argv[1:])
