"""What this host has copied to a second place and read back: in its catalogue of that place."""

from __future__ import annotations

from shared.databases.sqlite import Database


def noted(known: Database) -> dict[str, int]:
    """The size of each object that was copied and compared, by its key."""
    with known.reading() as connection:
        return {str(key): int(size) for key, size in connection.execute(_ALL)}


_ALL = "SELECT key, bytes FROM copies"


def note(known: Database, key: str, size: int) -> None:
    """Remember that the object under `key` was compared."""
    with known.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO copies(key, bytes) VALUES (?, ?)", (key, size))
