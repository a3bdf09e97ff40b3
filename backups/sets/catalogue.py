"""The catalogue: what this host knows of the restore points in the store of its settings.

Status, lists and retention are answered from this host's records, without the network. What lies
in the future is listed, and counts for nothing.

One file, because each question about restore points is one method of one object.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from backups.decisions import order
from backups.decisions.evidence import KeptProof
from backups.decisions.marks import UnmarkedSets
from backups.decisions.order import end_of_present, next_sequence
from backups.decisions.succession import InstanceSets
from backups.errors import ManifestInvalid, SetNotFound
from backups.format import manifest, naming
from backups.format.chain_keys import parse_point_id
from backups.format.manifest import Aside, load_aside
from backups.format.mark import Marks
from backups.format.pin import load_pin
from backups.host import catalogues
from backups.model import BackupSet, DrillReport, MissingPoint, Refusal, RestorePoint
from backups.sets import marks_table, points_table
from backups.sets.chains import table
from backups.sets.chains.points import ChainPoints
from backups.sets.learn import OwnPoints, learn
from backups.sets.learning.deleted import DeletedSets
from backups.sets.missing import NotedPoint, UnreadDocuments
from backups.sets.points_table import FuturePoint
from backups.sets.sets_table import SetsTable
from shared.clock import Clock
from shared.databases.sqlite import Database
from shared.errors import DatabaseError, StoreError, StoreListingIncomplete
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger(__name__)

_IDS_AT_A_TIME = 200


class Catalogue:
    """Restore points by id, newest first. Raises `DatabaseError` when it cannot be used.

    `known` is what the host knows of the store; `ours` returns the instances whose sets are one
    line, and are missed when they vanish (None: there is no such line, and all are). `unread` are
    the documents of the store that nobody can read.
    """

    def __init__(
        self,
        known: Database,
        store: ObjectStore,
        prefix: str,
        clock: Clock,
        ours: Callable[[], Collection[str] | None] = lambda: None,
        *,
        marks: Marks | None = None,
    ) -> None:
        self._known = known
        self._store = store
        self._clock = clock
        self._ours = ours
        self._table = SetsTable(known, prefix, clock, ours, marks=marks)
        self.is_doomed_elsewhere: Callable[[str], bool] = lambda _: False
        self._own = OwnPoints(ours, self._is_doomed, self._owed_marks, self._owe_mark)
        self.unread = UnreadDocuments(known)
        self.deleted = DeletedSets(known, self._table)
        self.chains = ChainPoints(known, store, marks or Marks((), prefix), self._get_set)

    def refresh(self) -> None:
        """Learn what the store has now. Raises `StoreError`, also for an incomplete listing.

        Why it would not be listed is remembered until it is.
        """
        try:
            listing, before = self.chains.before()
            learn(self._table, self._store, self._clock, self._own, self.unread, take=listing.take)
            self.chains.learn(listing, before, self._ours(), self._clock.now())
        except StoreError as error:
            refused = Refusal(self._clock.now(), error.code, error.message, error.hint)
            with suppress(DatabaseError):  # the reason counts, not the note of it
                catalogues.note_refusal(self._known, refused)
            raise
        catalogues.note_refusal(self._known, None)

    def refusal(self) -> Refusal | None:
        """Why the store would not be listed the last time; None when it was."""
        return catalogues.refusal(self._known)

    def listed_at(self) -> datetime | None:
        """When the store was last listed to the end: since when the records say what it has."""
        return catalogues.listed_at(self._known)

    def add_manifest(self, set_id: str, document: bytes) -> None:
        """Take in the manifest of a set that was just published; the caller has checked it."""
        self._table.add_manifest(set_id, document)
        self.note_seen(set_id)

    def add_verdict(self, set_id: str, name: str, document: bytes) -> None:
        """Take a verdict of any kind in; the caller has checked it."""
        self._table.add_verdict(set_id, name, document)

    def forget(self, set_id: str) -> None:
        """Drop what is known of a set that the store no longer holds."""
        self._table.forget(set_id)

    def get(self, set_id: str) -> BackupSet:
        """One restore point; raises `SetNotFound`, and `ManifestInvalid` for a manifest that is
        bad, or that the store does not return (`ManifestUnread`).

        Of a point of a chain, what is not known here is read: then `StoreError`.
        """
        if (point := parse_point_id(set_id)) is not None:
            return self.chains.get(*point)
        return self._get_set(set_id)

    def _get_set(self, set_id: str) -> BackupSet:
        try:
            with self._table.reading() as connection:
                return self._table.read(connection, set_id)
        except SetNotFound:
            self.unread.refuse(set_id)
            raise

    def sets(self, before: str | None = None) -> Iterator[BackupSet]:
        """Restore points with a readable manifest, newest first, older than `before`."""
        while True:
            with self._table.reading() as connection:
                ids = points_table.ids(connection, before, _IDS_AT_A_TIME)
            for set_id in ids:
                yield from self._readable(set_id)
            if len(ids) < _IDS_AT_A_TIME:
                return
            before = ids[-1]

    def sets_since(self, since: datetime) -> Iterator[BackupSet]:
        """Those that were made since a time, newest first, without what lies in the future."""
        with self._table.reading() as connection:
            ids = points_table.ids_between(connection, since, self._end())
        for set_id in ids:
            yield from self._readable(set_id)

    def future(self) -> tuple[str, ...]:
        """The ids of the restore points whose time lies in the future, the latest first."""
        with self._table.reading() as connection:
            return tuple(points_table.future(connection, self._end()))

    def future_sets(self) -> list[FuturePoint]:
        """The sets whose time lies in the future, the latest first."""
        with self._table.reading() as connection:
            return points_table.future_sets(connection, self._end())

    def points(self) -> list[RestorePoint]:
        """All restore points, newest first, without their objects: quick, however many."""
        with self._table.reading() as connection:
            return list(points_table.every(connection))

    def proofs(self) -> list[KeptProof]:
        """The proof of each restore point, without reading their manifests."""
        with self._table.reading() as connection:
            return list(points_table.proofs(connection))

    def drill_reports(self) -> list[DrillReport]:
        """The reports of drills that lie beside the sets that are kept, and can be read."""
        with self._table.reading() as connection:
            rows = marks_table.believed(connection, "drill-")
        reports = []
        for set_id, document in rows:
            try:
                report = manifest.load_drill(document, expected_id=set_id)
            except ManifestInvalid as error:
                _log.warning(error.message, extra=fields(set_id=set_id))
            else:
                reports.append(report)
        return reports

    def lost_points(self) -> tuple[MissingPoint, ...]:
        """The restore points that the store lost without our prune, oldest first."""
        with self._table.reading() as connection:
            return tuple(points_table.lost(connection))

    def newest_protecting(self, instances: Collection[str] | None = None) -> BackupSet | None:
        """The newest complete, proven, unsuspected set, of `instances` if they are given; not what
        a restore has set aside."""
        with self._table.reading() as connection:
            set_id = points_table.newest_protecting(connection, instances, self._end())
            return self._table.read(connection, set_id) if set_id else None

    def latest(
        self, instances: Collection[str] | None = None, *, ask: bool = False
    ) -> BackupSet | None:
        """What `latest` means: the newest protecting point, of `instances` if they are given.

        With `ask` the store is asked what is in objects of chains that were not read; `StoreError`.
        """
        newest = self.newest_protecting(instances)
        point = self.chains.newest(instances, self._end(), ask=ask, passed_over=False)
        return order.newer(newest, point)

    def newest_unmarked(self) -> list[BackupSet]:
        """The newest set of each kind of mark but `valid`, and the newest legacy group.

        `latest` never means one of them: a person has to choose it.
        """
        with self._table.reading() as connection:
            found = points_table.newest_unmarked(connection, self._end())
            return [self._table.read(connection, set_id) for set_id in found]

    def is_marking(self) -> bool:
        """Whether the store has a set with a mark, whosever it is."""
        with self._table.reading() as connection:
            return marks_table.has_marked_set(connection)

    def unmarked_sets(self) -> list[UnmarkedSets]:
        """How many sets of each installation have no valid mark."""
        with self._table.reading() as connection:
            return points_table.unmarked_sets(connection)

    def unmarked_verdicts(self) -> list[tuple[str, str]]:
        """Set id and name of each verdict on a set with a valid mark that has none itself."""
        with self._table.reading() as connection:
            return marks_table.unmarked_verdicts(connection)

    def by_instance(self) -> list[InstanceSets]:
        """What the store has of each installation, without what lies in the future.

        It depends on no order of the sets, because their order depends on whose they are.
        """
        with self._table.reading_as_noted() as connection:
            return points_table.by_instance(connection, self._end())

    def has_protecting(self, instances: Collection[str]) -> bool:
        """Whether any of these installations has a set that protects, set aside or not."""
        with self._table.reading() as connection:
            return points_table.has_protecting(connection, instances)

    def accepted(self) -> frozenset[str]:
        """The ids of the sets that a person has accepted."""
        with self._table.reading() as connection:
            return frozenset(row[0] for row in marks_table.believed(connection, "accept-"))

    def documents(self, set_id: str) -> Mapping[str, bytes]:
        """The manifest of a set, if it has one, and the verdicts on it, by their names."""
        with self._known.reading() as connection:
            return marks_table.documents(connection, set_id)

    def asides(self) -> dict[str, Aside]:
        """The newest note of each set that was ever set aside, by its id."""
        with self._table.reading() as connection:
            rows = marks_table.believed(connection, "aside-")
        return {row[0]: load_aside(row[1], expected_id=row[0]) for row in rows}

    def pins(self) -> dict[str, str]:
        """The labels of the sets that are pinned, by their ids."""
        last = naming.stamp(end_of_present(self._clock.now()))
        with self._table.reading() as connection:
            rows = marks_table.believed(connection, "pin-", until=f"pin-{last}")
        found = {set_id: load_pin(document, expected_id=set_id) for set_id, document in rows}
        return {set_id: pin.label for set_id, pin in found.items() if pin.pinned}

    def add_verdicts(self, name: str, by_set: Mapping[str, bytes]) -> None:
        """Take a verdict of this name on each of many sets in; the caller has checked them."""
        self._table.add_verdicts(name, by_set)

    def verdict(self, set_id: str, name: str) -> bytes | None:
        """A verdict as it is stored; None when it is not known, or its set is not."""
        with self._known.reading() as connection:
            row = connection.execute(
                "SELECT document FROM verdicts JOIN sets ON sets.id = set_id"
                " WHERE set_id = ? AND name = ?",
                (set_id, name),
            ).fetchone()
        return bytes(row[0]) if row else None

    def newest_drilled(self) -> str | None:
        """The id of the newest set that passed a drill."""
        with self._table.reading() as connection:
            return points_table.newest_drilled(connection, self._end())

    def next_sequence(self) -> int:
        """One more than the highest number of our line, of sets and of points of chains.

        A host that has not asked this store yet does so first; then it raises `StoreError`.
        """
        ours = self._ours() or ()
        # One read of both: between two the file may have been found damaged, and made anew.
        with self._table.reading() as connection:
            if catalogues.read_fact(connection, "listed_at") is not None:
                return _next_sequence(connection, ours)
        with suppress(StoreListingIncomplete):  # all that it can know is learnt
            self.refresh()
        ours = self._ours() or ()
        with self._table.reading() as connection:
            return _next_sequence(connection, ours)

    def forget_verdict(self, set_id: str, name: str) -> None:
        """Drop a verdict that is worth nothing."""
        self._table.forget_verdict(set_id, name)

    def verdict_names(self, set_id: str) -> list[str]:
        """The names of the verdicts on a set."""
        with self._known.reading() as connection:
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

    def rotated(self) -> frozenset[str]:
        """The fingerprints of the keys with which all was marked again, that were ever seen."""
        with self._known.reading() as connection:
            return catalogues.rotated_keys(connection)

    def note_rotated(self, fingerprint: str) -> None:
        """Remember that all was marked again with a key."""
        if fingerprint not in self.rotated():
            catalogues.note_rotated_key(self._known, fingerprint)

    def _is_doomed(self, set_id: str) -> bool:
        query = "SELECT EXISTS(SELECT 1 FROM doomed WHERE set_id = ?)"
        with self._known.reading() as connection:
            is_doomed = bool(connection.execute(query, (set_id,)).fetchone()[0])
        return is_doomed or self.is_doomed_elsewhere(set_id)

    def _owed_marks(self) -> list[tuple[str, str]]:
        with self._known.reading() as connection:
            return catalogues.owed_marks(connection)

    def _owe_mark(self, set_id: str, name: str) -> None:
        catalogues.note_owed_marks(self._known, [(set_id, name)])

    def count(self) -> int:
        """How many restore points with a readable manifest are known."""
        with self._table.reading() as connection:
            return points_table.count(connection)

    def has(self, set_id: str) -> bool:
        """Whether a restore point with this id is known."""
        if (point := parse_point_id(set_id)) is not None:
            return self.chains.has(*point)
        with self._table.reading() as connection:
            return points_table.has(connection, set_id)

    def note_contact(self) -> None:
        """Remember that the store has just answered."""
        catalogues.note_contact(self._known, self._clock.now())

    def last_contact_at(self) -> datetime | None:
        """When the store last answered."""
        return catalogues.last_contact_at(self._known)

    def note_seen(self, set_id: str) -> None:
        """Remember that a set has just been published or proven in the store."""
        self._table.note_seen([set_id], self._clock.now())

    def seen_at(self, set_id: str) -> datetime | None:
        """When a set was last seen in this store: its manifest and all its objects.

        None also for a time that lies in the future.
        """
        at = self._table.seen_at(set_id)
        return None if at is None or at > self._end() else at

    def _end(self) -> datetime:
        return end_of_present(self._clock.now())

    def _readable(self, set_id: str) -> Iterator[BackupSet]:
        """A set of which a `reading` has just given the id; nothing where it cannot be read."""
        try:
            with self._table.reading_as_noted() as connection:
                found = self._table.read(connection, set_id)
        except ManifestInvalid as error:
            _log.warning(error.message, extra=fields(set_id=set_id))
        except SetNotFound:
            pass  # another process has learnt in between that it is gone
        else:
            yield found


def _next_sequence(connection: sqlite3.Connection, ours: Collection[str]) -> int:
    sets = points_table.highest_sequence(connection, ours) or 0
    return next_sequence(max(sets, table.highest_sequence(connection)) or None)
