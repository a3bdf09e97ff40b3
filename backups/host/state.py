"""What this host remembers of itself: one typed record for each thing, in the table `facts`.

One file, because the names under which they are stored are known here alone. A value that cannot
be read counts as absent, and a line of the log names it: one bad row must not silence status on a
bad day.

last_drill, last_restore             a document each, as JSON
time:begun, time:swept               an instant each, as `format_utc` writes it
last_contact_at                      an instant too
sent_alarms                          a list of codes, as JSON
points                               the reader that noted the points of the catalogue
owed_asides                          what the store has yet to be told was set aside, as JSON
successor_of:<instance>              `1`
started_empty:<source>               an instant
baseline:<source>                    a document, as JSON
ended_login:<login>                  an instant
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from backups.host import totals
from backups.model import Baseline, DrillReport, RestoreRecord
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database

_log = logging.getLogger(__name__)

T = TypeVar("T")
D = TypeVar("D", Baseline, DrillReport, RestoreRecord)


@dataclass(frozen=True)
class _Record(Generic[T]):
    """One remembered value: its name in the table, and how it becomes text and comes back.

    `load` raises `ValueError` for a text that `dump` did not write.
    """

    name: str
    dump: Callable[[T], str]
    load: Callable[[str], T]

    def read(self, connection: sqlite3.Connection) -> T | None:
        """The value; None when there is none, or none that can be read."""
        text = self.text(connection)
        return None if text is None else self.parse(text)

    def text(self, connection: sqlite3.Connection) -> str | None:
        """The stored text, whether or not it can be read."""
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (self.name,)).fetchone()
        return str(row[0]) if row else None

    def write(self, connection: sqlite3.Connection, value: T) -> None:
        """Replace the value; within a transaction."""
        connection.execute(
            "INSERT OR REPLACE INTO facts(name, value) VALUES (?, ?)", (self.name, self.dump(value))
        )

    def parse(self, text: str) -> T | None:
        """The value of a stored text; None, and a line of the log, when it cannot be read."""
        try:
            return self.load(text)
        except ValueError:
            _log.warning("%s in runs.db cannot be read, and counts as absent", self.name)
            return None


def _document(name: str, kind: type[D]) -> _Record[D]:
    hashable: Any = kind  # mypy takes the class of a dataclass for one that has no hash

    def load(text: str) -> D:
        document: D = _adapter(hashable).validate_json(text)
        if document.at.tzinfo is None:
            raise ValueError("a time without a zone has no instant")
        return document

    return _Record(name, lambda value: _adapter(hashable).dump_json(value).decode(), load)


def _time(name: str) -> _Record[datetime]:
    return _Record(name, format_utc, parse_utc)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


_LAST_DRILL = _document("last_drill", DrillReport)
_LAST_RESTORE = _document("last_restore", RestoreRecord)
_BEGUN = _time("time:begun")
_SWEPT = _time("time:swept")
_LAST_CONTACT = _time("last_contact_at")
_ALARMS: _Record[tuple[str, ...]] = _Record(
    "sent_alarms",
    lambda codes: json.dumps(sorted(set(codes))),
    lambda text: tuple(_adapter(list[str]).validate_json(text)),
)
# Pairs of a set's id and the name of the document beside its manifest.
_OWED_ASIDES: _Record[tuple[tuple[str, str], ...]] = _Record(
    "owed_asides",
    json.dumps,
    lambda text: tuple(_adapter(list[tuple[str, str]]).validate_json(text)),
)
_POINTS_READER: _Record[str] = _Record("points", str, str)

# Beginnings of names that end in what the value is about.
_SUCCESSOR_OF = "successor_of:"
_STARTED_EMPTY = "started_empty:"
_BASELINE = "baseline:"
_ENDED_LOGIN = "ended_login:"


class HostState:
    """What this host remembers. Raises `DatabaseError` when its records cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    # --- restores and drills ------------------------------------------------------------

    def last_drill(self) -> DrillReport | None:
        """The newest drill on this host."""
        return self._read(_LAST_DRILL)

    def set_last_drill(self, report: DrillReport) -> None:
        """Remember the newest drill."""
        self._write(_LAST_DRILL, report)

    def last_restore(self) -> RestoreRecord | None:
        """The newest restore in place on this host."""
        return self._read(_LAST_RESTORE)

    def set_last_restore(self, record: RestoreRecord) -> None:
        """Remember what the newest restore in place replaced."""
        self._write(_LAST_RESTORE, record)

    def needed_for_undo(self) -> tuple[Path, ...] | None:
        """Where what the newest restore replaced lies; None when its record cannot be read."""
        with self._records.reading() as connection:
            text = _LAST_RESTORE.text(connection)
        if text is None:
            return ()
        record = _LAST_RESTORE.parse(text)
        if record is None:
            return None
        needed = (*record.replaced, *record.owed)
        return tuple(replaced.path for replaced in needed if replaced.path is not None)

    def predecessors(self) -> frozenset[str]:
        """The instances whose data this host carries on."""
        return frozenset(self._read_all(_SUCCESSOR_OF))

    def succeed(self, instance: str) -> None:
        """Remember that this host carries on the data of another instance."""
        self._write(_Record(f"{_SUCCESSOR_OF}{instance}", str, str), "1")

    def baselines(self) -> dict[str, Baseline]:
        """What restores in place have put into the places of sources, by source."""
        return {
            source: found
            for source, text in self._read_all(_BASELINE).items()
            if (found := _document(f"{_BASELINE}{source}", Baseline).parse(text)) is not None
        }

    def set_baseline(self, source: str, baseline: Baseline) -> None:
        """Remember what was restored into the place of a source."""
        self._write(_document(f"{_BASELINE}{source}", Baseline), baseline)

    def forget_baseline(self, source: str) -> None:
        """The restore was undone, or a later set accepted."""
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM facts WHERE name = ?", (f"{_BASELINE}{source}",))

    def owed_asides(self) -> tuple[tuple[str, str], ...]:
        """The documents that the store has yet to get: pairs of a set's id and a name."""
        return self._read(_OWED_ASIDES) or ()

    def set_owed_asides(self, owed: Sequence[tuple[str, str]]) -> None:
        """Remember which documents the store has yet to get."""
        self._write(_OWED_ASIDES, tuple(owed))

    # --- when things happened -----------------------------------------------------------

    def begun_at(self) -> datetime | None:
        """Since when a process of this host schedules backups."""
        return self._read(_BEGUN)

    def note_begun(self, at: datetime) -> None:
        """Remember that a process of this host schedules backups; the first time counts."""
        if self.begun_at() is None:
            self._write(_BEGUN, at)

    def swept_at(self) -> datetime | None:
        """When the store was last swept of what no manifest claims."""
        return self._read(_SWEPT)

    def set_swept_at(self, at: datetime) -> None:
        """Remember that the store was swept."""
        self._write(_SWEPT, at)

    def last_contact_at(self) -> datetime | None:
        """When the store last answered."""
        return self._read(_LAST_CONTACT)

    def set_last_contact_at(self, at: datetime) -> None:
        """Remember that the store answered."""
        self._write(_LAST_CONTACT, at)

    # --- sources that were missing at a start -------------------------------------------

    def started_empty(self) -> dict[str, datetime]:
        """Sources that were begun anew, and when."""
        return {
            source: at
            for source, text in self._read_all(_STARTED_EMPTY).items()
            if (at := _time(f"{_STARTED_EMPTY}{source}").parse(text)) is not None
        }

    def note_started_empty(self, source: str, at: datetime) -> None:
        """Remember that a source was missing at a start, and was begun anew."""
        self._write(_time(f"{_STARTED_EMPTY}{source}"), at)

    def forget_started_empty(self, source: str) -> None:
        """The source was restored, or its emptiness accepted."""
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM facts WHERE name = ?", (f"{_STARTED_EMPTY}{source}",))

    # --- alarms and messages ------------------------------------------------------------

    def sent_alarms(self) -> tuple[str, ...]:
        """The alarms that were sent and are not over."""
        return self._read(_ALARMS) or ()

    def claim_alarms(self, codes: Sequence[str]) -> tuple[str, ...] | None:
        """Make `codes` the alarms that were sent, and return the former; None if nothing changes.

        In one transaction, so that of several processes one sends it.
        """
        with self._records.transaction() as connection:
            former = _ALARMS.read(connection) or ()
            if set(former) == set(codes):
                return None
            _ALARMS.write(connection, tuple(codes))
        return former

    def notifications(self) -> Mapping[str, int]:
        """How many notifications were `sent`, and how many `failed`."""
        with self._records.reading() as connection:
            return totals.notification_totals(connection)

    def count_notification(self, *, sent: bool) -> None:
        """Remember that a notification was sent, and whether it reached everybody."""
        with self._records.transaction() as connection:
            totals.count_notification(connection, "sent" if sent else "failed")

    # --- logins to the page -------------------------------------------------------------

    def login_is_ended(self, login_id: str) -> bool:
        """Whether a login to the page was ended, by whichever process of this host.

        Also when the time of its end cannot be read: it must not come to life again.
        """
        with self._records.reading() as connection:
            return _time(f"{_ENDED_LOGIN}{login_id}").text(connection) is not None

    def end_login(self, login_id: str, at: datetime, forget_before: datetime) -> None:
        """Remember that a login to the page was ended; those ended long ago are expired."""
        with self._records.transaction() as connection:
            _time(f"{_ENDED_LOGIN}{login_id}").write(connection, at)
            connection.execute(
                "DELETE FROM facts WHERE substr(name, 1, ?) = ? AND value < ?",
                (len(_ENDED_LOGIN), _ENDED_LOGIN, format_utc(forget_before)),
            )

    # --- the table ----------------------------------------------------------------------

    def _read(self, record: _Record[T]) -> T | None:
        with self._records.reading() as connection:
            return record.read(connection)

    def _write(self, record: _Record[T], value: T) -> None:
        with self._records.transaction() as connection:
            record.write(connection, value)

    def _read_all(self, beginning: str) -> dict[str, str]:
        """The texts of all names with this beginning, by the rest of the name."""
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?",
                (len(beginning), beginning),
            ).fetchall()
        return {str(name).removeprefix(beginning): str(text) for name, text in rows}


def points_reader(connection: sqlite3.Connection) -> str | None:
    """For which program and prefix the points of the catalogue were noted."""
    return _POINTS_READER.read(connection)


def set_points_reader(connection: sqlite3.Connection, reader: str) -> None:
    """Remember for which program and prefix the points were noted; within their transaction."""
    _POINTS_READER.write(connection, reader)
