"""Carrying out a retention plan, and the sweep: what no manifest claims is removed.

The manifest goes first, so that a set is either whole or not listed. Which keys are to go is
noted before, so that an interrupted prune is finished by the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from backups import naming
from backups.errors import SetNotFound
from backups.installation import Installation
from backups.model import BackupSet
from backups.operation import Recorder
from backups.retention import RetentionPlan
from shared.errors import ObjectMissing
from shared.logs import fields
from shared.sqlite import Database

ORPHAN_AGE = timedelta(hours=24)

_log = logging.getLogger("backups.run")


class Pruner:
    """Drops sets and sweeps orphans; runs inside an operation, which holds the lease."""

    def __init__(self, installation: Installation, records: Database) -> None:
        self._store = installation.store
        self._catalogue = installation.catalogue
        self._clock = installation.clock
        self._prefix = installation.plan.prefix
        self._records = records

    def prune(self, recorder: Recorder, plan: RetentionPlan, ours: Collection[str]) -> None:
        """Finish what an earlier prune began, drop what the plan drops, sweep the orphans.

        Raises `StoreError`; what is left then is left to the next prune.
        """
        recorder.stage("finish")
        self._finish()
        recorder.stage("drop")
        for one in plan.drop:
            with suppress(SetNotFound):  # another process has learnt in between that it is gone
                self._drop(self._catalogue.get(one.backup_set.id))
                _log.info("dropped", extra=fields(set_id=one.backup_set.id, reason=one.reason))
        recorder.stage("sweep")
        self.sweep(ours)

    def sweep(self, ours: Collection[str]) -> list[str]:
        """Remove what this installation put more than 24 h ago and no manifest claims."""
        before = self._clock.now() - ORPHAN_AGE
        removed = []
        for key in list(self._orphans(before)):
            try:
                metadata = self._store.head(key).metadata
            except ObjectMissing:
                continue
            if metadata.get("set-id") and metadata.get("instance") in ours:
                self._store.delete(key)
                removed.append(key)
                _log.info("swept", extra=fields(key=key))
        self._store.abort_unfinished(self._prefix, before)
        return removed

    def _orphans(self, before: datetime) -> Iterable[str]:
        """Keys below the prefix that belong to no set, and were written before a time."""
        listed = [found for found in self._store.list(self._prefix) if found.modified_at < before]
        manifests = {
            parsed[0]
            for found in self._store.list(naming.sets_prefix(self._prefix))
            if (parsed := naming.parse_set_key(self._prefix, found.key))
            and parsed[1] == naming.MANIFEST
        }
        claimed = self._claimed_keys(manifests)
        if claimed is None:
            return
        for found in listed:
            parsed = naming.parse_set_key(self._prefix, found.key)
            if parsed is not None:
                if parsed[0] not in manifests and not naming.is_legacy_id(parsed[0]):
                    yield found.key
            elif naming.parse_data_key(self._prefix, found.key) and found.key not in claimed:
                yield found.key

    def _claimed_keys(self, manifests: set[str]) -> set[str] | None:
        """The keys that manifests claim; None when a manifest cannot be read: then nothing is
        known to be an orphan."""
        self._catalogue.refresh()
        known = {found.id: found for found in self._catalogue.sets()}
        if manifests - known.keys():
            _log.warning("a manifest cannot be read, so nothing is swept")
            return None
        return {stored.key for found in known.values() for stored in found.objects}

    def _drop(self, one: BackupSet) -> None:
        keys = [stored.key for stored in one.objects]
        keys += [
            f"{naming.sets_prefix(self._prefix)}{one.id}/{name}.json"
            for name in self._catalogue.verdict_names(one.id)
        ]
        with self._records.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO doomed(key, set_id) VALUES (?, ?)",
                [(key, one.id) for key in keys],
            )
        self._store.delete(naming.manifest_key(self._prefix, one.id))
        self._catalogue.forget(one.id)
        self._finish()

    def _finish(self) -> None:
        """Delete the doomed keys of sets whose manifest is gone; spare those that still have one.

        A set whose manifest is still there is whole, and planned anew.
        """
        with self._records.reading() as connection:
            rows = connection.execute("SELECT key, set_id FROM doomed ORDER BY set_id").fetchall()
        alive: dict[str, bool] = {}
        for key, set_id in rows:
            if set_id not in alive:
                alive[set_id] = self._has_manifest(set_id)
            if not alive[set_id]:
                self._store.delete(key)
            with self._records.transaction() as connection:
                connection.execute("DELETE FROM doomed WHERE key = ?", (key,))

    def _has_manifest(self, set_id: str) -> bool:
        try:
            self._store.head(naming.manifest_key(self._prefix, set_id))
        except ObjectMissing:
            return False
        return True
