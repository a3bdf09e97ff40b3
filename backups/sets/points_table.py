"""The table of restore points in this host's records: what is asked about all of them at once.

It says nothing that the manifests, verdicts and dated objects beside it do not say; it spares
status, lists and retention the reading of every document.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta

from backups.format import naming
from backups.model import BackupSet, RestorePoint

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# In the column `protects`, beside 0 and 1: it protects, but a restore has passed it over.
_PROTECTS_ASIDE = 2


def note(connection: sqlite3.Connection, found: BackupSet) -> None:
    """Enter a restore point as it is now; it stands at the time it was made."""
    legacy = found.kind == "legacy"
    connection.execute(
        "INSERT OR REPLACE INTO points(id, place, readable, kind, created_at, trigger, instance,"
        " protects, usable_legacy, bytes) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
        (
            found.id,
            naming.stamp(found.created_at) if legacy else found.id,
            found.kind,
            (found.created_at - _EPOCH) // _MICROSECOND,
            found.trigger,
            found.instance,
            _PROTECTS_ASIDE if found.protects and found.set_aside else found.protects,
            legacy and found.complete and not found.suspect,
            found.bytes,
        ),
    )


def note_unreadable(connection: sqlite3.Connection, set_id: str) -> None:
    """Enter a set whose manifest cannot be read: it has a place, and is no restore point."""
    connection.execute(
        "INSERT OR REPLACE INTO points(id, place, readable) VALUES (?1, ?1, 0)", (set_id,)
    )


def forget(connection: sqlite3.Connection, point_id: str) -> None:
    """Remove a restore point."""
    connection.execute("DELETE FROM points WHERE id = ?", (point_id,))


def ids(connection: sqlite3.Connection, before: str | None, limit: int) -> list[str]:
    """At most `limit` ids, newest first, older than the restore point or instant `before`."""
    row = connection.execute("SELECT place FROM points WHERE id = ?", (before,)).fetchone()
    rows = connection.execute(
        "SELECT id FROM points WHERE ?1 IS NULL OR (place, id) < (?2, ?1)"
        " ORDER BY place DESC, id DESC LIMIT ?3",
        (before, row[0] if row else before, limit),
    )
    return [str(row[0]) for row in rows]


def has(connection: sqlite3.Connection, point_id: str) -> bool:
    """Whether there is such a restore point, readable or not."""
    row = connection.execute("SELECT 1 FROM points WHERE id = ?", (point_id,)).fetchone()
    return row is not None


def count(connection: sqlite3.Connection) -> int:
    """How many restore points there are."""
    row = connection.execute("SELECT count(*) FROM points WHERE readable").fetchone()
    return int(row[0])


def newest_protecting(
    connection: sqlite3.Connection, instances: Collection[str] | None
) -> str | None:
    """The id of the newest restore point that protects, of `instances` if they are given.

    What a restore has passed over is not meant.
    """
    rows = connection.execute(
        "SELECT id, instance FROM points WHERE protects AND protects <> ?"
        " ORDER BY place DESC, id DESC",
        (_PROTECTS_ASIDE,),
    )
    return next((str(row[0]) for row in rows if instances is None or row[1] in instances), None)


def newest_usable_legacy(connection: sqlite3.Connection) -> str | None:
    """The id of the newest whole legacy group that no proof has refused."""
    row = connection.execute(
        "SELECT id FROM points WHERE usable_legacy ORDER BY place DESC, id DESC LIMIT 1"
    ).fetchone()
    return str(row[0]) if row else None


def every(connection: sqlite3.Connection) -> Iterator[RestorePoint]:
    """All restore points, newest first."""
    for found in connection.execute(
        "SELECT id, kind, created_at, trigger, instance, protects, bytes FROM points"
        " WHERE readable ORDER BY place DESC, id DESC"
    ):
        yield RestorePoint(
            id=found[0],
            kind=found[1],
            created_at=_EPOCH + timedelta(microseconds=found[2]),
            trigger=found[3],
            instance=found[4],
            protects=bool(found[5]),
            bytes=found[6],
            set_aside=found[5] == _PROTECTS_ASIDE,
        )
