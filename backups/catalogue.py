"""The catalogue: what this host knows of the restore points in the store.

The store is the truth. The catalogue is a copy of its manifests and verdicts in this host's
records, so that status is answered without the network and a listing reads only what is new.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import datetime

from backups import manifest, naming
from backups.errors import ManifestInvalid, SetNotFound
from backups.model import BackupSet, Verdict
from shared.clock import Clock, format_utc, parse_utc
from shared.errors import ObjectMissing
from shared.logs import fields
from shared.object_store import ObjectStore
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
        stored: dict[str, set[str]] = {}
        for found in self._store.list(naming.sets_prefix(self._prefix)):
            parsed = naming.parse_set_key(self._prefix, found.key)
            if parsed:
                stored.setdefault(parsed[0], set()).add(parsed[1])
        stored = {of: names for of, names in stored.items() if naming.MANIFEST in names}
        for set_id in known.keys() - stored.keys():
            self.forget(set_id)
        for set_id, names in stored.items():
            for name in sorted(names - known.get(set_id, set()), key=_manifest_first):
                self._fetch(set_id, name)
        self.note_contact()

    def add_manifest(self, set_id: str, document: bytes) -> None:
        """Take a manifest in; the caller has checked it."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sets(id, manifest) VALUES (?, ?)", (set_id, document)
            )

    def add_verdict(self, verdict: Verdict, name: str, document: bytes) -> None:
        """Take a verdict in."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO verdicts(set_id, name, document) VALUES (?, ?, ?)",
                (verdict.set_id, name, document),
            )

    def forget(self, set_id: str) -> None:
        """Drop what is known of a set that the store no longer holds."""
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM sets WHERE id = ?", (set_id,))
            connection.execute("DELETE FROM verdicts WHERE set_id = ?", (set_id,))

    def get(self, set_id: str) -> BackupSet:
        """One restore point; raises `SetNotFound`, and `ManifestInvalid` for a bad manifest."""
        with self._records.reading() as connection:
            row = connection.execute("SELECT manifest FROM sets WHERE id = ?", (set_id,)).fetchone()
        if row is None:
            raise SetNotFound(
                f"there is no restore point {set_id!r}", "List them with: python -m backups list"
            )
        found = manifest.load_manifest(row[0], prefix=self._prefix, expected_id=set_id)
        return self._judged(found)

    def sets(self, before: str | None = None) -> Iterator[BackupSet]:
        """Restore points with a readable manifest, newest first, older than `before`."""
        with self._records.reading() as connection:
            ids = connection.execute(
                "SELECT id FROM sets WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC", (before,)
            ).fetchall()
        for (set_id,) in ids:
            try:
                yield self.get(set_id)
            except ManifestInvalid as error:
                _log.warning(error.message, extra=fields(set_id=set_id))

    def newest_protecting(self) -> BackupSet | None:
        """What `latest` means among sets: the newest complete, proven, unsuspected one."""
        return next((found for found in self.sets() if found.protects), None)

    def count(self) -> int:
        """How many restore points with a readable manifest are known."""
        return sum(1 for _ in self.sets())

    def has(self, set_id: str) -> bool:
        """Whether a set with this id is known."""
        with self._records.reading() as connection:
            row = connection.execute("SELECT 1 FROM sets WHERE id = ?", (set_id,)).fetchone()
        return row is not None

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
            elif name.startswith("proof-"):
                verdict = manifest.load_verdict(buffer.getvalue(), expected_id=set_id)
                self.add_verdict(verdict, name, buffer.getvalue())
        except ObjectMissing:
            pass  # pruned since the listing
        except ManifestInvalid as error:
            _log.warning(error.message, extra=fields(set_id=set_id, name=name))

    def _judged(self, found: BackupSet) -> BackupSet:
        with self._records.reading() as connection:
            row = connection.execute(
                "SELECT document FROM verdicts WHERE set_id = ? AND name LIKE 'proof-%'"
                " ORDER BY name DESC LIMIT 1",
                (found.id,),
            ).fetchone()
        if row is None:
            return found
        return manifest.with_verdict(found, manifest.load_verdict(row[0], expected_id=found.id))


def _manifest_first(name: str) -> tuple[bool, str]:
    return name != naming.MANIFEST, name
