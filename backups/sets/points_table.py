"""The table of restore points in a catalogue: what is asked about all of them at once.

It says nothing that the manifests, verdicts and dated objects beside it do not say; it spares
status, lists and retention the reading of every document. Instants are in microseconds.
One file, because every statement on the table has to agree with how a point is entered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from backups.decisions import order
from backups.decisions.evidence import KeptProof
from backups.decisions.marks import UnmarkedSets
from backups.decisions.order import microseconds
from backups.decisions.succession import InstanceSets
from backups.format import naming
from backups.format.legacy import legacy_object_at, legacy_set
from backups.model import BackupSet, MissingPoint, RestorePoint
from shared.clock import parse_utc
from shared.databases.sqlite import Database

# In the column `protects`, beside 0 and 1: it protects, but a restore has passed it over.
_PROTECTS_ASIDE = 2


@dataclass(frozen=True)
class Noted:
    """A restore point as it is now; `stamped` is the latest instant that a document of it names,
    `ahead` whether that lies in the future."""

    backup_set: BackupSet
    stamped: datetime
    ahead: bool


def note(connection: sqlite3.Connection, noted: Noted) -> None:
    """Enter a restore point as it is now; `put_in_order` gives it its place.

    The number of a set without a valid mark counts for nothing.
    """
    found = noted.backup_set
    legacy = found.kind == "legacy"
    connection.execute(
        "INSERT OR REPLACE INTO points(id, readable, kind, created_at, trigger, instance, sequence,"
        " protects, usable_legacy, bytes, stamped, ahead)"
        " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            found.id,
            found.kind,
            microseconds(found.created_at),
            found.trigger,
            found.instance,
            found.sequence if found.mark == "valid" else None,
            _PROTECTS_ASIDE if found.protects and found.set_aside else found.protects,
            legacy and found.complete and not found.suspect,
            found.bytes,
            microseconds(noted.stamped),
            noted.ahead,
        ),
    )
    connection.execute("DELETE FROM objects WHERE set_id = ?", (found.id,))
    connection.executemany(
        "INSERT OR REPLACE INTO objects(set_id, key, bytes) VALUES (?, ?, ?)",
        [(found.id, stored.key, stored.bytes) for stored in found.objects],
    )


def note_unreadable(connection: sqlite3.Connection, set_id: str, end: datetime) -> None:
    """Enter a set whose manifest cannot be read: it has a place, and is no restore point.

    `end` is the end of the present.
    """
    instant = naming.instant_of(set_id)
    connection.execute(
        "INSERT OR REPLACE INTO points(id, readable, created_at, stamped, ahead)"
        " VALUES (?1, 0, ?2, ?2, ?3)",
        (set_id, microseconds(instant), instant > end),
    )


def invalid(connection: sqlite3.Connection) -> set[str]:
    """The ids of the sets whose manifest was read, and is not one."""
    return {str(row[0]) for row in connection.execute("SELECT id FROM points WHERE NOT readable")}


def forget(connection: sqlite3.Connection, point_id: str) -> None:
    """Remove a restore point."""
    for table, column in (("points", "id"), ("objects", "set_id"), ("seen", "set_id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (point_id,))  # noqa: S608


def outdated(connection: sqlite3.Connection, end: datetime) -> list[str]:
    """The ids of the points of which something has left the future since they were noted, or lies
    there now that the clock was set back; `end` is the end of the present."""
    rows = connection.execute(
        "SELECT id FROM points WHERE ahead AND stamped <= ?1"
        " UNION ALL SELECT id FROM points WHERE stamped > ?1 AND NOT ahead",
        (microseconds(end),),
    )
    return [str(row[0]) for row in rows]


def put_in_order(connection: sqlite3.Connection, ours: Collection[str], now: datetime) -> None:
    """Give each point its place (`decisions/order.py`)."""
    rows = connection.execute(
        "SELECT id, created_at, coalesce(instance, ''), sequence, place FROM points"
    ).fetchall()
    placed = [_Placed(row[0], order.from_microseconds(row[1]), row[2], row[3]) for row in rows]
    found = order.places(placed, ours, now)
    connection.executemany(
        "UPDATE points SET place = ? WHERE id = ?",
        [(place, row[0]) for row, place in zip(rows, found, strict=True) if place != row[4]],
    )


@dataclass(frozen=True)
class _Placed:
    """What the place of a row depends on."""

    id: str
    created_at: datetime
    instance: str
    sequence: int | None


def ids(connection: sqlite3.Connection, before: str | None, limit: int) -> list[str]:
    """At most `limit` ids, newest first, older than the restore point or the set id `before`."""
    row = connection.execute("SELECT place FROM points WHERE id = ?", (before,)).fetchone()
    place = row[0] if row else before
    if row is None and before is not None and naming.is_set_id(before):
        place = f"{microseconds(naming.instant_of(before)):018d}"
    rows = connection.execute(
        "SELECT id FROM points WHERE ?1 IS NULL OR (place, id) < (?2, ?1)"
        " ORDER BY place DESC, id DESC LIMIT ?3",
        (before, place, limit),
    )
    return [str(row[0]) for row in rows]


def ids_between(connection: sqlite3.Connection, since: datetime, end: datetime) -> list[str]:
    """The ids of what was made from `since` to `end`, newest first."""
    rows = connection.execute(
        "SELECT id FROM points WHERE created_at BETWEEN ? AND ? ORDER BY place DESC, id DESC",
        (microseconds(since), microseconds(end)),
    )
    return [str(row[0]) for row in rows]


@dataclass(frozen=True)
class FuturePoint:
    """A set whose time lies in the future, and when this host first saw it."""

    id: str
    instance: str
    sequence: int | None
    learned_at: datetime | None


def future_sets(connection: sqlite3.Connection, end: datetime) -> list[FuturePoint]:
    """The sets after `end`, the latest first."""
    rows = connection.execute(
        "SELECT points.id, instance, sequence, learned_at FROM points JOIN sets USING (id)"
        " WHERE readable AND created_at > ? ORDER BY created_at DESC, points.id DESC",
        (microseconds(end),),
    )
    return [
        FuturePoint(row[0], row[1], row[2], parse_utc(row[3]) if row[3] else None) for row in rows
    ]


def future(connection: sqlite3.Connection, end: datetime) -> list[str]:
    """The ids of what was made later than `end`, latest first."""
    rows = connection.execute(
        "SELECT id FROM points WHERE created_at > ? AND readable ORDER BY place DESC, id DESC",
        (microseconds(end),),
    )
    return [str(row[0]) for row in rows]


def objects(connection: sqlite3.Connection) -> list[tuple[str, str, int]]:
    """Set id, key and stored size of each object of the sets, newest set first.

    Validates no manifest.
    """
    return connection.execute(
        "SELECT sets.id, json_extract(object.value, '$.key'),"
        " json_extract(object.value, '$.bytes')"
        " FROM points CROSS JOIN sets ON sets.id = points.id,"
        " json_each(CASE WHEN readable THEN CAST(manifest AS TEXT) ELSE '{}' END,"
        " '$.objects') AS object ORDER BY place DESC, points.id DESC"
    ).fetchall()


def legacy_group(connection: sqlite3.Connection, prefix: str, set_id: str) -> BackupSet | None:
    """A group of objects that the old scripts left, by its id."""
    if not naming.is_legacy_id(set_id):
        return None
    rows = connection.execute(
        "SELECT key, bytes, modified_at FROM dated_objects WHERE legacy AND day = ?",
        (set_id.removeprefix("legacy-"),),
    )
    found = [legacy_object_at(prefix, row[0], row[1], parse_utc(row[2])) for row in rows]
    members = [member for member in found if member is not None]
    return legacy_set(members) if members else None


def has(connection: sqlite3.Connection, point_id: str) -> bool:
    """Whether there is such a restore point, readable or not."""
    row = connection.execute("SELECT 1 FROM points WHERE id = ?", (point_id,)).fetchone()
    return row is not None


def proofs(connection: sqlite3.Connection) -> Iterator[KeptProof]:
    """The proof of each restore point by its newest document; a hollow one has none.

    The documents of a point that is `readable` were checked when it was noted.
    """
    for found in connection.execute(
        "WITH newest AS (SELECT set_id, max(name) AS name FROM marks"
        " WHERE name LIKE 'proof-%' AND mark = 'valid' GROUP BY set_id)"
        " SELECT points.id, CASE WHEN missing_points.kind = 'hollow' THEN 'none' ELSE"
        " json_extract(CAST(coalesce(verdicts.document, sets.manifest) AS TEXT), '$.proof') END,"
        " newest.name IS NOT NULL"
        " FROM points LEFT JOIN sets ON sets.id = points.id"
        " LEFT JOIN newest ON newest.set_id = points.id"
        " LEFT JOIN verdicts ON verdicts.set_id = newest.set_id AND verdicts.name = newest.name"
        " LEFT JOIN missing_points ON missing_points.id = points.id"
        " WHERE readable"
    ):
        yield KeptProof(id=found[0], proof=found[1] or "none", again=bool(found[2]))


def lost(connection: sqlite3.Connection) -> list[MissingPoint]:
    """What the store lost without our prune, oldest first."""
    rows = connection.execute(
        "SELECT id, kind, created_at, noticed_at FROM missing_points ORDER BY created_at, id"
    )
    return [MissingPoint(row[0], row[1], parse_utc(row[2]), parse_utc(row[3])) for row in rows]


def count(connection: sqlite3.Connection) -> int:
    """How many restore points there are; a set without a valid mark is none."""
    row = connection.execute(
        "SELECT count(*) FROM points LEFT JOIN marks ON set_id = id AND name = 'manifest'"
        " WHERE readable AND (kind = 'legacy' OR mark = 'valid')"
    ).fetchone()
    return int(row[0])


def highest_sequence(connection: sqlite3.Connection, instances: Collection[str]) -> int | None:
    """The highest number of a set of these instances."""
    rows = connection.execute(
        "SELECT instance, max(sequence) FROM points WHERE sequence IS NOT NULL GROUP BY instance"
    )
    return max((row[1] for row in rows if row[0] in instances), default=None)


def newest_protecting(
    connection: sqlite3.Connection, instances: Collection[str] | None, end: datetime
) -> str | None:
    """The id of the newest restore point up to `end` that protects, of `instances` if given.

    What a restore has passed over is not meant.
    """
    rows = connection.execute(
        "SELECT id, instance FROM points WHERE protects AND protects <> ? AND created_at <= ?"
        " ORDER BY place DESC, id DESC",
        (_PROTECTS_ASIDE, microseconds(end)),
    )
    return next((str(row[0]) for row in rows if instances is None or row[1] in instances), None)


def newest_unmarked(connection: sqlite3.Connection, end: datetime) -> list[str]:
    """The ids of the newest set up to `end` of each kind of mark but `valid`, and of the newest
    whole legacy group that no proof has refused; of all of them, the newest first."""
    rows = connection.execute(
        "SELECT id, max(place) AS newest FROM points"
        " JOIN marks ON set_id = id AND name = 'manifest'"
        " WHERE readable AND kind = 'set' AND mark <> 'valid' AND created_at <= ?1 GROUP BY mark"
        " UNION ALL SELECT id, max(place) FROM points"
        " WHERE usable_legacy AND created_at <= ?1 ORDER BY newest DESC",
        (microseconds(end),),
    )
    return [str(row[0]) for row in rows if row[0] is not None]


def unmarked_sets(connection: sqlite3.Connection) -> list[UnmarkedSets]:
    """How many sets of each installation have no valid mark, by its kind and its key."""
    rows = connection.execute(
        "SELECT mark, instance, key, count(*), id, max(place) FROM points"
        " JOIN marks ON set_id = id AND name = 'manifest'"
        " WHERE readable AND kind = 'set' AND mark <> 'valid'"
        " GROUP BY mark, instance, key ORDER BY mark, instance, key"
    )
    return [UnmarkedSets(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def newest_drilled(connection: sqlite3.Connection, end: datetime) -> str | None:
    """The id of the newest restore point up to `end` that passed a drill."""
    row = connection.execute(
        "SELECT id FROM points JOIN marks ON set_id = id"
        " WHERE name LIKE 'drill-%' AND mark = 'valid' AND created_at <= ?"
        " ORDER BY place DESC, id DESC LIMIT 1",
        (microseconds(end),),
    ).fetchone()
    return str(row[0]) if row else None


def every(connection: sqlite3.Connection) -> Iterator[RestorePoint]:
    """All restore points, newest first."""
    for found in connection.execute(
        "SELECT id, kind, created_at, trigger, instance, protects, bytes, sequence,"
        " coalesce(mark, 'unsigned')"  # a legacy group has no manifest
        " FROM points LEFT JOIN marks ON set_id = id AND name = 'manifest'"
        " WHERE readable ORDER BY place DESC, id DESC"
    ):
        yield RestorePoint(
            id=found[0],
            kind=found[1],
            created_at=order.from_microseconds(found[2]),
            trigger=found[3],
            instance=found[4],
            protects=bool(found[5]),
            bytes=found[6],
            sequence=found[7],
            set_aside=found[5] == _PROTECTS_ASIDE,
            mark=found[8],
        )


def by_instance(connection: sqlite3.Connection, end: datetime) -> list[InstanceSets]:
    """What there is of each installation up to `end`, without what restores replaced.

    Only of the sets with a valid mark: a planted one must not make an installation.
    """
    rows = connection.execute(
        "SELECT instance, count(*), min(created_at), max(created_at),"
        " min(CASE WHEN protects THEN created_at END), max(sequence)"
        " FROM points JOIN marks ON set_id = id AND name = 'manifest' AND mark = 'valid'"
        " WHERE readable AND kind = 'set' AND created_at <= ?"
        " GROUP BY instance ORDER BY instance",
        (microseconds(end),),
    )
    return [
        InstanceSets(
            instance=str(row[0]),
            count=int(row[1]),
            first_at=order.from_microseconds(row[2]),
            newest_at=order.from_microseconds(row[3]),
            first_good_at=order.from_microseconds(row[4]) if row[4] is not None else None,
            sequence=row[5],
        )
        for row in rows
    ]


def has_protecting(connection: sqlite3.Connection, instances: Collection[str]) -> bool:
    """Whether any of these instances has a set that protects, in whatever time."""
    rows = connection.execute("SELECT DISTINCT instance FROM points WHERE protects")
    return any(row[0] in instances for row in rows)


def has_restore_points(known: Database) -> bool:
    """Whether a store is known to have any, without asking it or reading a manifest."""
    with known.reading() as connection:
        row = connection.execute(
            "SELECT EXISTS(SELECT 1 FROM sets) OR EXISTS(SELECT 1 FROM dated_objects)"
        ).fetchone()
    return bool(row[0])
