"""`Inbox`: what the platforms told us and what is still to be done about it, in `inbox.db`.

An event is a row before its sender gets an answer, and `done` only when its work has ended:
at least once, also across a restart. A row stays for some days without its body, so that a
sender's retry meets it. One that failed for a day is set aside until a person has it tried again.

One file, because every query on the table of events is here, beside the table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from shared.clock import Clock, format_utc, parse_utc
from shared.databases.engines.database import Connection, Cursor, Database
from shared.databases.requests import Request
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS
from shared.databases.sqlite import Database as SqliteDatabase
from shared.errors import DatabaseError
from shared.logs import fields

# The name of a platform: `PlatformDefinition.name`.
Provider = str

# Longer than a platform retries: the most patient one that we know does for 36 hours.
REMEMBERED = timedelta(days=3)

# How long an event may fail before it is set aside, and how often it was tried by then at least:
# a clock that was set forward sets nothing aside.
FAILING = timedelta(days=1)
_FEWEST_ATTEMPTS = 10

# Who looks at the state does not wait while a million is counted.
MOST_COUNTED = 100_000

# Bodies that are worked on at once; a single one may be as large as a webhook.
MOST_BATCH_BYTES = 8 * 1024 * 1024

# The topic of a person's request to be deleted, at whichever platform: it is never forgotten.
DATA_DELETION = "data_deletion"

# Of a row: its work has ended; it cannot be read back and waits for a person. 0 is still to do.
_DONE, _SET_ASIDE = 1, 2

_REMEDY = "Move it aside, with its -wal and -shm: the app then creates a new one."

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

# What an older version of the program leaves alone. The index has only what waits, by account:
# a look at what is due costs the same however many rows are done.
ADDITIONS = """
    CREATE INDEX IF NOT EXISTS events_by_account
        ON events(provider, account, sequence, not_before) WHERE done = 0;
    CREATE INDEX IF NOT EXISTS events_first ON events(sequence) WHERE done = 0;
    CREATE INDEX IF NOT EXISTS events_set_aside ON events(sequence) WHERE done = 2;
    CREATE TABLE IF NOT EXISTS failures(sequence INTEGER PRIMARY KEY, since INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS polled(
        provider TEXT NOT NULL, account TEXT NOT NULL,
        round INTEGER NOT NULL, turn INTEGER NOT NULL,
        PRIMARY KEY (provider, account)
    );
    CREATE TABLE IF NOT EXISTS first_syncs(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        not_before REAL NOT NULL DEFAULT 0,
        UNIQUE (provider, account)
    )
    """


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
    """An event in the inbox, with its place in the row and the attempts so far.

    `not_before` is when its next attempt is due, in seconds of the epoch.
    """

    sequence: int
    attempts: int
    event: Event
    not_before: float = 0.0


@dataclass(frozen=True)
class InboxState:
    """How much waits, for how many seconds the oldest of it does, and how much was set aside.

    What waits is counted up to `MOST_COUNTED`.
    `attempts` is how often the oldest was tried.
    """

    waiting: int
    oldest_seconds: float
    set_aside: int
    attempts: int = 0


def inbox_state(connection: Connection, now: datetime) -> InboxState:
    """How the inbox is now; raises what the connection does."""
    (waiting,) = connection.execute(WAITING_COUNT, (MOST_COUNTED,)).fetchone()
    (set_aside,) = connection.execute(SET_ASIDE_COUNT).fetchone()
    received_at, attempts = connection.execute(OLDEST).fetchone() or (now.timestamp(), 0)
    seconds = max(0.0, now.timestamp() - float(received_at))
    return InboxState(int(waiting), seconds, int(set_aside), int(attempts))


def open_inbox(path: Path) -> SqliteDatabase:
    """The database; made when it is not there, also later: it has no backup.

    One that is damaged is moved aside. Polling fetches again what it can of what waited in it.
    Raises `DatabaseSchemaMismatch`; each transaction raises `DatabaseError` while neither this
    file nor a new one can be used.
    """
    return SqliteDatabase(
        path,
        MIGRATIONS,
        additions=ADDITIONS,
        busy_timeout=BUSY_TIMEOUT_SECONDS,
        remedy=_REMEDY,
        renewed=_report_renewal,
    )


def _report_renewal(error: DatabaseError, aside: Path | None) -> None:
    kept = f"; it is kept as {aside}" if aside else ""
    _log.error(
        "%s: an empty inbox was created%s. Of the updates that waited in it, the next polling "
        "fetches what the platforms still have; requests to delete data are in tokens.db",
        error.message,
        kept,
    )


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
            return connection.executemany(
                "INSERT INTO events"
                "(provider, event_id, account, topic, body, sent_at, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            ).rowcount

    def take_up(self, requests: Sequence[Request]) -> int:
        """Let these wait here; how many that changes.

        One that is missing is added without its body. One that is done waits again.
        """
        now = int(self._clock.now().timestamp())
        with self._database.transaction() as connection:
            values = [(*astuple(one), now) for one in requests]
            return connection.executemany(TAKE_UP, values).rowcount

    def due_accounts(self, providers: Iterable[Provider]) -> list[tuple[Provider, str]]:
        """The accounts of these platforms with an event that is due, the oldest one's first."""
        names = list(providers)
        if not names:
            return []
        query, now = due_accounts_query(len(names)), self._clock.now().timestamp()
        with self._database.reading() as connection:
            rows = connection.execute(query, (*names, now)).fetchall()
        accounts = []
        for provider, account, sequence in rows:
            try:
                accounts.append((provider, account.decode()))
            except (UnicodeDecodeError, AttributeError) as error:
                self._put_aside(sequence, error)
        return accounts

    def waiting(
        self, provider: Provider, account: str, after: int, limit: int
    ) -> list[WaitingEvent]:
        """What waits of an account, due or not, in order: at most `limit` after that sequence, and
        fewer where their bodies are large together (`MOST_BATCH_BYTES`), one at least."""
        with self._database.reading() as connection:
            rows = _batch(connection.execute(WAITING, (provider, account, after, limit)))
        waiting = []
        for row in rows:
            try:
                waiting.append(_waiting(row))
            except (ValueError, AttributeError, TypeError) as error:
                self._put_aside(row[0], error)
        return waiting

    def state(self) -> InboxState:
        """How the inbox is now."""
        with self._database.reading() as connection:
            return inbox_state(connection, self._clock.now())

    def _put_aside(self, sequence: int, error: Exception) -> None:
        """Set a row aside that cannot be read back."""
        self.set_aside(sequence)
        _log.error(
            "an event of the inbox cannot be read and was set aside: %s",
            type(error).__name__,
            extra=fields(sequence=sequence),
        )

    def finish(self, sequences: Sequence[int]) -> None:
        """These are done; their bodies are forgotten."""
        rows = [(sequence,) for sequence in sequences]
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE events SET done = 1, body = NULL WHERE sequence = ?", rows
            )
            connection.executemany("DELETE FROM failures WHERE sequence = ?", rows)

    def postpone(self, sequences: Sequence[int], seconds: float, *, blamed: bool = True) -> bool:
        """Try these again in `seconds`; whether the first of them has failed for a day by now.

        That is counted only while the events are `blamed`, and not what they were handed to.
        """
        now = self._clock.now().timestamp()
        rows = [(sequence,) for sequence in sequences]
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE events SET attempts = attempts + 1, not_before = ? WHERE sequence = ?",
                [(now + seconds, sequence) for sequence in sequences],
            )
            if not blamed:
                connection.executemany("DELETE FROM failures WHERE sequence = ?", rows)
                return False
            connection.executemany(
                "INSERT INTO failures(sequence, since) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(sequence, int(now)) for sequence in sequences],
            )
            found = connection.execute(
                "SELECT 1 FROM events JOIN failures USING (sequence)"
                " WHERE sequence = ? AND attempts >= ? AND since <= ?",
                (sequences[0], _FEWEST_ATTEMPTS, now - FAILING.total_seconds()),
            ).fetchone()
        return found is not None

    def hold(self, sequences: Sequence[int], until: float) -> None:
        """Let these wait for others, whose next attempt is then; that is no attempt of theirs."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE events SET not_before = ? WHERE sequence = ?",
                [(until, sequence) for sequence in sequences],
            )

    def set_aside(self, sequence: int) -> None:
        """Keep an event as it is, out of the way of the others, until `retry`."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE events SET done = ? WHERE sequence = ?", (_SET_ASIDE, sequence)
            )

    def retry(self) -> int:
        """Let everything that was set aside wait again, from its first attempt; how much it was."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM failures WHERE sequence IN (SELECT sequence FROM events"
                " WHERE done = ?)",
                (_SET_ASIDE,),
            )
            return connection.execute(
                "UPDATE events SET done = 0, attempts = 0, not_before = 0 WHERE done = ?",
                (_SET_ASIDE,),
            ).rowcount

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


# Each walks an index that has nothing else. The oldest is the first: no clock says that.
WAITING_COUNT = "SELECT count(*) FROM (SELECT 1 FROM events WHERE done = 0 LIMIT ?) AS waiting"
SET_ASIDE_COUNT = "SELECT count(*) FROM events WHERE done = 2"
OLDEST = "SELECT received_at, attempts FROM events WHERE done = 0 ORDER BY sequence LIMIT 1"
TAKE_UP = """
    INSERT INTO events(provider, event_id, account, topic, body, sent_at, received_at)
    VALUES (?, ?, ?, ?, '{}', ?, ?)
    ON CONFLICT(provider, event_id)
        DO UPDATE SET done = 0, attempts = 0, not_before = 0, body = '{}' WHERE events.done = 1
    """
WAITING = """
    SELECT sequence, attempts, not_before, provider, CAST(event_id AS BLOB),
        CAST(account AS BLOB), CAST(topic AS BLOB), CAST(body AS BLOB), CAST(sent_at AS BLOB)
    FROM events WHERE done = 0 AND provider = ? AND account = ? AND sequence > ?
    ORDER BY sequence LIMIT ?
    """


def due_accounts_query(platforms: int) -> str:
    """The accounts of so many platforms with an event that is due, the oldest one's first.

    The names of the platforms are the first values, and the time is the last.
    """
    # The function keeps SQLite from searching by platform where it can walk the index in its order.
    return (
        "SELECT provider, CAST(account AS BLOB), min(sequence) FROM events"  # noqa: S608 - constants
        f" WHERE done = 0 AND coalesce(provider, '') IN ({', '.join('?' * platforms)})"
        " AND not_before <= ? GROUP BY provider, account ORDER BY min(sequence)"
    )


def _batch(found: Cursor) -> list[Any]:
    """The first rows, until their bodies are large; it ends the reading, which may have more."""
    rows, size = list[Any](), 0
    while size < MOST_BATCH_BYTES and (row := found.fetchone()):
        rows.append(row)
        size += len(row[7] or b"")  # the body
    return rows


def _waiting(row: Sequence[Any]) -> WaitingEvent:
    """Read a row back; raises `ValueError`, `AttributeError` or `TypeError` if it is damaged.

    The texts come as bytes, so that one that is no UTF-8 does not stop the whole query.
    """
    sequence, attempts, not_before, provider, *texts = row
    event_id, account, topic, body = (text.decode() for text in texts[:4])
    sent_at = parse_utc(texts[4].decode()) if texts[4] else None
    event = Event(provider, event_id, account, topic, body, sent_at)
    return WaitingEvent(sequence, int(attempts), event, float(not_before))
