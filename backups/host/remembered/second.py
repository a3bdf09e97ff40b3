"""What the hosts of an installation remember of the copying to the second place."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from backups.host.remembered.common import CommonFacts
from backups.host.remembered.record import Record, document, time_of
from backups.vocabulary.second import CopyState, DocumentsState, StandIn
from shared.databases.engines.database import Connection

_T = TypeVar("_T")

_STATE = document("second_place", CopyState)
_DOCUMENTS = document("second_documents", DocumentsState)
_STAND_IN = document("stand_in", StandIn)
_INHERITED: Record[str] = Record("inherited", str, str)
_LAST_DRILL: Record[str] = Record("drill_place", str, str)
_BEGUN = time_of("time:second")
_LOCATION: Record[str] = Record("second_location", str, str)
# What a restore on this host has left to do is its own.
NAMES = tuple(one.name for one in (_STATE, _DOCUMENTS, _STAND_IN, _LAST_DRILL, _BEGUN, _LOCATION))


class SecondRecord:
    """The last copying. Every method raises `DatabaseError` when the records cannot be used."""

    def __init__(self, common: CommonFacts) -> None:
        self._common = common

    def state(self, location: str) -> CopyState | None:
        """What the last copying to `location` found; None where there was none."""
        return self._common.read(partial(_of_place, _STATE, location))

    def begun_at(self, location: str) -> datetime | None:
        """Since when the second place is at `location`, as far as is known."""
        return self._common.read(partial(_of_place, _BEGUN, location))

    def begin(self, location: str, at: datetime) -> None:
        """Note since when copies go to `location`, where they have gone elsewhere before."""

        def change(connection: Connection) -> None:
            if _LOCATION.text(connection) != location:
                _LOCATION.write(connection, location)
                _BEGUN.write(connection, at)
                _STATE.forget(connection)
                _DOCUMENTS.forget(connection)

        self._common.write(change)

    def note(self, state: CopyState) -> None:
        """Remember what a copying found; not what a doctor found, who may have been meanwhile."""

        def change(connection: Connection) -> None:
            before = _STATE.read(connection)
            deletable = before.deletable if before is not None else None
            _STATE.write(connection, replace(state, deletable=deletable))

        self._common.write(change)

    def documents(self, location: str) -> DocumentsState | None:
        """What the last copying of documents to `location` found."""
        return self._common.read(partial(_of_place, _DOCUMENTS, location))

    def note_documents(self, state: DocumentsState, location: str) -> None:
        """Remember that."""
        self.begin(location, state.at)
        self._common.write(lambda connection: _DOCUMENTS.write(connection, state))

    def note_deletable(self, deletable: bool, at: datetime) -> None:
        """Remember whether the key of the second place could delete there."""

        def change(connection: Connection) -> None:
            state = _STATE.read(connection) or CopyState(at)
            _STATE.write(connection, replace(state, deletable=deletable))

        self._common.write(change)

    def stand_in(self, location: str) -> StandIn | None:
        """Since when the first place is away, and what `location` has in its place."""
        return self._common.read(partial(_stand_in, location))

    def left_elsewhere(self, location: str) -> StandIn | None:
        """What another place than `location` has, and the first did not get from there."""
        found = self._common.read(_STAND_IN.read)
        return found if found is not None and found.location not in ("", location) else None

    def note_stand_in(self, stand_in: StandIn | None, location: str) -> None:
        """Remember that; None: the first place is back, and has all."""

        def change(connection: Connection) -> None:
            if stand_in is not None:
                _STAND_IN.write(connection, replace(stand_in, location=location))
            elif _stand_in(location, connection) is not None:
                _STAND_IN.forget(connection)

        self._common.write(change)

    def inherited(self) -> str | None:
        """The run of the restore after which the first place got what it lacked; None before."""
        return self._common.read_own(_INHERITED.text)

    def note_inherited(self, run_id: str) -> None:
        """Remember that."""
        self._common.write_own(lambda own: _INHERITED.write(own, run_id))

    def drilled_last(self) -> str:
        """In which place the last scheduled drill was; `second` where there was none."""
        return self._common.read(_LAST_DRILL.text) or "second"

    def note_drill(self, place: str) -> None:
        """Remember that."""
        self._common.write(lambda connection: _LAST_DRILL.write(connection, place))


def _of_place(record: Record[_T], location: str, connection: Connection) -> _T | None:
    """The value, where it is of that place."""
    return record.read(connection) if _LOCATION.text(connection) == location else None


def _stand_in(location: str, connection: Connection) -> StandIn | None:
    found = _STAND_IN.read(connection)
    return found if found is not None and found.location in ("", location) else None
