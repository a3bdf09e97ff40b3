"""What was sent to whom: the state of each receiver, and the log of messages, in `runs.db`.

Hosts that share a database have the states there, so that whoever leads next goes on from them;
what a host has sent of the time when that was away, only itself knows. The log is of each host.

A receiver is named by a hash of its URL, never by the URL, which holds a secret.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from pydantic import TypeAdapter

from backups.host import totals
from backups.host.remembered.common import CommonFacts
from backups.host.remembered.record import Record
from backups.vocabulary.receivers import ReceiverState, SentMessage
from shared.adapters import adapter_of
from shared.clock import format_utc, parse_utc
from shared.databases.engines.database import Connection
from shared.databases.engines.database import Database as SharedDatabase
from shared.databases.sqlite import Database
from shared.errors import DatabaseError

_log = logging.getLogger(__name__)

KEPT_FOR = timedelta(days=400)
# The newest stay whatever their age: a clock that was wrong once must not empty the log.
_ALWAYS_KEPT = 1000
_STATE: TypeAdapter[ReceiverState] = adapter_of(ReceiverState)
_CODES = adapter_of(tuple[str, ...])
_ALL = "SELECT id, state FROM receivers"
_PUT = "INSERT OR REPLACE INTO receivers(id, state) VALUES (?, ?)"

States = Mapping[str, ReceiverState]


# Beginnings of names in the table `facts`, which end in a receiver: what all hosts know, and what
# this one has sent while their database was away.
COMMON, _OUTAGE = "receiver:", "outage:"


class Book(Protocol):
    """The states of receivers. Every method raises `DatabaseError` when they cannot be used."""

    @property
    def is_shared(self) -> bool:
        """Whether other hosts read it, too."""

    def states(self, receivers: Collection[str]) -> dict[str, ReceiverState]:
        """The states of these receivers, of those that have one; writes nothing."""

    def change(
        self,
        receivers: Collection[str],
        decide: Callable[[States], States],
        attempts: Sequence[SentMessage] = (),
    ) -> None:
        """See `Messages.change`."""


class Messages:
    """Receivers and messages. Every method raises `DatabaseError` when they cannot be used.

    With `shared` the states of receivers are there; while it does not answer, none is known.
    """

    def __init__(
        self, records: Database, common: CommonFacts, shared: SharedDatabase | None = None
    ) -> None:
        self._records = records
        self._common = common
        self._shared = shared
        self.of_outages: Book = OutageMessages(records)

    @property
    def is_shared(self) -> bool:
        """Whether other hosts read the states, too."""
        return self._shared is not None

    def states(self, receivers: Collection[str]) -> dict[str, ReceiverState]:
        """The states of these receivers, of those that have one; writes nothing."""
        if self._shared is not None:
            return self._common.read(partial(_facts, COMMON, receivers))
        with self._records.reading() as connection:
            return _states(connection, receivers)

    def offer(self) -> None:
        """Let the hosts know what this one alone has sent, if they know nothing yet."""
        if self._shared is None:
            return
        with self._records.reading() as own:
            known = {one: _parse(text) for one, text in own.execute(_ALL).fetchall()}
        try:
            with self._shared.transaction() as connection:
                query = "SELECT 1 FROM facts WHERE name LIKE ? LIMIT 1"
                if known and connection.execute(query, (f"{COMMON}%",)).fetchone() is None:
                    _write_facts(connection, COMMON, known)
        except DatabaseError as error:
            _log.warning("%s [%s] %s", error.message, error.code, error.hint)

    def mirror(self) -> None:
        """Note on this host what all have sent: from now on it is the only one.

        Where they have noted nothing, what this host has stays.
        """
        if self._shared is None:
            return
        with self._shared.reading() as connection:
            query = "SELECT name FROM facts WHERE name LIKE ?"
            names = [str(name) for (name,) in connection.execute(query, (f"{COMMON}%",)).fetchall()]
            known = _facts(COMMON, [name.removeprefix(COMMON) for name in names], connection)
        with self._records.transaction() as own:
            states = {**_adopted(own, _states(own, known)), **known}
            own.executemany(_PUT, _rows(states))

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
        common: States | None = None
        if self._shared is not None:
            with self._shared.transaction() as shared:
                common = decide(_facts(COMMON, receivers, shared))
                _write_facts(shared, COMMON, common)
        with self._records.transaction() as connection:
            states = _states(connection, receivers)
            changed = common if common is not None else decide(states)
            connection.executemany(_PUT, _rows({**_adopted(connection, states), **changed}))
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


class OutageMessages:
    """What this host has sent of the time when the database of several hosts was away."""

    is_shared = False

    def __init__(self, records: Database) -> None:
        self._records = records

    def states(self, receivers: Collection[str]) -> dict[str, ReceiverState]:
        """See `Book`."""
        with self._records.reading() as connection:
            return _facts(_OUTAGE, receivers, connection)

    def change(
        self,
        receivers: Collection[str],
        decide: Callable[[States], States],
        attempts: Sequence[SentMessage] = (),
    ) -> None:
        """See `Book`."""
        with self._records.transaction() as connection:
            _write_facts(connection, _OUTAGE, decide(_facts(_OUTAGE, receivers, connection)))
            for attempt in attempts:
                _log_attempt(connection, attempt)


def _facts(
    prefix: str, receivers: Collection[str], connection: Connection
) -> dict[str, ReceiverState]:
    found = {one: _fact(prefix, one).read(connection) for one in receivers}
    return {one: state for one, state in found.items() if state is not None}


def _write_facts(connection: Connection, prefix: str, states: States) -> None:
    for one, state in states.items():
        _fact(prefix, one).write(connection, state)


def _fact(prefix: str, receiver: str) -> Record[ReceiverState]:
    return Record(
        f"{prefix}{receiver}", lambda state: _STATE.dump_json(state).decode(), _STATE.validate_json
    )


def _rows(states: States) -> list[tuple[str, str]]:
    return [(one, _STATE.dump_json(state).decode()) for one, state in states.items()]


def _states(connection: sqlite3.Connection, receivers: Collection[str]) -> dict[str, ReceiverState]:
    stored = dict(connection.execute(_ALL).fetchall())
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
