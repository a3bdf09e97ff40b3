"""Live databases with realistic rows: values like Fernet's, which do not compress."""

from __future__ import annotations

import base64
import os
import random
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared import sessions, tokens
from shared.sqlite import Database

MEGABYTE = 1024 * 1024


def token_value() -> str:
    """Base64 of random bytes, 200 to 400 characters, with the beginning that Fernet's have."""
    return "gAAAAA" + base64.urlsafe_b64encode(os.urandom(random.randrange(147, 294))).decode()


def make_databases(folder: Path) -> tuple[Path, Path]:
    """`tokens.db` and `sessions.db`, empty, as the app makes them."""
    paths = folder / "tokens.db", folder / "sessions.db"
    for path, migrations in zip(paths, (tokens.MIGRATIONS, sessions.MIGRATIONS), strict=True):
        Database(path, migrations).close()
    return paths


def add_tokens(path: Path, count: int) -> None:
    """Add so many rows to `tokens.db`."""
    with _filling(path) as connection:
        connection.executemany(
            "INSERT INTO tokens VALUES (?, ?, 'token')",
            ((tokens.shopify_access_token_key(f"shop-{n}"), token_value()) for n in range(count)),
        )


def grow_tokens(path: Path, megabytes: int) -> None:
    """Add rows to `tokens.db` until the file has about that size."""
    rows = _page_rows()
    with _filling(path) as connection:
        while _bytes(connection) < megabytes * MEGABYTE:
            connection.executemany(
                "INSERT INTO tokens VALUES (?, ?, 'token')", (next(rows) for _ in range(1000))
            )


def add_sessions(path: Path, count: int) -> None:
    """Add so many sessions that have just begun."""
    with _filling(path) as connection:
        connection.executemany(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            ((secrets.token_hex(32), str(n), int(time.time())) for n in range(count)),
        )


@contextmanager
def _filling(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction that goes around the WAL, which would be as large as the rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")


def _page_rows() -> Iterator[tuple[str, str]]:
    number = 0
    while True:
        yield tokens.facebook_access_token_key(f"{number:012d}"), token_value()
        number += 1


def _bytes(connection: sqlite3.Connection) -> int:
    found = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    )
    return int(found.fetchone()[0])
