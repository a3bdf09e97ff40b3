"""The chains that this host knows of, as the retention of chains looks at them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from backups.decisions.chains.closure import ChainObject
from backups.decisions.chains.findings import Doubt
from backups.decisions.chains.retention import Chain
from backups.format import chain, chain_keys
from backups.format.chain import End
from backups.sets.chains import objects_table, table
from backups.sets.chains.checks import known_verdicts
from backups.sets.chains.table import ChainRow
from shared.databases.sqlite import Database


class KnownChains:
    """Reads the tables of chains, without the network; raises `DatabaseError`."""

    def __init__(self, known: Database, prefix: str) -> None:
        self._known = known
        self._prefix = prefix

    def all(self) -> list[Chain]:
        """Each chain with a head, and its objects: those whose mark is wrong are not among them."""
        with self._known.reading() as connection:
            return [
                Chain(
                    row.id,
                    row.instance,
                    row.head_mark,
                    row.end is not None and row.end_mark == "valid",
                    tuple(self._objects(connection, row)),
                )
                for row in table.chains(connection)
            ]

    def doubt(self, instance: str) -> Doubt | None:
        """What the newest chain of an installation found wrong with itself last, if anything."""
        with self._known.reading() as connection:
            own = [one for one in table.chains(connection) if one.instance == instance]
            newest = next((one for one in own if one.head_mark == "valid"), None)
            last = known_verdicts(connection, newest.id).last if newest else None
        if newest is None or last is None:
            return None
        differs = False
        if newest.end is not None and newest.end_mark == "valid":
            key = chain_keys.end_key(self._prefix, newest.id)
            differs = chain.load(End, newest.end, key=key, chain=newest.id).reason == "differs"
        return Doubt(newest.id, last.good, last.reason or "", last.at, differs)

    def _objects(self, connection: sqlite3.Connection, row: ChainRow) -> Iterator[ChainObject]:
        yield ChainObject(chain_keys.head_key(self._prefix, row.id), "head", 0, 0, len(row.head))
        if row.end is not None:
            yield ChainObject(chain_keys.end_key(self._prefix, row.id), "end", 0, 0, len(row.end))
        for one in objects_table.objects(connection, row.id):
            # What was not read yet may be needed; what was read, and is not ours, never is.
            if one.mark in (None, "valid"):
                yield ChainObject(
                    one.key, one.kind, one.first, one.last, one.bytes, one.last_instant
                )
        for point in table.points(connection, row.id):
            if point.mark == "valid":
                yield ChainObject(
                    point.key,
                    "increment",
                    point.number,
                    point.number,
                    point.bytes,
                    point.instant,
                )
