"""What this host remembers of the copying to the second place."""

from __future__ import annotations

from datetime import datetime

from backups.host.remembered.record import Record, document, time_of
from backups.vocabulary.second import CopyState, StandIn
from shared.databases.sqlite import Database

_STATE = document("second_place", CopyState)
_STAND_IN = document("stand_in", StandIn)
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
                connection.execute("DELETE FROM facts WHERE name = ?", (_STATE.name,))

    def note(self, state: CopyState) -> None:
        """Remember what a copying found."""
        with self._records.transaction() as connection:
            _STATE.write(connection, state)

    def stand_in(self) -> StandIn | None:
        """Since when the first place is away, and what the second has in its place."""
        with self._records.reading() as connection:
            return _STAND_IN.read(connection)

    def note_stand_in(self, stand_in: StandIn | None) -> None:
        """Remember that; None: the first place is back, and has all."""
        with self._records.transaction() as connection:
            if stand_in is None:
                connection.execute("DELETE FROM facts WHERE name = ?", (_STAND_IN.name,))
            else:
                _STAND_IN.write(connection, stand_in)

    def drilled_last(self) -> str:
        """In which place the last scheduled drill was; `second` where there was none."""
        with self._records.reading() as connection:
            return _LAST_DRILL.text(connection) or "second"

    def note_drill(self, place: str) -> None:
        """Remember that."""
        with self._records.transaction() as connection:
            _LAST_DRILL.write(connection, place)
