"""The counter that numbers the sets of several hosts: one order for all, whatever their clocks."""

from __future__ import annotations

from shared.databases.engines.connections import Connections

_BEGIN = (
    "BEGIN; INSERT INTO versions(source, version) VALUES ('sequence', 0) ON CONFLICT DO NOTHING"
)


class SharedCounter:
    """Numbers that are given once; raises `DatabaseError`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def take(self, above: int = 0) -> int:
        """The next number, above `above`."""
        return self._raise("greatest(swaps, %s) + 1", above)

    def prepare(self, above: int = 0) -> None:
        """From now on numbers are above `above`: what the store has may be of another engine, or
        newer than this database."""
        self._raise("greatest(swaps, %s)", above)

    def _raise(self, formula: str, above: int) -> int:
        update = f"UPDATE versions SET swaps = {formula} WHERE source = 'sequence' RETURNING swaps"  # noqa: S608
        with self._connections.begin(_BEGIN) as (raw, _):
            number = raw.execute(update.encode(), (above,)).fetchall()[0][0]
            raw.execute("COMMIT")
        return int(number)
