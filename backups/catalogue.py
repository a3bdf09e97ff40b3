"""The catalogue: what this host knows of the restore points in the store.

The store is the truth. The catalogue is a copy of its manifests and verdicts in this host's
records, so that status is answered without the network and a listing reads only what is new.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from backups import manifest, naming
from backups.errors import ManifestInvalid, SetNotFound
from backups.model import BackupSet, legacy_object
from shared.clock import Clock, format_utc, parse_utc
from shared.errors import ObjectMissing
from shared.logs import fields
from shared.object_store import ObjectInfo, ObjectStore
from shared.sqlite import Database

_log = logging.getLogger(__name__)


class Catalogue:
    """Restore points by id, newest first. Raises `DatabaseError` when it cannot be used."""

    def __init__(self, records: Database, store: ObjectStore, prefix: str, clock: Clock) -> None:
        self._records = records
        self._store = store
        self._prefix = prefix
        self._clock = clock

    def refresh(self) -> None:
        """Learn what the store holds now: one listing, and a get for each new document.

        Raises `StoreError`; then the catalogue is as it was, or a part further.
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
        self._learn_documents(documents, known)
        self._learn_dated(dated)
        self.note_contact()

    def _learn_documents(
        self, stored: Mapping[str, set[str]], known: Mapping[str, set[str]]
    ) -> None:
        stored = {
            of: names
            for of, names in stored.items()
            if naming.MANIFEST in names or naming.is_legacy_id(of)
        }
        for set_id in known.keys() - stored.keys():
            self.forget(set_id)
        for set_id, names in stored.items():
            for name in sorted(names - known.get(set_id, set()), key=_manifest_first):
                self._fetch(set_id, name)

    def _learn_dated(self, stored: Mapping[str, ObjectInfo]) -> None:
        """Find the objects of the old scripts: dated, of no set, and without our metadata.

        Only a HEAD shows the metadata, so each object is asked once.
        """
        with self._records.reading() as connection:
            rows = connection.execute("SELECT key, bytes, modified_at FROM dated_objects")
            known = {row[0]: (row[1], row[2]) for row in rows}
        gone = known.keys() - stored.keys()
        new = [o for o in stored.values() if known.get(o.key) != (o.size, _modified(o))]
        claimed = {o.key for found in self.sets() for o in found.objects} if new else set()
        learnt = []
        for one in new:
            try:
                ours = one.key in claimed or "set-id" in self._store.head(one.key).metadata
            except ObjectMissing:
                continue  # gone since the listing
            learnt.append((one.key, one.size, _modified(one), not ours))
        with self._records.transaction() as connection:
            connection.executemany(
                "DELETE FROM dated_objects WHERE key = ?", [(key,) for key in gone]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO dated_objects(key, bytes, modified_at, legacy)"
                " VALUES (?, ?, ?, ?)",
                learnt,
            )

    def add_manifest(self, set_id: str, document: bytes) -> None:
        """Take a manifest in; the caller has checked it."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sets(id, manifest) VALUES (?, ?)", (set_id, document)
            )

    def add_verdict(self, set_id: str, name: str, document: bytes) -> None:
        """Take a verdict of any kind in; the caller has checked it."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO verdicts(set_id, name, document) VALUES (?, ?, ?)",
                (set_id, name, document),
            )

    def forget(self, set_id: str) -> None:
        """Drop what is known of a set that the store no longer holds."""
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM sets WHERE id = ?", (set_id,))
            connection.execute("DELETE FROM verdicts WHERE set_id = ?", (set_id,))

    def get(self, set_id: str) -> BackupSet:
        """One restore point; raises `SetNotFound`, and `ManifestInvalid` for a bad manifest."""
        if naming.is_legacy_id(set_id):
            return self._judged(self._legacy(set_id))
        with self._records.reading() as connection:
            row = connection.execute("SELECT manifest FROM sets WHERE id = ?", (set_id,)).fetchone()
        if row is None:
            raise _not_found(set_id)
        found = manifest.load_manifest(row[0], prefix=self._prefix, expected_id=set_id)
        return self._judged(found)

    def sets(self, before: str | None = None) -> Iterator[BackupSet]:
        """Restore points with a readable manifest, newest first, older than `before`."""
        ordered = self._ordered_ids()
        if before is not None:
            place = next((order for order, set_id in ordered if set_id == before), before)
            ordered = [(order, set_id) for order, set_id in ordered if order < place]
        for _, set_id in ordered:
            try:
                yield self.get(set_id)
            except ManifestInvalid as error:
                _log.warning(error.message, extra=fields(set_id=set_id))
            except SetNotFound:
                continue  # another process has learnt in between that it is gone

    def newest_protecting(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """The newest complete, proven, unsuspected set, of `instances` if they are given."""
        return next(
            (
                found
                for found in self.sets()
                if found.protects and (instances is None or found.instance in instances)
            ),
            None,
        )

    def latest(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """What `latest` means: the newest protecting set, else the newest legacy group.

        The sets of `instances` come first: beside another host's, ours are what is meant.
        """
        newest = self.newest_protecting(instances) or self.newest_protecting()
        if newest is not None:
            return newest
        return next((found for found in self.sets() if is_usable_legacy(found)), None)

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
        return sum(1 for _ in self.sets())

    def has(self, set_id: str) -> bool:
        """Whether a set with this id is known."""
        return any(known == set_id for _, known in self._ordered_ids())

    def note_contact(self) -> None:
        """Remember that the store has just answered."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO facts(name, value) VALUES ('last_contact_at', ?)",
                (format_utc(self._clock.now()),),
            )

    def last_contact_at(self) -> datetime | None:
        """When the store last answered."""
        with self._records.reading() as connection:
            row = connection.execute(
                "SELECT value FROM facts WHERE name = 'last_contact_at'"
            ).fetchone()
        return parse_utc(row[0]) if row else None

    def _ordered_ids(self) -> list[tuple[str, str]]:
        """`(what to sort by, id)` of every restore point, newest first."""
        with self._records.reading() as connection:
            ids = [(row[0], row[0]) for row in connection.execute("SELECT id FROM sets")]
        for legacy_id, members in self._legacy_groups().items():
            ids.append((naming.stamp(_legacy_time(members)), legacy_id))
        return sorted(ids, reverse=True)

    def _legacy_groups(self) -> dict[str, list[_LegacyMember]]:
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT key, bytes, modified_at FROM dated_objects WHERE legacy ORDER BY key"
            ).fetchall()
        groups: dict[str, list[_LegacyMember]] = {}
        for key, size, modified_at in rows:
            parsed = naming.parse_data_key(self._prefix, key)
            if parsed is not None:
                member = _LegacyMember(parsed.source, parsed.day, key, size, parse_utc(modified_at))
                groups.setdefault(naming.legacy_id(parsed.day), []).append(member)
        return groups

    def _legacy(self, set_id: str) -> BackupSet:
        members = self._legacy_groups().get(set_id)
        if members is None:
            raise _not_found(set_id)
        # Of one source there may be several files of a day, differently sealed.
        by_source = {member.source: member for member in reversed(members)}
        return BackupSet(
            id=set_id,
            kind="legacy",
            created_at=_legacy_time(members),
            trigger="scheduled",
            instance="",
            complete={"tokens", "sessions"} <= by_source.keys(),
            proven_at=None,
            proof="none",
            suspect=None,
            objects=tuple(
                legacy_object(member.source, member.key, member.size)
                for member in sorted(by_source.values(), key=lambda m: m.source, reverse=True)
            ),
        )

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

    def _judged(self, found: BackupSet) -> BackupSet:
        """The set with its newest proof and its acceptance applied, in the order of time."""
        with self._records.reading() as connection:
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


@dataclass(frozen=True)
class _LegacyMember:
    source: str
    day: date
    key: str
    size: int
    modified_at: datetime


def is_usable_legacy(found: BackupSet) -> bool:
    """Whether a restore point is a whole legacy group that no proof has refused."""
    return found.kind == "legacy" and found.complete and not found.suspect


def _legacy_time(members: Sequence[_LegacyMember]) -> datetime:
    """When the old scripts made a group: its modification, if that fits its date.

    A bucket that was copied has younger modification times than the dates in its keys.
    """
    day = datetime.combine(members[0].day, time(), UTC)
    last = day + timedelta(days=1) - timedelta(seconds=1)
    return min(max(day, *(member.modified_at for member in members)), last)


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
