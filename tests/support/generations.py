"""Generations of the bot's own data, which make a restore visible, and damage to it.

`write_generation` gives both databases the rows of one generation and nothing else, so that
what a database holds tells where it came from.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from tests.support.installation import TOKEN_ENCRYPTION_KEY

SOURCES = ("tokens", "sessions")
# What `tokens.db` has beside its tokens.
BESIDE_TOKENS = ("requests", "owners")
Rows = list[tuple[Any, ...]]
LiveStateName = Literal[
    "healthy", "corrupt body", "corrupt header", "missing", "leftover", "zero bytes"
]
LIVE_STATES: tuple[LiveStateName, ...] = (
    "healthy",
    "corrupt body",
    "corrupt header",
    "missing",
    "leftover",
    "zero bytes",
)


def live_path(folder: Path, source: str) -> Path:
    """The live database of a source."""
    return folder / "data" / f"{source}.db"


def write_generation(
    folder: Path, name: str, *, rows: int = 12, bytes_a_row: int = 200, key: str | None = None
) -> None:
    """Make the rows of generation `name` all that the two databases hold, with the bot's code."""
    cipher = TokenCipher((key or TOKEN_ENCRYPTION_KEY,))
    with closing(TokenStorage(live_path(folder, "tokens"), cipher)) as tokens:
        for found in tokens.keys():  # noqa: SIM118 - no dictionary
            tokens.delete(found)
        for number in range(rows):
            tokens.put(f"{name}-{number:05d}", f"{name} {number} ".ljust(bytes_a_row, "."))
    with closing(SessionStorage(live_path(folder, "sessions"), SystemClock())):
        pass
    with closing(connect(live_path(folder, "sessions"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM sessions")
        now = int(SystemClock().now().timestamp())
        connection.executemany(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            [
                (f"{name}-{number:05d}", f"user of {name}".ljust(bytes_a_row, "."), now)
                for number in range(rows)
            ],
        )
        connection.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode to a file that must exist, for `closing`."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=30
    )


def rows_of(path: Path) -> Rows:
    """Every row of the table that is called as the file is; it must be sound."""
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()
        own = [one for one in tables if path.stem != "tokens" or one[0] not in BESIDE_TOKENS]
        assert own == [(path.stem,)], "a stale journal was applied"
        return connection.execute(f"SELECT * FROM {path.stem} ORDER BY 1").fetchall()


def generations_in(path: Path) -> set[str]:
    """The names of the generations whose rows a database holds."""
    return {str(row[0]).rpartition("-")[0] for row in rows_of(path)}


def generation_of(path: Path) -> str:
    """The one generation that a sound database holds."""
    found = generations_in(path)
    assert len(found) == 1, f"{path} holds {found or 'nothing'}"
    return found.pop()


def side_files(path: Path) -> list[Path]:
    """Where `-wal`, `-shm` and `-journal` of a database would be."""
    return [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]


def bring_into(state: LiveStateName, path: Path) -> None:
    """Do to a live database what the name of the state says; nobody may have it open."""
    if state == "corrupt body":
        checkpoint(path)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
    elif state == "corrupt header":
        checkpoint(path)
        with path.open("r+b") as file:
            file.write(b"this is no database at all")
    elif state == "missing":
        for one in (path, *side_files(path)):
            one.unlink(missing_ok=True)
    elif state == "leftover":
        leave_wal_behind(path)
        path.unlink()
    elif state == "zero bytes":
        checkpoint(path)
        with path.open("r+b") as file:
            file.truncate(0)


def checkpoint(path: Path) -> None:
    """Bring everything into the main file, as a clean shutdown does."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def leave_wal_behind(path: Path) -> None:
    """Leave rows in `-wal` and a `-shm` beside the file, as a killed process does."""
    copies: dict[Path, bytes] = {}
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE stale(x)")
        connection.executemany("INSERT INTO stale VALUES (?)", [("stale" * 99,)] * 99)
        for side in side_files(path)[:2]:
            copies[side] = side.read_bytes()
    for side, content in copies.items():
        side.write_bytes(content)
