"""The counter that numbers the sets of several hosts: one order for all, whatever their clocks."""

from __future__ import annotations

from shared.databases.engines.connections import Connections


class SharedCounter:
    """Numbers that are given once; raises `DatabaseError`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def take(self, above: int = 0) -> int:
        """The next number, above `above`."""
        update = (
            "UPDATE versions SET swaps = greatest(swaps, %s) + 1 WHERE source = 'sequence'"
            " RETURNING swaps"
        )
        begin = (
            "BEGIN; INSERT INTO versions(source, version) VALUES ('sequence', 0)"
            " ON CONFLICT DO NOTHING"
        )
        with self._connections.begin(begin) as (raw, _):
            number = raw.execute(update, (above,)).fetchall()[0][0]
            raw.execute("COMMIT")
        return int(number)

    def prepare(self, above: int = 0) -> None:
        """Nothing: `take` is told what is taken already."""
