"""The table of restore points that the store lost without our prune: vanished, and hollow.

A vanished point is known from here alone. A hollow one is still a set of the catalogue, which
`SetsTable` reads as one without a proof.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from backups.model import MissingPoint
from shared.clock import format_utc, parse_utc


@dataclass(frozen=True)
class NotedPoint:
    """A missing point, and whether a person has accepted its loss.

    `instance` is who made a hollow set, and None for what vanished. Of a legacy group the
    `keys` are its lost objects; else they are empty.
    """

    point: MissingPoint
    accepted: bool
    instance: str | None
    keys: frozenset[str]


def noted(connection: sqlite3.Connection) -> list[NotedPoint]:
    """All missing points, newest first."""
    rows = connection.execute(
        "SELECT missing.id, missing.kind, missing.created_at, noticed_at, accepted_at, keys,"
        " instance FROM missing_points AS missing LEFT JOIN points"
        " ON points.id = missing.id AND missing.kind = 'hollow'"
        " ORDER BY missing.created_at DESC, missing.id DESC"
    )
    return [
        NotedPoint(
            MissingPoint(row[0], row[1], parse_utc(row[2]), parse_utc(row[3])),
            accepted=row[4] is not None,
            keys=frozenset(json.loads(row[5])),
            instance=row[6],
        )
        for row in rows
    ]


def note(connection: sqlite3.Connection, point: MissingPoint, keys: Collection[str] = ()) -> bool:
    """Enter a missing point; False when it was there. Lost `keys` are added to those noted."""
    row = connection.execute("SELECT keys FROM missing_points WHERE id = ?", (point.id,)).fetchone()
    known = set(json.loads(row[0])) if row else set()
    if row is not None and known >= set(keys):
        return False
    connection.execute(
        "INSERT OR REPLACE INTO missing_points(id, kind, created_at, noticed_at, keys)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            point.id,
            point.kind,
            format_utc(point.created_at),
            format_utc(point.noticed_at),
            json.dumps(sorted(known.union(keys))),
        ),
    )
    return True


def forget(connection: sqlite3.Connection, point_id: str) -> None:
    """Remove a missing point: it is there again, or was removed on purpose."""
    connection.execute("DELETE FROM missing_points WHERE id = ?", (point_id,))


def accept(connection: sqlite3.Connection, at: datetime) -> None:
    """Remember that a person knows of all that are missing now."""
    connection.execute(
        "UPDATE missing_points SET accepted_at = ? WHERE accepted_at IS NULL", (format_utc(at),)
    )


def were_noticed_ahead(connection: sqlite3.Connection, end: datetime) -> bool:
    """Whether one was noticed at a time after `end`: by a clock that was ahead."""
    row = connection.execute(
        "SELECT 1 FROM missing_points WHERE noticed_at > ? LIMIT 1", (format_utc(end),)
    ).fetchone()
    return row is not None


def notice_now(connection: sqlite3.Connection, end: datetime, now: datetime) -> None:
    """Date what was noticed after `end` anew, so that the sets from now on are the newer ones."""
    connection.execute(
        "UPDATE missing_points SET noticed_at = ? WHERE noticed_at > ?",
        (format_utc(now), format_utc(end)),
    )


def is_hollow(connection: sqlite3.Connection, set_id: str) -> bool:
    """Whether the objects of a set were found missing."""
    row = connection.execute(
        "SELECT 1 FROM missing_points WHERE id = ? AND kind = 'hollow'", (set_id,)
    ).fetchone()
    return row is not None
