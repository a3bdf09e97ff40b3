"""`Inbox`: what the platforms told us and what is still to be done about it, in `inbox.db`.

An event is a row before its sender gets an answer, and `done` only when its work has ended:
at least once, also across a restart. A row stays for some days without its body, so that a
sender's retry meets it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from shared.clock import Clock, format_utc, parse_utc
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, Database
from shared.logs import fields

# The name of a platform: `PlatformDefinition.name`.
Provider = str

# Longer than a platform retries: the most patient one that we know does for 36 hours.
REMEMBERED = timedelta(days=3)

# The topic of a person's request to be deleted, at whichever platform: it is never forgotten.
DATA_DELETION = "data_deletion"

# Of a row: its work has ended; it cannot be read back and waits for a person. 0 is still to do.
_DONE, _SET_ASIDE = 1, 2

_REMEDY = (
    "Move it aside, with its -wal and -shm, if it is still there, and restart the app: the app "
    "creates a new one, and fetches from the platforms what was waiting in it."
)

_log = logging.getLogger(__name__)

MIGRATIONS = (
    """
    CREATE TABLE events(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL,
        event_id TEXT NOT NULL,
        account TEXT NOT NULL,
        topic TEXT NOT NULL,
        body TEXT,
        sent_at TEXT,
        received_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        not_before REAL NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        UNIQUE (provider, event_id)
    );
    CREATE INDEX events_waiting ON events(not_before) WHERE done = 0;
    CREATE TABLE used_states(nonce TEXT PRIMARY KEY, expires_at INTEGER NOT NULL);
    CREATE TABLE reconnects(
        provider TEXT NOT NULL, account TEXT NOT NULL, reason TEXT NOT NULL, since TEXT NOT NULL,
        PRIMARY KEY (provider, account)
    );
    CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL)
    """,
)


@dataclass(frozen=True)
class Event:
    """One thing to be done: what `provider` told about an account of it.

    `event_id` is the sender's name for it: the same one twice is the same event. `body` is
    a JSON text; `sent_at` is when it happened, if the sender says so.
    """

    provider: Provider
    event_id: str
    account: str
    topic: str
    body: str
    sent_at: datetime | None = None


@dataclass(frozen=True)
class WaitingEvent:
    """An event in the inbox, with its place in the row and the attempts so far."""

    sequence: int
    attempts: int
    event: Event


def open_inbox(path: Path) -> Database:
    """The database; made when it is not there. It may be lost: polling fetches again.

    Raises `DatabaseError`; of a damaged file with the remedy for this one, which has no backup.
    """
    return Database(path, MIGRATIONS, busy_timeout=BUSY_TIMEOUT_SECONDS, remedy=_REMEDY)


class Inbox:
    """The events. Safe from many threads and processes; raises `DatabaseError`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, events: Iterable[Event]) -> int:
        """Keep the events that are new, all or none; how many those were."""
        now = int(self._clock.now().timestamp())
        rows = [
            (
                event.provider,
                event.event_id,
                event.account,
                event.topic,
                event.body,
                format_utc(event.sent_at) if event.sent_at else None,
                now,
            )
            for event in events
        ]
        with self._database.transaction() as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT OR IGNORE INTO events"
                "(provider, event_id, account, topic, body, sent_at, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            return connection.total_changes - before

    def due(self, limit: int, providers: Iterable[Provider]) -> list[WaitingEvent]:
        """The oldest events of these platforms whose time has come, at most `limit`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT sequence, attempts, provider, CAST(event_id AS BLOB),"
                " CAST(account AS BLOB), CAST(topic AS BLOB), CAST(body AS BLOB),"
                " CAST(sent_at AS BLOB) FROM events WHERE done = 0 AND not_before <= ?"
                " AND provider IN (SELECT value FROM json_each(?)) ORDER BY sequence LIMIT ?",
                (self._clock.now().timestamp(), json.dumps(list(providers)), limit),
            ).fetchall()
        waiting = []
        for row in rows:
            try:
                waiting.append(_waiting(row))
            except (ValueError, AttributeError, TypeError) as error:
                self._set_aside(row[0], error)
        return waiting

    def _set_aside(self, sequence: int, error: Exception) -> None:
        """Keep a row that cannot be read back as it is, out of the way of the others."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE events SET done = ? WHERE sequence = ?", (_SET_ASIDE, sequence)
            )
        _log.error(
            "an event of the inbox cannot be read and was set aside: %s",
            type(error).__name__,
            extra=fields(sequence=sequence),
        )

    def finish(self, sequences: Sequence[int]) -> None:
        """These are done; their bodies are forgotten."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE events SET done = 1, body = NULL WHERE sequence = ?",
                [(sequence,) for sequence in sequences],
            )

    def postpone(self, sequences: Sequence[int], seconds: float) -> None:
        """Try these again in `seconds`."""
        not_before = self._clock.now().timestamp() + seconds
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE events SET attempts = attempts + 1, not_before = ? WHERE sequence = ?",
                [(not_before, sequence) for sequence in sequences],
            )

    def is_done(self, provider: Provider, topic: str, event_id: str) -> bool | None:
        """Whether an event's work has ended; None when there is no such event."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT done FROM events WHERE provider = ? AND topic = ? AND event_id = ?",
                (provider, topic, event_id),
            ).fetchone()
        return None if row is None else row[0] == _DONE

    def purge(self) -> None:
        """Forget what was done long ago, but not the requests of people to be deleted."""
        oldest = int((self._clock.now() - REMEMBERED).timestamp())
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM events WHERE done = 1 AND received_at < ? AND topic <> ?",
                (oldest, DATA_DELETION),
            )


def _waiting(row: Sequence[Any]) -> WaitingEvent:
    """Read a row back; raises `ValueError`, `AttributeError` or `TypeError` if it is damaged.

    The texts come as bytes, so that one that is no UTF-8 does not stop the whole query.
    """
    sequence, attempts, provider, *texts = row
    event_id, account, topic, body = (text.decode() for text in texts[:4])
    sent_at = parse_utc(texts[4].decode()) if texts[4] else None
    event = Event(provider, event_id, account, topic, body, sent_at)
    return WaitingEvent(sequence, int(attempts), event)
