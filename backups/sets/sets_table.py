"""What this host has noted of the sets in the store: manifests, verdicts, and dated objects.

Each change brings the restore point of its set up to date, in the same transaction. The next
read puts the points in order, and notes anew those of which something has left the future.

One file, because what a row of one table says of a set changes those of the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime

from backups.decisions.order import end_of_present
from backups.errors import ManifestInvalid, SetDeleted, SetNotFound
from backups.format import manifest, naming
from backups.format.legacy import DatedObject
from backups.format.mark import Checked, Marks, sha256_of
from backups.format.notes.deletion import DELETED
from backups.host import catalogues
from backups.host.catalogues import read_fact, write_fact
from backups.model import BackupSet, Mark, MissingPoint
from backups.sets import marks_table, missing, points_table
from backups.sets.judging import LIST, believed_of, judge, refuse_deleted
from backups.sets.missing import NotedPoint
from backups.sets.points_table import Noted
from shared.clock import Clock, format_utc, parse_utc
from shared.databases.sqlite import Database
from shared.errors import DatabaseError

# Others wait for a transaction that brings so many points up to date for a moment only.
_SETS_AT_A_TIME = 200


class SetsTable:
    """The rows about the sets below `prefix`. Raises `DatabaseError` when they cannot be used.

    `ours` returns the instances whose sets are one line (None: there is no such line).
    """

    def __init__(
        self,
        known: Database,
        prefix: str,
        clock: Clock,
        ours: Callable[[], Collection[str] | None] = lambda: None,
        *,
        marks: Marks | None = None,
    ) -> None:
        self._known = known
        self._clock = clock
        self._ours = ours
        self._marks = marks or Marks((), prefix)
        self.prefix = prefix

    # --- reading ------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read in which every set and group has its point, in its place.

        Where that cannot be written (a full disk), the points are as they were noted.
        """
        ours, now = frozenset(self._ours() or ()), self._clock.now()
        with self._known.reading() as connection:
            up_to_date = self._is_up_to_date(connection, ours, now)
            if up_to_date:
                yield connection
        if up_to_date:
            return
        with suppress(DatabaseError), self._known.transaction() as connection:
            self._bring_up_to_date(connection, ours, now)
        with self.reading_as_noted() as connection:
            yield connection

    @contextmanager
    def reading_as_noted(self) -> Iterator[sqlite3.Connection]:
        """A read, for the documents of sets that a `reading` has just named."""
        with self._known.reading() as connection:
            yield connection

    def read(
        self, connection: sqlite3.Connection, set_id: str, *, deleted: bool = False
    ) -> BackupSet:
        """A set or a group, with `deleted` also one that a person has deleted while its manifest is
        there; raises `SetNotFound`, and `ManifestInvalid` for a bad manifest."""
        known = marks_table.documents(connection, set_id)
        marks = marks_table.checked(connection, set_id, known, self._marks)
        return self._judge(connection, set_id, known, marks, deleted=deleted).backup_set

    def documents(self) -> dict[str, set[str]]:
        """The names of the documents that are known of each set or group."""
        with self._known.reading() as connection:
            known = {row[0]: {naming.MANIFEST} for row in connection.execute("SELECT id FROM sets")}
            for set_id, name in connection.execute("SELECT set_id, name FROM verdicts"):
                known.setdefault(set_id, set()).add(name)
        return known

    def not_believed(self) -> dict[tuple[str, str], Mark]:
        """See `marks_table.not_believed`."""
        with self.reading() as connection:
            return marks_table.not_believed(connection)

    def dated_objects(self) -> Mapping[str, tuple[int, str]]:
        """Size and time of change (as text) of each dated object that is known, by its key."""
        with self._known.reading() as connection:
            rows = connection.execute("SELECT key, bytes, modified_at FROM dated_objects")
            return {row[0]: (row[1], row[2]) for row in rows}

    def legacy_keys(self) -> set[str]:
        """The keys of the objects that the old scripts left."""
        with self.reading() as connection:
            rows = connection.execute("SELECT key FROM dated_objects WHERE legacy")
            return {str(row[0]) for row in rows}

    def objects(self) -> list[tuple[str, str, int]]:
        """Set id, key and stored size of each object, newest set first, then of each manifest.

        Validates no manifest.
        """
        with self.reading() as connection:
            manifests = connection.execute("SELECT id, length(manifest) FROM sets").fetchall()
            objects = points_table.objects(connection)
        return objects + [
            (set_id, naming.manifest_key(self.prefix, set_id), size) for set_id, size in manifests
        ]

    def missing_points(self) -> list[NotedPoint]:
        """What the store lost without our prune, newest first."""
        with self.reading() as connection:
            return missing.noted(connection)

    def claimed_on(self, days: Collection[str]) -> set[str]:
        """The keys of the objects of the known sets of these days, as in `2025-07-04`."""
        ids = {day.replace("-", "") for day in days}
        with self._known.reading() as connection:
            rows = connection.execute("SELECT id FROM sets").fetchall() if ids else []
            sets = [self._readable(connection, row[0]) for row in rows if row[0][:8] in ids]
        return {stored.key for known in sets if known is not None for stored in known.objects}

    def day(self, key: str) -> str:
        """The day in a dated key, as in `2025-07-04`; empty below another prefix."""
        parsed = naming.parse_data_key(self.prefix, key)
        return parsed.day.isoformat() if parsed else ""

    def seen_at(self, set_id: str) -> datetime | None:
        """When the manifest and all objects of a set were last seen in this store."""
        with self._known.reading() as connection:
            row = connection.execute("SELECT at FROM seen WHERE set_id = ?", (set_id,)).fetchone()
        return parse_utc(row[0]) if row else None

    # --- writing ------------------------------------------------------------------------

    def note_seen(self, set_ids: Collection[str], at: datetime) -> None:
        """Remember that these sets were seen in this store."""
        with self._known.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO seen(set_id, at) VALUES (?, ?)",
                [(set_id, format_utc(at)) for set_id in set_ids],
            )

    def note_listed(self, listed: Mapping[str, int], at: datetime) -> None:
        """Remember that the store has answered, and which sets are there with all objects."""
        catalogues.note_contact(self._known, at)
        with self._known.reading() as connection:
            sets = {str(row[0]) for row in connection.execute("SELECT id FROM sets")}
            for set_id, key, size in connection.execute("SELECT set_id, key, bytes FROM objects"):
                if listed.get(key) != size:
                    sets.discard(set_id)
        self.note_seen([one for one in sets if naming.manifest_key(self.prefix, one) in listed], at)
        with self._known.transaction() as connection:
            write_fact(connection, "listed_at", format_utc(at))

    def add_manifest(self, set_id: str, document: bytes) -> None:
        """Take a manifest in; the caller has checked it."""
        with self._known.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sets(id, manifest, learned_at) VALUES (?, ?, ?)",
                (set_id, document, format_utc(self._clock.now())),
            )
            marks_table.forget(connection, set_id, naming.MANIFEST)
            self._note(connection, set_id)

    def add_verdict(self, set_id: str, name: str, document: bytes) -> None:
        """Take a verdict of any kind in; the caller has checked it."""
        self.add_verdicts(name, {set_id: document})

    def add_verdicts(self, name: str, by_set: Mapping[str, bytes]) -> None:
        """Take a verdict of this name on each of many sets in."""
        ids = list(by_set)
        for some in (ids[at : at + _SETS_AT_A_TIME] for at in range(0, len(ids), _SETS_AT_A_TIME)):
            with self._known.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO verdicts(set_id, name, document) VALUES (?, ?, ?)",
                    [(set_id, name, by_set[set_id]) for set_id in some],
                )
                for set_id in some:
                    marks_table.forget(connection, set_id, name)
                    self._note(connection, set_id)

    def forget_verdict(self, set_id: str, name: str) -> None:
        """Drop a verdict that the store no longer holds."""
        with self._known.transaction() as connection:
            connection.execute("DELETE FROM verdicts WHERE set_id=? AND name=?", (set_id, name))
            marks_table.forget(connection, set_id, name)
            self._note(connection, set_id)

    def forget(self, set_id: str) -> None:
        """Drop what is known of a set that the store no longer holds."""
        with self._known.transaction() as connection:
            self._forget(connection, set_id)

    def note_vanished(self, set_id: str, at: datetime, ours: Collection[str] | None) -> bool:
        """Drop a set whose manifest is gone; whether it was a restore point of `ours`, now missing.

        One whose loss was accepted when it was hollow is not missed again.
        """
        with self._known.transaction() as connection:
            found = self._readable(connection, set_id)
            known = [one for one in missing.noted(connection) if one.point.id == set_id]
            self._forget(connection, set_id)
            if found is None or found.mark != "valid" or (known and known[0].accepted):
                return False  # a planted set is missed by nobody
            if ours is not None and found.instance not in ours:
                return False
            return missing.note(connection, MissingPoint(set_id, "vanished", found.created_at, at))

    def note_hollow(self, set_id: str, at: datetime) -> bool:
        """Remember that objects of a set are missing; whether this is new."""
        with self._known.transaction() as connection:
            found = self._readable(connection, set_id)
            if found is None or found.mark != "valid":
                return False
            new = missing.note(connection, MissingPoint(set_id, "hollow", found.created_at, at))
            self._note(connection, set_id)
            return new

    def note_lost_legacy(self, keys: Collection[str], at: datetime) -> list[str]:
        """Remember that objects of the old scripts vanished; the ids of their groups."""
        by_day: dict[str, list[str]] = {}
        for key in keys:
            by_day.setdefault(self.day(key), []).append(key)
        lost = []
        with self._known.transaction() as connection:
            for day, gone in sorted(by_day.items()):
                group = naming.legacy_id(date.fromisoformat(day))
                found = self._readable(connection, group)
                made = found.created_at if found else at
                if missing.note(connection, MissingPoint(group, "vanished", made, at), gone):
                    lost.append(group)
        return lost

    def end_missing(self, point_id: str) -> None:
        """A missing point is whole again."""
        with self._known.transaction() as connection:
            missing.forget(connection, point_id)
            self._note(connection, point_id)

    def accept_missing(self, at: datetime) -> None:
        """Remember that a person knows of all that are missing now."""
        with self._known.transaction() as connection:
            missing.accept(connection, at)

    def note_dated(self, gone: Collection[str], learnt: Collection[DatedObject]) -> None:
        """Drop the dated objects under the keys `gone`, and enter what was learnt of others."""
        if not gone and not learnt:
            return
        with self._known.transaction() as connection:
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

    def _is_up_to_date(
        self, connection: sqlite3.Connection, ours: frozenset[str], now: datetime
    ) -> bool:
        return (
            marks_table.were_noted(connection, _READER, self._marks)
            and read_fact(connection, "order") == _line(ours)
            and not points_table.outdated(connection, end_of_present(now))
            and not missing.were_noticed_ahead(connection, end_of_present(now))
        )

    def _bring_up_to_date(
        self, connection: sqlite3.Connection, ours: frozenset[str], now: datetime
    ) -> None:
        if not marks_table.were_noted(connection, _READER, self._marks):
            connection.execute("DELETE FROM points")
            ids = "SELECT id FROM sets UNION SELECT set_id FROM verdicts"
            for (set_id,) in connection.execute(ids).fetchall():
                self._note(connection, set_id)
            keys = [row[0] for row in connection.execute("SELECT key FROM dated_objects")]
            connection.executemany(
                "UPDATE dated_objects SET day = ? WHERE key = ?",
                [(self.day(key), key) for key in keys],
            )
            for day in {self.day(key) for key in keys}:
                self._note_group(connection, day)
            marks_table.end_noting(connection, _READER, self._marks)
        for set_id in points_table.outdated(connection, end_of_present(now)):
            self._note(connection, set_id)
        missing.notice_now(connection, end_of_present(now), now)
        points_table.put_in_order(connection, ours, now)
        write_fact(connection, "order", _line(ours))

    def _forget(self, connection: sqlite3.Connection, set_id: str) -> None:
        connection.execute("DELETE FROM sets WHERE id = ?", (set_id,))
        # The store keeps the note of a deletion, so that what is lost of that set is not missed.
        connection.execute(
            "DELETE FROM verdicts WHERE set_id = ? AND name NOT LIKE ?", (set_id, f"{DELETED}%")
        )
        points_table.forget(connection, set_id)
        marks_table.forget(connection, set_id)
        catalogues.forget_seen_ahead(connection, set_id)
        write_fact(connection, "order", None)
        if not naming.is_legacy_id(set_id):  # a group is missed by its objects
            missing.forget(connection, set_id)
            self._note(connection, set_id)

    def _note(self, connection: sqlite3.Connection, set_id: str) -> None:
        """Bring the point of a set or a group up to its documents."""
        write_fact(connection, "order", None)
        now = self._clock.now()
        documents = marks_table.documents(connection, set_id)
        marks, is_noted = marks_table.note(connection, set_id, documents, self._marks)
        if not is_noted:
            write_fact(connection, "points", _READER)  # a process with keys notes all of them anew
        try:
            noted = self._judge(connection, set_id, documents, marks)
            if noted.backup_set.created_at > end_of_present(now):
                catalogues.note_seen_ahead(connection, set_id, now)
            points_table.note(connection, noted)
        except ManifestInvalid:
            points_table.note_unreadable(connection, set_id, end_of_present(now))
        except SetNotFound as error:
            points_table.forget(connection, set_id)
            if isinstance(error, SetDeleted):
                missing.forget_with_points(connection, set_id)

    def _note_group(self, connection: sqlite3.Connection, day: str) -> None:
        if day:
            self._note(connection, naming.legacy_id(date.fromisoformat(day)))

    def _readable(self, connection: sqlite3.Connection, set_id: str) -> BackupSet | None:
        try:
            return self.read(connection, set_id)
        except (ManifestInvalid, SetNotFound):
            return None

    def _judge(
        self,
        connection: sqlite3.Connection,
        set_id: str,
        documents: Mapping[str, bytes],
        marks: Mapping[str, Checked],
        *,
        deleted: bool = False,
    ) -> Noted:
        """The set or group, with what is believed of the verdicts on it."""
        if not deleted:
            refuse_deleted(set_id, documents, marks)
        group = points_table.legacy_group(connection, self.prefix, set_id)
        if group is not None:
            found = group
        elif naming.MANIFEST in documents:
            document, own = documents[naming.MANIFEST], marks[naming.MANIFEST]
            found = manifest.load_manifest(document, prefix=self.prefix, expected_id=set_id)
            found = replace(found, mark=own.outcome, mark_key=own.fingerprint)
        else:
            raise SetNotFound(f"there is no restore point {set_id!r}", LIST)
        sha256 = sha256_of(documents.get(naming.MANIFEST, b""))
        believed = believed_of(documents, marks)
        noted = judge(found, believed, self._clock.now(), manifest_sha256=sha256)
        seen = catalogues.seen_ahead_at(connection, set_id)
        found = replace(noted.backup_set, seen_ahead_at=seen) if seen else noted.backup_set
        if missing.is_hollow(connection, set_id):
            found = replace(found, hollow=True, proof="none", proven_at=None)
        return Noted(found, noted.stamped, noted.ahead)


# For which program the points were noted: another one notes them anew.
_READER = f"{manifest.FORMAT}.3"


def _line(ours: frozenset[str]) -> str:
    return " ".join(sorted(ours))
