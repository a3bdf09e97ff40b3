"""The tables of what the store does not give: lost restore points, and documents that are unread.

The store lost a point without our prune: it is vanished, and known from here alone, or hollow. A
hollow one is still a set of the catalogue, which `SetsTable` reads as one without a proof.

A document is unread while the store has it, but does not return it, or while it is not what its
key says. Each refresh of the catalogue writes them anew.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from backups.errors import ManifestUnread
from backups.format import naming
from backups.model import Finding, MissingPoint
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database
from shared.errors import ObjectMissing, StoreAccessDenied, StoreFailing
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger(__name__)

_MOST_NAMED = 3
_UNREAD_HINT = (
    "Check the rights of the key on this object and the bucket's lifecycle rules (an archived "
    "object has to be restored first), then: ./bot backups list. Nothing of that set is deleted"
)


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


def breaks_after(known: Database, set_id: str) -> bool:
    """Whether points of the chain on a set are missing, accepted or not."""
    with known.reading() as connection:
        row = connection.execute(
            "SELECT 1 FROM missing_points WHERE id > ? AND id < ? LIMIT 1",
            (f"{set_id}.", f"{set_id}/"),  # a slash follows the dot in ASCII
        ).fetchone()
    return row is not None


def forget(connection: sqlite3.Connection, point_id: str) -> None:
    """Remove a missing point: it is there again, or was removed on purpose."""
    connection.execute("DELETE FROM missing_points WHERE id = ?", (point_id,))


def forget_with_points(connection: sqlite3.Connection, set_id: str) -> None:
    """Remove a set, and the points of its chain: a person has deleted it."""
    connection.execute(
        "DELETE FROM missing_points WHERE id = ?1 OR (id > ?1 || '.' AND id < ?1 || '/')", (set_id,)
    )


def accept(connection: sqlite3.Connection, at: datetime) -> None:
    """Remember that a person knows of all that are missing now."""
    connection.execute(
        "UPDATE missing_points SET accepted_at = ? WHERE accepted_at IS NULL", (format_utc(at),)
    )


def may_be_stored(
    store: ObjectStore, key: str, size: int | None = None, set_id: str | None = None
) -> bool:
    """False only when the store, asked by name, has no such object.

    One of another `size`, or that says that it is of another set, is not the one.
    """
    try:
        found = store.head(key)
    except ObjectMissing:
        return False
    except (StoreAccessDenied, StoreFailing) as error:
        _log.warning("%s", error.message, extra=fields(key=key))
        return True
    owner = found.metadata.get("set-id")
    return size in (None, found.size) and (set_id is None or owner in (None, set_id))


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


# --- unread documents -------------------------------------------------------------------------


@dataclass(frozen=True)
class UnreadDocument:
    """A document of a set that nobody can read now, and why.

    `version` is that of the object that was read in vain; None while the store does not return it.
    """

    key: str
    set_id: str
    name: str
    reason: str
    version: str | None


class UnreadDocuments:
    """Those of a store, as the last refresh found them. Raises `DatabaseError`."""

    def __init__(self, known: Database) -> None:
        self._known = known

    def all(self) -> list[UnreadDocument]:
        """Each of them, in the order of their keys."""
        with self._known.reading() as connection:
            rows = connection.execute(
                "SELECT key, set_id, name, reason, version FROM unread_documents ORDER BY key"
            )
            return [UnreadDocument(*row) for row in rows]

    def write_anew(self, documents: list[UnreadDocument]) -> None:
        """Remember these in place of those of the last time."""
        if documents == self.all():
            return
        with self._known.transaction() as connection:
            connection.execute("DELETE FROM unread_documents")
            connection.executemany(
                "INSERT INTO unread_documents(key, set_id, name, reason, version)"
                " VALUES (?, ?, ?, ?, ?)",
                [(one.key, one.set_id, one.name, one.reason, one.version) for one in documents],
            )

    def sets(self) -> list[str]:
        """The ids of the sets whose manifest is one of them, newest first."""
        found = {one.set_id for one in self.all() if one.name == naming.MANIFEST}
        return sorted(found, key=naming.instant_of, reverse=True)

    def refuse(self, set_id: str) -> None:
        """Raise `ManifestUnread` when the store has not returned the manifest of a set."""
        for one in self.all():
            if (one.set_id, one.name) == (set_id, naming.MANIFEST):
                raise ManifestUnread(
                    f"the manifest of {set_id} could not be read: {one.reason}", _UNREAD_HINT
                )

    def warnings(self) -> tuple[Finding, ...]:
        """What keeps this host from knowing all that the store has."""
        found = self.all()
        if not found:
            return ()
        reasons = "; ".join(f"{one.key}: {one.reason}" for one in found[:_MOST_NAMED])
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        return (
            Finding(
                "document_unread",
                f"{len(found)} of the documents that describe the sets in the store cannot be "
                f"read, and count for nothing. {reasons}{more}",
                _UNREAD_HINT,
            ),
        )
