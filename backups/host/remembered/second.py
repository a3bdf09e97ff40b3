"""What this host remembers of the copying to the second place."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime

from backups.host.remembered.record import Record, document, time_of
from backups.vocabulary.second import CopyState, DocumentsState, StandIn
from shared.databases.sqlite import Database

_STATE = document("second_place", CopyState)
_DOCUMENTS = document("second_documents", DocumentsState)
_STAND_IN = document("stand_in", StandIn)
_INHERITED: Record[str] = Record("inherited", str, str)
_LAST_DRILL: Record[str] = Record("drill_place", str, str)
_BEGUN = time_of("time:second")
_LOCATION: Record[str] = Record("second_location", str, str)


class SecondRecord:
    """The last copying. Every method raises `DatabaseError` when the records cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def state(self, location: str) -> CopyState | None:
        """What the last copying to `location` found; None where there was none."""
        with self._records.reading() as connection:
            return _STATE.read(connection) if _LOCATION.text(connection) == location else None

    def begun_at(self, location: str) -> datetime | None:
        """Since when the second place is at `location`, as far as this host knows."""
        with self._records.reading() as connection:
            return _BEGUN.read(connection) if _LOCATION.text(connection) == location else None

    def begin(self, location: str, at: datetime) -> None:
        """Note since when copies go to `location`, where they have gone elsewhere before."""
        with self._records.transaction() as connection:
            if _LOCATION.text(connection) != location:
                _LOCATION.write(connection, location)
                _BEGUN.write(connection, at)
                connection.executemany(
                    "DELETE FROM facts WHERE name = ?", [(_STATE.name,), (_DOCUMENTS.name,)]
                )

    def note(self, state: CopyState) -> None:
        """Remember what a copying found; not what a doctor found, who may have been meanwhile."""
        with self._records.transaction() as connection:
            before = _STATE.read(connection)
            deletable = before.deletable if before is not None else None
            _STATE.write(connection, replace(state, deletable=deletable))

    def documents(self, location: str) -> DocumentsState | None:
        """What the last copying of documents to `location` found."""
        with self._records.reading() as connection:
            return _DOCUMENTS.read(connection) if _LOCATION.text(connection) == location else None

    def note_documents(self, state: DocumentsState, location: str) -> None:
        """Remember that."""
        self.begin(location, state.at)
        with self._records.transaction() as connection:
            _DOCUMENTS.write(connection, state)

    def note_deletable(self, deletable: bool, at: datetime) -> None:
        """Remember whether the key of the second place could delete there."""
        with self._records.transaction() as connection:
            state = _STATE.read(connection) or CopyState(at)
            _STATE.write(connection, replace(state, deletable=deletable))

    def stand_in(self, location: str) -> StandIn | None:
        """Since when the first place is away, and what `location` has in its place."""
        with self._records.reading() as connection:
            return self._stand_in(connection, location)

    def left_elsewhere(self, location: str) -> StandIn | None:
        """What another place than `location` has, and the first did not get from there."""
        with self._records.reading() as connection:
            found = _STAND_IN.read(connection)
        return found if found is not None and found.location not in ("", location) else None

    def note_stand_in(self, stand_in: StandIn | None, location: str) -> None:
        """Remember that; None: the first place is back, and has all."""
        with self._records.transaction() as connection:
            if stand_in is not None:
                _STAND_IN.write(connection, replace(stand_in, location=location))
            elif self._stand_in(connection, location) is not None:
                connection.execute("DELETE FROM facts WHERE name = ?", (_STAND_IN.name,))

    @staticmethod
    def _stand_in(connection: sqlite3.Connection, location: str) -> StandIn | None:
        found = _STAND_IN.read(connection)
        return found if found is not None and found.location in ("", location) else None

    def inherited(self) -> str | None:
        """The run of the restore after which the first place got what it lacked; None before."""
        with self._records.reading() as connection:
            return _INHERITED.text(connection)

    def note_inherited(self, run_id: str) -> None:
        """Remember that."""
        with self._records.transaction() as connection:
            _INHERITED.write(connection, run_id)

    def drilled_last(self) -> str:
        """In which place the last scheduled drill was; `second` where there was none."""
        with self._records.reading() as connection:
            return _LAST_DRILL.text(connection) or "second"

    def note_drill(self, place: str) -> None:
        """Remember that."""
        with self._records.transaction() as connection:
            _LAST_DRILL.write(connection, place)
