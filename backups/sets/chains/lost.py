"""Points of our chains that the store lost: missing until a person knows of it, as sets are.

Of each break the first point that cannot be restored any more is noted: what follows it needs it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from backups.decisions.chains.closure import ChainObject
from backups.decisions.chains.points import stretches
from backups.format.chain_keys import instance_of, parse_point_id, point_id, set_of
from backups.model import MissingPoint
from backups.sets import missing
from backups.sets.chains import objects_table, table
from backups.sets.learning.deleted import deleted_ids

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lost:
    """The first point of a chain that could be restored before, and cannot now; `at` is known of
    one that is in no pack."""

    chain: str
    number: int
    at: datetime | None


@dataclass(frozen=True)
class Usable:
    """The numbers of a chain that can be restored, and when those in no pack were made."""

    numbers: set[int]
    instants: Mapping[int, datetime]


def usable(connection: sqlite3.Connection, chain: str) -> Usable:
    """What can be restored of a chain that is marked, as far as this host knows."""
    row = table.chain(connection, chain)
    if row is None or row.head_mark != "valid":
        return Usable(set(), {})
    points = [one for one in table.points(connection, chain) if one.mark == "valid"]
    found = [
        *(
            ChainObject(one.key, one.kind, one.first, one.last, one.bytes)
            for one in objects_table.objects(connection, chain)
            if one.mark in (None, "valid")
        ),
        *(ChainObject(one.key, "increment", one.number, one.number, one.bytes) for one in points),
    ]
    return Usable(
        {number for one in stretches(found) for number in range(one.first, one.last + 1)},
        {one.number: datetime.fromtimestamp(one.instant / 1000, UTC) for one in points},
    )


def lost_since(connection: sqlite3.Connection, chain: str, before: Usable) -> list[Lost]:
    """The first point that could be restored before, and cannot any more, if there is one."""
    first = min(before.numbers - usable(connection, chain).numbers, default=None)
    return [] if first is None else [Lost(chain, first, before.instants.get(first))]


def note_lost(
    connection: sqlite3.Connection,
    lost: Collection[Lost],
    ours: Collection[str] | None,
    now: datetime,
) -> None:
    """Enter the losses of chains of `ours` (None: of all) among the points that are missing.

    What hung on a set that a person has deleted went with it.
    """
    deleted = deleted_ids(connection) if lost else ()
    for one in lost:
        if ours is not None and instance_of(one.chain) not in ours:
            continue
        if set_of(one.chain) in deleted:
            continue
        name = point_id(one.chain, one.number)
        if missing.note(connection, MissingPoint(name, "vanished", one.at or now, now)):
            _log.error(
                "point %s and all that follow it in its chain cannot be restored any more: the "
                "store lost an object, and no prune of this installation removed it",
                name,
            )


def end_missing(connection: sqlite3.Connection) -> None:
    """What is stored again is missing no more."""
    for noted in missing.noted(connection):
        parsed = parse_point_id(noted.point.id)
        if parsed is None:
            continue
        full, number = parsed
        chains = [row.id for row in table.chains(connection) if set_of(row.id) == full]
        if any(number in usable(connection, chain).numbers for chain in chains):
            missing.forget(connection, noted.point.id)
            _log.info("point %s can be restored again", noted.point.id)
