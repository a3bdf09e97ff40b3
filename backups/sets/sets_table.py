"""What this host has noted of the sets in the store: manifests, verdicts, and dated objects.

Each change brings the restore point of its set up to date, in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime

from backups.errors import ManifestInvalid, SetNotFound
from backups.format import manifest, naming
from backups.format.legacy import legacy_object_at, legacy_set
from backups.host.state import HostState, points_reader, set_points_reader
from backups.model import BackupSet
from backups.sets import points_table
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database


@dataclass(frozen=True)
class DatedObject:
    """An object under a dated key; `legacy` when the old scripts left it."""

    key: str
    bytes: int
    modified_at: datetime
    legacy: bool


class SetsTable:
    """The rows about the sets below `prefix`. Raises `DatabaseError` when they cannot be used."""

    def __init__(self, records: Database, prefix: str) -> None:
        self._records = records
        self._state = HostState(records)
        self.prefix = prefix
        self._points_are_noted = False

    # --- reading ------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read in which every set and group has its point."""
        if not self._points_are_noted:
            self._note_missing_points()
            self._points_are_noted = True
        with self._records.reading() as connection:
            yield connection

    def read(self, connection: sqlite3.Connection, set_id: str) -> BackupSet:
        """A set or a group; raises `SetNotFound`, and `ManifestInvalid` for a bad manifest."""
        if naming.is_legacy_id(set_id):
            return self._judged(connection, self._legacy(connection, set_id))
        row = connection.execute("SELECT manifest FROM sets WHERE id = ?", (set_id,)).fetchone()
        if row is None:
            raise _not_found(set_id)
        backup_set = manifest.load_manifest(row[0], prefix=self.prefix, expected_id=set_id)
        return self._judged(connection, backup_set)

    def documents(self) -> dict[str, set[str]]:
        """The names of the documents that are known of each set or group."""
        with self._records.reading() as connection:
            known = {row[0]: {naming.MANIFEST} for row in connection.execute("SELECT id FROM sets")}
            for set_id, name in connection.execute("SELECT set_id, name FROM verdicts"):
                known.setdefault(set_id, set()).add(name)
        return known

    def dated_objects(self) -> Mapping[str, tuple[int, str]]:
        """Size and time of change (as text) of each dated object that is known, by its key."""
        with self.reading() as connection:
            rows = connection.execute("SELECT key, bytes, modified_at FROM dated_objects")
            return {row[0]: (row[1], row[2]) for row in rows}

    def claimed_on(self, days: Collection[str]) -> set[str]:
        """The keys of the objects of the known sets of these days, as in `2025-07-04`."""
        ids = {day.replace("-", "") for day in days}
        with self.reading() as connection:
            rows = connection.execute("SELECT id FROM sets").fetchall() if ids else []
            sets = [self._readable(connection, row[0]) for row in rows if row[0][:8] in ids]
        return {stored.key for known in sets if known is not None for stored in known.objects}

    def day(self, key: str) -> str:
        """The day in a dated key, as in `2025-07-04`; empty below another prefix."""
        parsed = naming.parse_data_key(self.prefix, key)
        return parsed.day.isoformat() if parsed else ""

    def last_contact_at(self) -> datetime | None:
        """When the store last answered."""
        return self._state.last_contact_at()

    # --- writing ------------------------------------------------------------------------

    def note_contact(self, at: datetime) -> None:
        """Remember that the store has answered."""
        self._state.set_last_contact_at(at)

    def add_manifest(self, set_id: str, document: bytes) -> None:
        """Take a manifest in; the caller has checked it."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sets(id, manifest) VALUES (?, ?)", (set_id, document)
            )
            self._note(connection, set_id)

    def add_verdict(self, set_id: str, name: str, document: bytes) -> None:
        """Take a verdict of any kind in; the caller has checked it."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO verdicts(set_id, name, document) VALUES (?, ?, ?)",
                (set_id, name, document),
            )
            self._note(connection, set_id)

    def forget(self, set_id: str) -> None:
        """Drop what is known of a set that the store no longer holds."""
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM sets WHERE id = ?", (set_id,))
            connection.execute("DELETE FROM verdicts WHERE set_id = ?", (set_id,))
            points_table.forget(connection, set_id)

    def note_dated(self, gone: Collection[str], learnt: Collection[DatedObject]) -> None:
        """Drop the dated objects under the keys `gone`, and enter what was learnt of others."""
        if not gone and not learnt:
            return
        with self._records.transaction() as connection:
            connection.executemany(
                "DELETE FROM dated_objects WHERE key = ?", [(key,) for key in gone]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO dated_objects(key, bytes, modified_at, legacy, day)"
                " VALUES (?, ?, ?, ?, ?)",
                [
                    (row.key, row.bytes, format_utc(row.modified_at), row.legacy, self.day(row.key))
                    for row in learnt
                ],
            )
            for day in {self.day(key) for key in (*gone, *(row.key for row in learnt))}:
                self._note_group(connection, day)

    # --- restore points -----------------------------------------------------------------

    def _note_missing_points(self) -> None:
        """Note what an older program has left, or one that read for another prefix."""
        reader = f"{manifest.FORMAT} {self.prefix}"
        with self._records.reading() as connection:
            if points_reader(connection) == reader:
                return
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM points")
            for (set_id,) in connection.execute("SELECT id FROM sets").fetchall():
                self._note(connection, set_id)
            keys = [row[0] for row in connection.execute("SELECT key FROM dated_objects")]
            connection.executemany(
                "UPDATE dated_objects SET day = ? WHERE key = ?",
                [(self.day(key), key) for key in keys],
            )
            for day in {self.day(key) for key in keys}:
                self._note_group(connection, day)
            set_points_reader(connection, reader)

    def _note(self, connection: sqlite3.Connection, set_id: str) -> None:
        """Bring the point of a set or a group up to its documents."""
        try:
            points_table.note(connection, self.read(connection, set_id))
        except ManifestInvalid:
            points_table.note_unreadable(connection, set_id)
        except SetNotFound:
            points_table.forget(connection, set_id)

    def _note_group(self, connection: sqlite3.Connection, day: str) -> None:
        if day:
            self._note(connection, naming.legacy_id(date.fromisoformat(day)))

    def _readable(self, connection: sqlite3.Connection, set_id: str) -> BackupSet | None:
        try:
            return self.read(connection, set_id)
        except ManifestInvalid:
            return None

    def _legacy(self, connection: sqlite3.Connection, set_id: str) -> BackupSet:
        rows = connection.execute(
            "SELECT key, bytes, modified_at FROM dated_objects WHERE legacy AND day = ?",
            (set_id.removeprefix("legacy-"),),
        )
        objects = [legacy_object_at(self.prefix, row[0], row[1], parse_utc(row[2])) for row in rows]
        members = [member for member in objects if member is not None]
        if not members:
            raise _not_found(set_id)
        return legacy_set(members)

    def _judged(self, connection: sqlite3.Connection, backup_set: BackupSet) -> BackupSet:
        """The set with its newest proof and its acceptance applied, in the order of time."""
        rows = connection.execute(
            "SELECT name, document FROM verdicts WHERE set_id = ?", (backup_set.id,)
        ).fetchall()
        proofs = sorted((row for row in rows if row[0].startswith("proof-")), reverse=True)[:1]
        accepted = max((_stamp(row[0]) for row in rows if row[0].startswith("accept-")), default="")
        if accepted:
            backup_set = replace(backup_set, suspect=None)
        for name, document in proofs:
            verdict = manifest.load_verdict(document, expected_id=backup_set.id)
            backup_set = manifest.with_verdict(backup_set, verdict)
            if accepted >= _stamp(name):
                backup_set = replace(backup_set, suspect=None)
        return backup_set


def _stamp(name: str) -> str:
    return name.partition("-")[2]


def _not_found(set_id: str) -> SetNotFound:
    return SetNotFound(
        f"there is no restore point {set_id!r}", "List them with: python -m backups list"
    )
