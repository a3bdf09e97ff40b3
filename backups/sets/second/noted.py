"""What this host has copied to a second place and read back: in its catalogue of that place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from backups.host.catalogues import read_fact
from shared.databases.sqlite import Database


class Noted(NamedTuple):
    """An object as it was compared: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


def noted(known: Database) -> dict[str, Noted]:
    """Each object that was copied and compared, by its key."""
    with known.reading() as connection:
        return {row[0]: Noted(row[1], row[2]) for row in connection.execute(_ALL)}


_ALL = "SELECT key, bytes, sha256 FROM copied"


def note(known: Database, key: str, compared: Noted) -> None:
    """Remember that the object under `key` was compared."""
    with known.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO copied VALUES (?, ?, ?)", (key, *compared))


def may_have(known: Database, stems: Iterable[str]) -> bool:
    """Whether the second place may have an object whose key is one of `stems` and a suffix.

    By what this host knows of it, without the network: a place that was never listed may have any.
    """
    with known.reading() as connection:
        return read_fact(connection, "listed_at") is None or any(
            connection.execute(_ANY, {"stem": stem, "dot": f"{stem}."}).fetchone() for stem in stems
        )


_ANY = """
    SELECT 1 FROM (SELECT key FROM copied UNION ALL SELECT key FROM dated_objects)
    WHERE key = :stem OR substr(key, 1, length(:dot)) = :dot LIMIT 1
"""
