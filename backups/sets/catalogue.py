"""The catalogue: what this host knows of the restore points in the store.

Status, lists and retention are answered from this host's records, without the network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime

from backups.errors import ManifestInvalid, SetNotFound
from backups.format.manifest import Aside, load_aside
from backups.model import BackupSet, RestorePoint
from backups.sets import points_table
from backups.sets.learn import OwnPoints, learn
from backups.sets.missing import NotedPoint
from backups.sets.sets_table import SetsTable
from shared.clock import Clock
from shared.databases.sqlite import Database
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger(__name__)

_IDS_AT_A_TIME = 200


class Catalogue:
    """Restore points by id, newest first. Raises `DatabaseError` when it cannot be used.

    `ours` are the instances whose sets are missed when they vanish; without it, all are.
    """

    def __init__(
        self,
        records: Database,
        store: ObjectStore,
        prefix: str,
        clock: Clock,
        ours: Callable[[], Collection[str] | None] = lambda: None,
    ) -> None:
        self._records = records
        self._store = store
        self._clock = clock
        self._table = SetsTable(records, prefix)
        self._own = OwnPoints(ours, self._is_doomed)

    def refresh(self) -> None:
        """Learn what the store has now. Raises `StoreError`, also for an incomplete listing."""
        learn(self._table, self._store, self._clock, self._own)

    def add_manifest(self, set_id: str, document: bytes) -> None:
        """Take a manifest in; the caller has checked it."""
        self._table.add_manifest(set_id, document)

    def add_verdict(self, set_id: str, name: str, document: bytes) -> None:
        """Take a verdict of any kind in; the caller has checked it."""
        self._table.add_verdict(set_id, name, document)

    def forget(self, set_id: str) -> None:
        """Drop what is known of a set that the store no longer holds."""
        self._table.forget(set_id)

    def get(self, set_id: str) -> BackupSet:
        """One restore point; raises `SetNotFound`, and `ManifestInvalid` for a bad manifest."""
        with self._table.reading() as connection:
            return self._table.read(connection, set_id)

    def sets(self, before: str | None = None) -> Iterator[BackupSet]:
        """Restore points with a readable manifest, newest first, older than `before`."""
        while True:
            with self._table.reading() as connection:
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
        with self._table.reading() as connection:
            return list(points_table.every(connection))

    def newest_protecting(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """The newest complete, proven, unsuspected set, of `instances` if they are given.

        What a restore has set aside is not meant.
        """
        with self._table.reading() as connection:
            set_id = points_table.newest_protecting(connection, instances)
            return self._table.read(connection, set_id) if set_id else None

    def latest(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """What `latest` means: the newest protecting set, else the newest legacy group.

        The sets of `instances` come first: beside another host's, ours are what is meant.
        """
        with self._table.reading() as connection:
            set_id = (
                points_table.newest_protecting(connection, instances)
                or points_table.newest_protecting(connection, None)
                or points_table.newest_usable_legacy(connection)
            )
            return self._table.read(connection, set_id) if set_id else None

    def accepted(self) -> frozenset[str]:
        """The ids of the sets that a person has accepted."""
        with self._records.reading() as connection:
            rows = connection.execute("SELECT set_id FROM verdicts WHERE name LIKE 'accept-%'")
            return frozenset(str(row[0]) for row in rows)

    def asides(self) -> dict[str, Aside]:
        """The newest note of each set that was ever set aside, by its id."""
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT set_id, document FROM verdicts WHERE name LIKE 'aside-%' ORDER BY name"
            ).fetchall()
        return {row[0]: load_aside(row[1], expected_id=row[0]) for row in rows}

    def add_verdicts(self, name: str, by_set: Mapping[str, bytes]) -> None:
        """Take a verdict of this name on each of many sets in; the caller has checked them."""
        self._table.add_verdicts(name, by_set)

    def verdict(self, set_id: str, name: str) -> bytes | None:
        """A verdict as it is stored; None when it is not known, or its set is not."""
        with self._records.reading() as connection:
            row = connection.execute(
                "SELECT document FROM verdicts JOIN sets ON sets.id = set_id"
                " WHERE set_id = ? AND name = ?",
                (set_id, name),
            ).fetchone()
        return bytes(row[0]) if row else None

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

    def missing_points(self) -> list[NotedPoint]:
        """What the store lost without our prune: of our sets and of legacy groups, newest first."""
        ours = self._own.ours()
        return [
            one
            for one in self._table.missing_points()
            if one.instance is None or ours is None or one.instance in ours
        ]

    def accept_missing(self) -> None:
        """Remember that a person knows of all that are missing now."""
        self._table.accept_missing(self._clock.now())

    def _is_doomed(self, set_id: str) -> bool:
        with self._records.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM doomed WHERE set_id = ? LIMIT 1", (set_id,)
            ).fetchone()
        return row is not None

    def count(self) -> int:
        """How many restore points with a readable manifest are known."""
        with self._table.reading() as connection:
            return points_table.count(connection)

    def has(self, set_id: str) -> bool:
        """Whether a set with this id is known."""
        with self._table.reading() as connection:
            return points_table.has(connection, set_id)

    def note_contact(self) -> None:
        """Remember that the store has just answered."""
        self._table.note_contact(self._clock.now())

    def last_contact_at(self) -> datetime | None:
        """When the store last answered."""
        return self._table.last_contact_at()


def has_restore_points(records: Database) -> bool:
    """Whether the records know of any, without asking the store or reading a manifest."""
    with records.reading() as connection:
        row = connection.execute(
            "SELECT EXISTS(SELECT 1 FROM sets) OR EXISTS(SELECT 1 FROM dated_objects)"
        ).fetchone()
    return bool(row[0])
