"""What this host remembers of itself: restores, drills, a start with an empty database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from backups.host import totals
from backups.model import DrillReport, RestoreRecord
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database

_DRILL = "last_drill"
_RESTORE = "last_restore"
_SUCCESSOR_OF = "successor_of"
_EMPTY = "started_empty:"
_ALARMS = "told_alarms"
_ENDED_LOGIN = "ended_login:"


class HostFacts:
    """Named facts in this host's records. Raises `DatabaseError` when they cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def set_last_drill(self, report: DrillReport) -> None:
        """Remember the newest drill."""
        self._set(_DRILL, _adapter(DrillReport).dump_json(report).decode())

    def last_drill(self) -> DrillReport | None:
        """The newest drill on this host."""
        text = self._get(_DRILL)
        return _adapter(DrillReport).validate_json(text) if text else None

    def set_last_restore(self, record: RestoreRecord) -> None:
        """Remember what the newest restore in place replaced."""
        self._set(_RESTORE, _adapter(RestoreRecord).dump_json(record).decode())

    def last_restore(self) -> RestoreRecord | None:
        """The newest restore in place on this host."""
        text = self._get(_RESTORE)
        return _adapter(RestoreRecord).validate_json(text) if text else None

    def succeed(self, instance: str) -> None:
        """Remember that this host carries on the data of another instance."""
        self._set(f"{_SUCCESSOR_OF}:{instance}", "1")

    def predecessors(self) -> frozenset[str]:
        """The instances whose data this host carries on."""
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT name FROM facts WHERE name LIKE ?", (f"{_SUCCESSOR_OF}:%",)
            ).fetchall()
        return frozenset(str(name).partition(":")[2] for (name,) in rows)

    def claim_alarms(self, codes: Sequence[str]) -> tuple[str, ...] | None:
        """Make `codes` the alarms that were told, and return the former; None if nothing changes.

        In one transaction, so that of several processes one tells it.
        """
        text = json.dumps(sorted(set(codes)))
        with self._records.transaction() as connection:
            row = connection.execute(
                "SELECT value FROM facts WHERE name = ?", (_ALARMS,)
            ).fetchone()
            if (row[0] if row else "[]") == text:
                return None
            connection.execute(
                "INSERT OR REPLACE INTO facts(name, value) VALUES (?, ?)", (_ALARMS, text)
            )
        return tuple(json.loads(row[0])) if row else ()

    def told_alarms(self) -> tuple[str, ...]:
        """The alarms that were told and are not over."""
        return tuple(json.loads(self._get(_ALARMS) or "[]"))

    def count_notification(self, *, sent: bool) -> None:
        """Remember that somebody was to be told, and whether it reached everybody."""
        with self._records.transaction() as connection:
            totals.count_notification(connection, "sent" if sent else "failed")

    def notifications(self) -> Mapping[str, int]:
        """How many notifications were `sent`, and how many `failed`."""
        with self._records.reading() as connection:
            return totals.notification_totals(connection)

    def set_time(self, name: str, at: datetime) -> None:
        """Remember when something happened."""
        self._set(f"time:{name}", format_utc(at))

    def time(self, name: str) -> datetime | None:
        """When something happened last."""
        text = self._get(f"time:{name}")
        return parse_utc(text) if text else None

    def end_login(self, login_id: str, at: datetime, forget_before: datetime) -> None:
        """Remember that a login to the page was ended; those ended long ago are expired."""
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO facts(name, value) VALUES (?, ?)",
                (f"{_ENDED_LOGIN}{login_id}", format_utc(at)),
            )
            connection.execute(
                "DELETE FROM facts WHERE substr(name, 1, ?) = ? AND value < ?",
                (len(_ENDED_LOGIN), _ENDED_LOGIN, format_utc(forget_before)),
            )

    def login_is_ended(self, login_id: str) -> bool:
        """Whether a login to the page was ended, by whichever process of this host."""
        return self._get(f"{_ENDED_LOGIN}{login_id}") is not None

    def note_started_empty(self, source: str, at: datetime) -> None:
        """Remember that a source was missing at a start, and was begun anew."""
        self._set(f"{_EMPTY}{source}", format_utc(at))

    def forget_started_empty(self, source: str) -> None:
        """The source was restored, or its emptiness accepted."""
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM facts WHERE name = ?", (f"{_EMPTY}{source}",))

    def started_empty(self) -> dict[str, datetime]:
        """Sources that were begun anew, and when."""
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?", (len(_EMPTY), _EMPTY)
            ).fetchall()
        return {name.removeprefix(_EMPTY): parse_utc(value) for name, value in rows}

    def _set(self, name: str, value: str) -> None:
        with self._records.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO facts(name, value) VALUES (?, ?)", (name, value)
            )

    def _get(self, name: str) -> str | None:
        with self._records.reading() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
