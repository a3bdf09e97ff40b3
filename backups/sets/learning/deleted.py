"""The sets that a person has deleted, as far as this host knows: their notes are believed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress

from backups.errors import ManifestInvalid, SetDeleted, SetNotFound
from backups.format.notes.deletion import DELETED
from backups.model import BackupSet
from backups.sets import marks_table
from backups.sets.sets_table import SetsTable
from shared.databases.sqlite import Database


def deleted_ids(connection: sqlite3.Connection) -> frozenset[str]:
    """The ids of all sets with a note that is marked as ours."""
    return frozenset(set_id for set_id, _ in marks_table.believed(connection, DELETED))


def is_deleted(table: SetsTable, set_id: str) -> bool:
    """Whether a set was deleted on purpose, and not another one under its id."""
    with table.reading() as connection:
        try:
            table.read(connection, set_id)
        except SetDeleted:
            return True
        except (SetNotFound, ManifestInvalid):
            return False
    return False


class DeletedSets:
    """What is left of deleted sets. Raises `DatabaseError`."""

    def __init__(self, known: Database, table: SetsTable) -> None:
        self._known = known
        self._table = table

    def ids(self) -> list[str]:
        """All that a note says were deleted, whether or not something of them is left."""
        with self._known.reading() as connection:
            return sorted(deleted_ids(connection))

    def unfinished(self, instances: Collection[str] | None = None) -> list[BackupSet]:
        """Those whose manifest is still there, oldest first, of `instances` if they are given:
        something stopped their deletion."""
        found = []
        for set_id in (one for one in self.ids() if is_deleted(self._table, one)):
            with self._table.reading() as connection, suppress(SetNotFound, ManifestInvalid):
                found.append(self._table.read(connection, set_id, deleted=True))
        return [one for one in found if instances is None or one.instance in instances]
