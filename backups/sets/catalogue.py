"""The catalogue: what this host knows of the restore points in the store.

The store is the truth. The catalogue is a copy of its manifests and verdicts in this host's
records, so that status is answered without the network and a listing reads only what is new.
"""

from __future__ import annotations

import io
import logging
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime

from backups.errors import ManifestInvalid, SetNotFound
from backups.format import manifest, naming
from backups.format.legacy import legacy_object_at, legacy_set
from backups.host.state import HostState, points_reader, set_points_reader
from backups.model import BackupSet, RestorePoint
from backups.sets import points_table
from shared.clock import Clock, format_utc, parse_utc
from shared.databases.sqlite import Database
from shared.errors import (
    ObjectMissing,
    StoreAccessDenied,
    StoreFailing,
    StoreListingIncomplete,
)
from shared.logs import fields
from shared.store.object_store import ObjectInfo, ObjectStore

_log = logging.getLogger(__name__)

_IDS_AT_A_TIME = 200


class Catalogue:
    """Restore points by id, newest first. Raises `DatabaseError` when it cannot be used."""

    def __init__(self, records: Database, store: ObjectStore, prefix: str, clock: Clock) -> None:
        self._records = records
        self._state = HostState(records)
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._points_are_noted = False

    def refresh(self) -> None:
        """Learn what the store holds now: one listing, and a get for each new document.

        Raises `StoreError`; then the catalogue is as it was, or a part further. A set is forgotten
        when the store, asked for its manifest by name, has none: a listing that lacks one that is
        there raises `StoreListingIncomplete`, after all else was learnt.
        """
        known = self._known()  # before the listing: a set made during it must not be forgotten
        documents: dict[str, set[str]] = {}
        dated: dict[str, ObjectInfo] = {}
        for found in self._store.list(self._prefix):
            parsed = naming.parse_set_key(self._prefix, found.key)
            data = naming.parse_data_key(self._prefix, found.key)
            if parsed and _is_read(*parsed):
                documents.setdefault(parsed[0], set()).add(parsed[1])
            elif data and data.instant is None:
                dated[found.key] = found
        unlisted = self._learn_documents(documents, known)
        self._learn_dated(dated)
        self.note_contact()
        if unlisted:
            raise StoreListingIncomplete(
                "the store's listing lacks manifests that it has when asked by name: "
                + ", ".join(sorted(unlisted)[:5])
                + (" and others" if len(unlisted) > 5 else ""),
                "Nothing is removed until the listing is whole. Run python -m backups list again; "
                "if it stays so, ask the store's provider.",
            )

    def _learn_documents(
        self, stored: Mapping[str, set[str]], known: Mapping[str, set[str]]
    ) -> list[str]:
        """Take in what is new and forget what is gone; the sets that the listing only lacks."""
        stored = {
            of: names
            for of, names in stored.items()
            if naming.MANIFEST in names or naming.is_legacy_id(of)
        }
        unlisted = []
        for set_id in known.keys() - stored.keys():
            if naming.MANIFEST in known[set_id] and self._may_be_stored(set_id):
                unlisted.append(set_id)
            else:
                self.forget(set_id)
        for set_id, names in stored.items():
            for name in sorted(names - known.get(set_id, set()), key=_manifest_first):
                self._fetch(set_id, name)
        return unlisted

    def _may_be_stored(self, set_id: str) -> bool:
        """False only when the store, asked for the manifest by name, says that there is none."""
        try:
            self._store.head(naming.manifest_key(self._prefix, set_id))
        except ObjectMissing:
            return False
        except (StoreAccessDenied, StoreFailing) as error:
            _log.warning("%s", error.message, extra=fields(set_id=set_id))
        return True

    def _learn_dated(self, stored: Mapping[str, ObjectInfo]) -> None:
        """Find the objects of the old scripts: dated, of no set, and without our metadata.

        Only a HEAD shows the metadata, so each object is asked once.
        """
        with self._reading() as connection:
            rows = connection.execute("SELECT key, bytes, modified_at FROM dated_objects")
            known = {row[0]: (row[1], row[2]) for row in rows}
        gone = known.keys() - stored.keys()
        new = [o for o in stored.values() if known.get(o.key) != (o.size, _modified(o))]
        claimed = self._claimed_on({self._day(one.key) for one in new})
        learnt = []
        for one in new:
            try:
                ours = one.key in claimed or "set-id" in self._store.head(one.key).metadata
            except ObjectMissing:
                continue  # gone since the listing
            learnt.append((one.key, one.size, _modified(one), not ours, self._day(one.key)))
        if not gone and not learnt:
            return
        with self._records.transaction() as connection:
            connection.executemany(
                "DELETE FROM dated_objects WHERE key = ?", [(key,) for key in gone]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO dated_objects(key, bytes, modified_at, legacy, day)"
                " VALUES (?, ?, ?, ?, ?)",
                learnt,
            )
            for day in {self._day(key) for key in (*gone, *(row[0] for row in learnt))}:
                self._note_group(connection, day)

    def _claimed_on(self, days: Collection[str]) -> set[str]:
        """The keys that known sets of these days claim: such an object needs no HEAD."""
        ids = {day.replace("-", "") for day in days}
        with self._reading() as connection:
            rows = connection.execute("SELECT id FROM sets").fetchall() if ids else []
            found = [self._readable(connection, row[0]) for row in rows if row[0][:8] in ids]
        return {stored.key for one in found if one is not None for stored in one.objects}

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

    def get(self, set_id: str) -> BackupSet:
        """One restore point; raises `SetNotFound`, and `ManifestInvalid` for a bad manifest."""
        with self._reading() as connection:
            return self._read(connection, set_id)

    def sets(self, before: str | None = None) -> Iterator[BackupSet]:
        """Restore points with a readable manifest, newest first, older than `before`."""
        while True:
            with self._reading() as connection:
                ids = points_table.ids(connection, before, _IDS_AT_A_TIME)
            for set_id in ids:
                try:
                    yield self.get(set_id)
                except ManifestInvalid as error:
                    _log.warning(error.message, extra=fields(set_id=set_id))
                except SetNotFound:
                    continue  # another process has learnt in between that it is gone
            if len(ids) < _IDS_AT_A_TIME:
                return
            before = ids[-1]

    def points(self) -> list[RestorePoint]:
        """All restore points, newest first, without their objects: quick, however many."""
        with self._reading() as connection:
            return list(points_table.every(connection))

    def newest_protecting(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """The newest complete, proven, unsuspected set, of `instances` if they are given."""
        with self._reading() as connection:
            set_id = points_table.newest_protecting(connection, instances)
            return self._read(connection, set_id) if set_id else None

    def latest(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """What `latest` means: the newest protecting set, else the newest legacy group.

        The sets of `instances` come first: beside another host's, ours are what is meant.
        """
        with self._reading() as connection:
            found = (
                points_table.newest_protecting(connection, instances)
                or points_table.newest_protecting(connection, None)
                or points_table.newest_usable_legacy(connection)
            )
            return self._read(connection, found) if found else None

    def newest_drilled(self) -> str | None:
        """The id of the set that passed the newest drill."""
        with self._records.reading() as connection:
            row = connection.execute(
                "SELECT set_id FROM verdicts WHERE name LIKE 'drill-%' ORDER BY name DESC LIMIT 1"
            ).fetchone()
        return str(row[0]) if row else None

    def verdict_names(self, set_id: str) -> list[str]:
        """The names of the verdicts on a set."""
        with self._records.reading() as connection:
            rows = connection.execute("SELECT name FROM verdicts WHERE set_id = ?", (set_id,))
            return [str(row[0]) for row in rows]

    def count(self) -> int:
        """How many restore points with a readable manifest are known."""
        with self._reading() as connection:
            return points_table.count(connection)

    def has(self, set_id: str) -> bool:
        """Whether a set with this id is known."""
        with self._reading() as connection:
            return points_table.has(connection, set_id)

    def note_contact(self) -> None:
        """Remember that the store has just answered."""
        self._state.set_last_contact_at(self._clock.now())

    def last_contact_at(self) -> datetime | None:
        """When the store last answered."""
        return self._state.last_contact_at()

    # --- restore points -----------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A read in which every set and group has its point."""
        if not self._points_are_noted:
            self._note_missing_points()
            self._points_are_noted = True
        with self._records.reading() as connection:
            yield connection

    def _note_missing_points(self) -> None:
        """Note what an older program has left, or one that read for another prefix."""
        reader = f"{manifest.FORMAT} {self._prefix}"
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
                [(self._day(key), key) for key in keys],
            )
            for day in {self._day(key) for key in keys}:
                self._note_group(connection, day)
            set_points_reader(connection, reader)

    def _note(self, connection: sqlite3.Connection, set_id: str) -> None:
        """Bring the point of a set or a group up to its documents."""
        try:
            points_table.note(connection, self._read(connection, set_id))
        except ManifestInvalid:
            points_table.note_unreadable(connection, set_id)
        except SetNotFound:
            points_table.forget(connection, set_id)

    def _note_group(self, connection: sqlite3.Connection, day: str) -> None:
        if day:
            self._note(connection, naming.legacy_id(date.fromisoformat(day)))

    def _read(self, connection: sqlite3.Connection, set_id: str) -> BackupSet:
        """See `get`."""
        if naming.is_legacy_id(set_id):
            return self._judged(connection, self._legacy(connection, set_id))
        row = connection.execute("SELECT manifest FROM sets WHERE id = ?", (set_id,)).fetchone()
        if row is None:
            raise _not_found(set_id)
        found = manifest.load_manifest(row[0], prefix=self._prefix, expected_id=set_id)
        return self._judged(connection, found)

    def _readable(self, connection: sqlite3.Connection, set_id: str) -> BackupSet | None:
        try:
            return self._read(connection, set_id)
        except ManifestInvalid:
            return None

    def _legacy(self, connection: sqlite3.Connection, set_id: str) -> BackupSet:
        rows = connection.execute(
            "SELECT key, bytes, modified_at FROM dated_objects WHERE legacy AND day = ?",
            (set_id.removeprefix("legacy-"),),
        )
        found = [legacy_object_at(self._prefix, row[0], row[1], parse_utc(row[2])) for row in rows]
        members = [one for one in found if one is not None]
        if not members:
            raise _not_found(set_id)
        return legacy_set(members)

    def _day(self, key: str) -> str:
        """The day in a dated key, as in `2025-07-04`; empty below another prefix."""
        parsed = naming.parse_data_key(self._prefix, key)
        return parsed.day.isoformat() if parsed else ""

    # --- learning -----------------------------------------------------------------------

    def _known(self) -> dict[str, set[str]]:
        with self._records.reading() as connection:
            known = {row[0]: {naming.MANIFEST} for row in connection.execute("SELECT id FROM sets")}
            for set_id, name in connection.execute("SELECT set_id, name FROM verdicts"):
                known.setdefault(set_id, set()).add(name)
        return known

    def _fetch(self, set_id: str, name: str) -> None:
        buffer = io.BytesIO()
        try:
            self._store.get(f"{naming.sets_prefix(self._prefix)}{set_id}/{name}.json", buffer)
            if name == naming.MANIFEST:
                # Kept even when it cannot be read: `get` then says why.
                self.add_manifest(set_id, buffer.getvalue())
            else:
                if name.startswith("proof-"):
                    manifest.load_verdict(buffer.getvalue(), expected_id=set_id)
                self.add_verdict(set_id, name, buffer.getvalue())
        except ObjectMissing:
            pass  # pruned since the listing
        except ManifestInvalid as error:
            _log.warning(error.message, extra=fields(set_id=set_id, name=name))

    def _judged(self, connection: sqlite3.Connection, found: BackupSet) -> BackupSet:
        """The set with its newest proof and its acceptance applied, in the order of time."""
        rows = connection.execute(
            "SELECT name, document FROM verdicts WHERE set_id = ?", (found.id,)
        ).fetchall()
        proofs = sorted((row for row in rows if row[0].startswith("proof-")), reverse=True)[:1]
        accepted = max((_stamp(row[0]) for row in rows if row[0].startswith("accept-")), default="")
        if accepted:
            found = replace(found, suspect=None)
        for name, document in proofs:
            found = manifest.with_verdict(
                found, manifest.load_verdict(document, expected_id=found.id)
            )
            if accepted >= _stamp(name):
                found = replace(found, suspect=None)
        return found


def has_restore_points(records: Database) -> bool:
    """Whether the records know of any, without asking the store or reading a manifest."""
    with records.reading() as connection:
        row = connection.execute(
            "SELECT EXISTS(SELECT 1 FROM sets) OR EXISTS(SELECT 1 FROM dated_objects)"
        ).fetchone()
    return bool(row[0])


def _stamp(name: str) -> str:
    return name.partition("-")[2]


def _modified(found: ObjectInfo) -> str:
    return format_utc(found.modified_at)


def _not_found(set_id: str) -> SetNotFound:
    return SetNotFound(
        f"there is no restore point {set_id!r}", "List them with: python -m backups list"
    )


def _is_read(set_id: str, name: str) -> bool:
    """Whether a document says something about a set; a legacy group has no manifest."""
    if name == naming.MANIFEST:
        return not naming.is_legacy_id(set_id)
    return name.startswith(("proof-", "accept-", "drill-"))


def _manifest_first(name: str) -> tuple[bool, str]:
    return name != naming.MANIFEST, name
