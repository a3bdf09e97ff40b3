"""Marking again that sets were deleted: another note beside the one that an older key has marked.

No later mark makes such a note, so the new one stands by itself. It says the same of the same
manifest, and bears the first second after the old one that is free: it tells when the set was
deleted, not when the keys were rotated.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta

from backups.format import naming
from backups.format.notes.deletion import DELETED, Deletion, dump_deletion
from backups.operations.installation import Installation
from backups.sets.judging import check_marks, deletion_of
from backups.sets.puts import put_document
from shared.errors import ObjectExists, ObjectMissing
from shared.logs import fields
from shared.words import counted

_log = logging.getLogger("backups.run")
_SECOND = timedelta(seconds=1)
_MOST_TRIES = 60


class DeletionMarks:
    """Marks notes of deletions again that are in the store already. Raises `DatabaseError`."""

    def __init__(self, installation: Installation) -> None:
        self._store = installation.store
        self._prefix = installation.config.prefix
        self._marks = installation.config.marks
        self._directory = installation.directory
        self._catalogue = installation.catalogue

    def mark_again(self, ours: Collection[str]) -> int:
        """Mark the notes of these installations with the first key; how many had to be.

        The catalogue was refreshed before. Raises `StoreError`, `ProofFailed`; repeated, it marks
        what is left.
        """
        marked = 0
        for set_id in self._catalogue.deleted.ids():
            note = self._by_older_keys(set_id)
            if note is not None and self._is_of(note, ours):
                self._put(note)
                marked += 1
        if marked:
            _log.info("marked %s of deleted sets again", counted(marked, "note"))
        return marked

    def _by_older_keys(self, set_id: str) -> Deletion | None:
        """The note on a set that is valid, but that the first key says nothing of."""
        documents = self._catalogue.documents(set_id)
        of_first = check_marks(set_id, documents, self._marks.of_first())
        if deletion_of(set_id, documents, of_first) is not None:
            return None
        counting = self._marks.since_rotation(self._catalogue.rotated())
        return deletion_of(set_id, documents, check_marks(set_id, documents, counting))

    def _is_of(self, note: Deletion, ours: Collection[str]) -> bool:
        key = naming.verdict_key(self._prefix, note.set_id, DELETED.rstrip("-"), note.at)
        try:
            return self._store.head(key).metadata.get("instance") in ours
        except ObjectMissing:  # a prune has just swept it
            return False

    def _put(self, note: Deletion) -> None:
        for seconds in range(1, _MOST_TRIES + 1):
            try:
                return self._put_again(
                    Deletion(note.set_id, note.at + seconds * _SECOND, note.manifest)
                )
            except ObjectExists:
                if seconds == _MOST_TRIES:
                    raise
        raise AssertionError  # pragma: no cover

    def _put_again(self, note: Deletion) -> None:
        key = naming.verdict_key(self._prefix, note.set_id, DELETED.rstrip("-"), note.at)
        document = self._marks.sign(key, dump_deletion(note))
        metadata = {"set-id": note.set_id, "instance": self._directory.instance()}
        put_document(self._store, key, document, metadata)
        name = key.rpartition("/")[2].removesuffix(".json")
        self._catalogue.add_verdict(note.set_id, name, document)
        _log.info("marked again that it was deleted", extra=fields(set_id=note.set_id))
