"""What this host's records say of a period: one question each, however many runs there are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backups.host.run_log import RunLog, read_runs
from backups.host.totals import RunKind
from backups.model import OperationName, Run
from shared.clock import format_utc, parse_utc

# To the second: as texts, `01:00:00.005Z` comes before `01:00:00Z`.
_IN_PERIOD = "substr(started_at, 1, 19) BETWEEN ? AND ?"


@dataclass(frozen=True)
class Message:
    """A message to a receiver, which is a hash, and what became of it."""

    at: datetime
    receiver: str
    title: str
    codes: tuple[str, ...]
    result: str


class PeriodRecords:
    """The records until `now`. Raises `DatabaseError` when they cannot be used."""

    def __init__(self, run_log: RunLog, now: datetime) -> None:
        self._run_log = run_log
        self._now = format_utc(now)[:19]

    def begin(self) -> datetime | None:
        """When the first run began, of those whose time has come."""
        rows = self._rows(
            "SELECT min(started_at) FROM runs WHERE substr(started_at, 1, 19) <= ?", self._now
        )
        return parse_utc(rows[0][0]) if rows[0][0] else None

    def counts(self, since: datetime) -> dict[RunKind, int]:
        """How many runs there were of each kind."""
        rows = self._rows(
            f"SELECT operation, trigger, status, count(*) FROM runs WHERE {_IN_PERIOD}"  # noqa: S608
            " GROUP BY operation, trigger, status ORDER BY operation, trigger, status",
            _second(since),
            self._now,
        )
        return {RunKind(*kind): int(count) for *kind, count in rows}

    def from_future(self) -> int:
        """How many runs have a time that has not come yet."""
        rows = self._rows(
            "SELECT count(*) FROM runs WHERE substr(started_at, 1, 19) > ?", self._now
        )
        return int(rows[0][0])

    def made(self) -> list[tuple[str, str]]:
        """Set and trigger of each backup run that ever succeeded."""
        rows = self._rows(
            "SELECT set_id, trigger FROM runs WHERE operation = 'backup'"
            " AND status = 'succeeded' AND set_id IS NOT NULL"
        )
        return [(str(set_id), str(trigger)) for set_id, trigger in rows]

    def failed(self, since: datetime) -> list[Run]:
        """The runs of all operations that failed or were interrupted, oldest first."""
        return self._runs("status IN ('failed', 'interrupted')", since)

    def of(self, operation: OperationName, since: datetime) -> list[Run]:
        """The runs of an operation that are over, oldest first."""
        return self._runs("operation = ? AND status <> 'running'", since, operation)

    def messages(self, since: datetime) -> list[Message]:
        """The messages that were sent or tried, oldest first."""
        rows = self._rows(
            "SELECT at, receiver, title, codes, result FROM messages"
            " WHERE substr(at, 1, 19) BETWEEN ? AND ? ORDER BY sequence",
            _second(since),
            self._now,
        )
        return [
            Message(parse_utc(at), receiver, title, _codes(codes), result)
            for at, receiver, title, codes, result in rows
        ]

    def _runs(self, where: str, since: datetime, *values: str) -> list[Run]:
        with self._run_log.reading() as connection:
            found = read_runs(
                connection,
                f"WHERE {where} AND {_IN_PERIOD} ORDER BY sequence",
                (*values, _second(since), self._now),
            )
        return sorted(found, key=lambda run: run.started_at)  # the clock may have been put back

    def _rows(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with self._run_log.reading() as connection:
            return connection.execute(statement, values).fetchall()


def _second(instant: datetime) -> str:
    return format_utc(instant)[:19]


def _codes(text: str) -> tuple[str, ...]:
    """The codes of a message; none when they cannot be read: the message is what counts."""
    try:
        return tuple(str(code) for code in json.loads(text))
    except (ValueError, TypeError):
        return ()
