"""What was sent to whom: the state of each receiver, and the log of messages, in `runs.db`.

A receiver is named by a hash of its URL, never by the URL, which holds a secret.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from backups.host import totals
from backups.vocabulary.receivers import ReceiverState, SentMessage
from shared.adapters import adapter_of
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database

_log = logging.getLogger(__name__)

KEPT_FOR = timedelta(days=400)
# The newest stay whatever their age: a clock that was wrong once must not empty the log.
_ALWAYS_KEPT = 1000
_STATE: TypeAdapter[ReceiverState] = adapter_of(ReceiverState)
_CODES = adapter_of(tuple[str, ...])

States = Mapping[str, ReceiverState]


class Messages:
    """Receivers and messages. Every method raises `DatabaseError` when they cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def states(self, receivers: Collection[str]) -> dict[str, ReceiverState]:
        """The states of these receivers, of those that have one; writes nothing."""
        with self._records.reading() as connection:
            return _states(connection, receivers)

    def change(
        self,
        receivers: Collection[str],
        decide: Callable[[States], States],
        attempts: Sequence[SentMessage] = (),
    ) -> None:
        """Give those receivers that `decide` returns another state, and log `attempts`.

        In one transaction, so that of several processes one claims a message. `decide` is given
        the states of `receivers`, of those that have one.
        """
        with self._records.transaction() as connection:
            states = _states(connection, receivers)
            changed = {**_adopted(connection, states), **decide(states)}
            connection.executemany(
                "INSERT OR REPLACE INTO receivers(id, state) VALUES (?, ?)",
                [(one, _STATE.dump_json(state).decode()) for one, state in changed.items()],
            )
            for attempt in attempts:
                _log_attempt(connection, attempt)

    def newest(self) -> SentMessage | None:
        """The attempt that was logged last; None for none."""
        with self._records.reading() as connection:
            row = connection.execute(
                "SELECT at, receiver, title, codes, result FROM messages"
                " ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
        if row is None:
            return None
        at, receiver, title, codes, result = row
        try:
            return SentMessage(parse_utc(at), receiver, title, _CODES.validate_json(codes), result)
        except ValueError:
            _log.warning("the last message in runs.db cannot be read, and counts as absent")
            return None

    def messages_since(self, instant: datetime) -> list[SentMessage]:
        """Every attempt from `instant` on, in the order in which they were logged."""
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT at, receiver, title, codes, result FROM messages WHERE at >= ?"
                " ORDER BY sequence",
                (_second(instant),),
            ).fetchall()
        return [
            SentMessage(parse_utc(at), receiver, title, _CODES.validate_json(codes), result)
            for at, receiver, title, codes, result in rows
        ]


def _states(connection: sqlite3.Connection, receivers: Collection[str]) -> dict[str, ReceiverState]:
    stored = dict(connection.execute("SELECT id, state FROM receivers").fetchall())
    states = {one: _parse(stored[one]) for one in receivers if one in stored}
    told = _told_by_older_version(connection)
    if told is not None:  # there was no state for each receiver: all were told the same
        states = {**dict.fromkeys(receivers, ReceiverState(told)), **states}
    return states


def _parse(text: str) -> ReceiverState:
    try:
        return _STATE.validate_json(text)
    except ValueError:
        _log.warning("the state of a receiver in runs.db cannot be read, and counts as absent")
        return ReceiverState()


def _told_by_older_version(connection: sqlite3.Connection) -> tuple[str, ...] | None:
    row = connection.execute("SELECT value FROM facts WHERE name = 'sent_alarms'").fetchone()
    if row is None:
        return None
    try:
        return _CODES.validate_json(row[0])
    except ValueError:
        return ()


def _adopted(connection: sqlite3.Connection, states: States) -> States:
    """The states to write down, so that what an older version noted can be forgotten."""
    if _told_by_older_version(connection) is None:
        return {}
    connection.execute("DELETE FROM facts WHERE name = 'sent_alarms'")
    return states


def _log_attempt(connection: sqlite3.Connection, attempt: SentMessage) -> None:
    connection.execute(
        "INSERT INTO messages(at, receiver, title, codes, result) VALUES (?, ?, ?, ?, ?)",
        (
            _second(attempt.at),
            attempt.receiver,
            attempt.title,
            json.dumps(attempt.codes),
            attempt.result,
        ),
    )
    totals.count_notification(connection, attempt.result)
    connection.execute(
        "DELETE FROM messages WHERE at < ?"
        " AND sequence <= (SELECT max(sequence) FROM messages) - ?",
        (_second(attempt.at - KEPT_FOR), _ALWAYS_KEPT),
    )


def _second(instant: datetime) -> str:
    """Without fractions, so that the order of the texts is that of the instants."""
    return format_utc(instant.replace(microsecond=0))
