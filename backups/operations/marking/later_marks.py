"""Noting marks of a later time on this host, and storing them: one small object a set.

Each is noted on this host first, where it counts from then on, and then stored, several at a time.
What cannot be stored is owed, and stored by the next run or start. Nothing is overwritten.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Set
from datetime import timedelta

from backups.format import naming
from backups.format.later_mark import dump_later_mark, load_later_mark
from backups.format.mark import sha256_of
from backups.host import catalogues
from backups.model import Progress, ProgressSink
from backups.operations.installation import Installation
from backups.runs.parallel import in_parallel
from backups.runs.run import ignore_progress
from backups.sets import marks_table
from backups.sets.judging import check_marks
from backups.sets.puts import put_document
from shared.databases.sqlite import Database
from shared.errors import AppError, ObjectExists, ObjectMissing
from shared.logs import fields

_log = logging.getLogger("backups.run")

# They are small, so that many at a time cost nothing.
_AT_A_TIME = 8
_BATCH = 100
_SECOND = timedelta(seconds=1)


class LaterMarks:
    """Marks documents that are stored already. Raises `DatabaseError`."""

    def __init__(self, installation: Installation, known: Database) -> None:
        self._known = known
        self._prefix = installation.config.prefix
        self._marks = installation.config.marks
        self._store = installation.store
        self._directory = installation.directory
        self._catalogue = installation.catalogue
        self._clock = installation.clock

    def note(self, by_set: Mapping[str, Mapping[str, str]]) -> None:
        """Mark documents of sets on this host: for each set, their names and SHA-256."""
        if not by_set:
            return
        at = self._clock.now().replace(microsecond=0)
        while self._is_taken(by_set.keys(), name := naming.verdict_name("mark", at)):
            at += _SECOND
        marks = {
            set_id: self._marks.sign(
                naming.document_key(self._prefix, set_id, name),
                dump_later_mark(set_id, at, documents),
            )
            for set_id, documents in by_set.items()
        }
        catalogues.note_owed_marks(self._known, ((set_id, name) for set_id in marks))
        self._catalogue.add_verdicts(name, marks)

    def count(self, *instances: str) -> int:
        """How many sets of these installations carry a valid mark."""
        with self._known.reading() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM points JOIN marks ON set_id = id AND name = 'manifest'"
                " WHERE mark = 'valid' AND instance IN (SELECT value FROM json_each(?))",
                (json.dumps(instances),),
            ).fetchone()
        return int(count)

    def owed(self) -> list[tuple[str, str]]:
        """Which the store has yet to get: pairs of a set's id and a name."""
        with self._known.reading() as connection:
            return catalogues.owed_marks(connection)

    def documents(self, set_id: str) -> dict[str, bytes]:
        """What this host has of a set or group: its manifest and the verdicts, by their names."""
        with self._known.reading() as connection:
            return marks_table.documents(connection, set_id)

    def unsigned(self, set_id: str) -> dict[str, str]:
        """The SHA-256 of each document of a set that nothing vouches for, by its name.

        None of them if its manifest is not among them.
        """
        documents = self.documents(set_id)
        checked = check_marks(set_id, documents, self._marks)
        if naming.MANIFEST not in checked or checked[naming.MANIFEST].outcome != "unsigned":
            return {}
        return {
            name: sha256_of(document)
            for name, document in documents.items()
            if checked[name].outcome == "unsigned" and not name.startswith("mark-")
        }

    def finish(self, progress: ProgressSink = ignore_progress) -> None:
        """Store what is owed; what cannot be stored stays owed, and is logged."""
        owed = self.owed()
        failures: list[AppError] = []

        def store(one: tuple[str, str], report: ProgressSink) -> bool:
            report(Progress("proof"))
            if failures:
                return False
            try:
                self._store_mark(*one)
            except AppError as error:
                failures.append(error)
                return False
            return True

        for at in range(0, len(owed), _BATCH):
            some = owed[at : at + _BATCH]
            stored = in_parallel(store, some, progress, workers=_AT_A_TIME)
            paid = [one for one, done in zip(some, stored, strict=True) if done]
            catalogues.forget_owed_marks(self._known, paid)
            if failures:
                break
        if failures:
            _log.warning(
                "%d of %d marks could not be stored yet; the next run will do it: %s",
                len(self.owed()),
                len(owed),
                failures[0].message,
            )
        elif owed:
            _log.info("%d sets are marked in the store", len({set_id for set_id, _ in owed}))

    def _is_taken(self, set_ids: Set[str], name: str) -> bool:
        """Whether one of these sets has a document of this name already."""
        with self._known.reading() as connection:
            rows = connection.execute("SELECT set_id FROM verdicts WHERE name = ?", (name,))
            return not set_ids.isdisjoint(row[0] for row in rows)

    def _store_mark(self, set_id: str, name: str) -> None:
        document = self._catalogue.verdict(set_id, name)
        if document is None:  # the set is gone, or its mark
            return
        named = load_later_mark(document, expected_id=set_id).documents
        if (manifest := named.get(naming.MANIFEST)) and not self._is_stored(set_id, manifest):
            self._catalogue.forget_verdict(set_id, name)
            return
        key = naming.document_key(self._prefix, set_id, name)
        metadata = {"set-id": set_id, "instance": self._directory.instance()}
        try:
            put_document(self._store, key, document, metadata)
        except ObjectExists:
            if self._bytes(key) == document:  # this process, or another one, had come so far
                return
            self.note({set_id: named})  # under another name
            self._catalogue.forget_verdict(set_id, name)

    def _is_stored(self, set_id: str, sha256: str) -> bool:
        """Whether the store has the manifest that this host knows."""
        key = naming.manifest_key(self._prefix, set_id)
        found = self._bytes(key)
        if found is not None and sha256_of(found) == sha256:
            return True
        _log.error(
            "set %s is not marked: the store %s its manifest",
            set_id,
            "has another text under the key of" if found is not None else "does not have",
            extra=fields(set_id=set_id),
        )
        return False

    def _bytes(self, key: str) -> bytes | None:
        buffer = io.BytesIO()
        try:
            self._store.get(key, buffer)
        except ObjectMissing:
            return None
        return buffer.getvalue()
