"""Tests of `backups.host.messages`: the states of receivers, and the log of messages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backups.host.messages import KEPT_FOR, Messages
from backups.host.records import open_records
from backups.host.state import HostState
from backups.vocabulary.receivers import ReceiverState, SentMessage
from shared.databases.sqlite import Database
from shared.errors import DatabaseError
from tests.support.records import INSTANT

STATE = ReceiverState(
    ("overdue",), 2, INSTANT, INSTANT + timedelta(minutes=1), INSTANT, ("suspect",)
)
ATTEMPT = SentMessage(INSTANT, "one", "Backup problem on h: overdue", ("overdue",), "sent")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Database]:
    """The records of a new host."""
    with closing(open_records(tmp_path)) as records:
        yield records


@pytest.fixture
def messages(records: Database) -> Messages:
    """What was sent from it: nothing."""
    return HostState(records).messages


def put(records: Database, statement: str, *values: str) -> None:
    """Change the records as somebody else did."""
    with records.transaction() as connection:
        connection.execute(statement, values)


def test_a_state_comes_back_as_it_was_written(messages: Messages, records: Database) -> None:
    """Also in another process; of a receiver that has none, nothing is said."""
    messages.change(["one", "two"], lambda _: {"one": STATE})

    with closing(open_records(records.path.parent)) as other:
        assert HostState(other).messages.states(["one", "two"]) == {"one": STATE}


def test_a_change_that_fails_changes_nothing(messages: Messages) -> None:
    """State and log are written together, or not at all."""
    messages.change(["one"], lambda _: {"one": STATE}, [ATTEMPT])
    unwritable = replace(ATTEMPT, title=None)  # type: ignore[arg-type]
    with pytest.raises(DatabaseError):
        messages.change(["one"], lambda _: {"one": ReceiverState()}, [ATTEMPT, unwritable])

    assert messages.states(["one"]) == {"one": STATE}
    assert messages.messages_since(INSTANT) == [ATTEMPT]


def test_a_state_that_cannot_be_read_counts_as_absent(
    messages: Messages, records: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad row silences nobody, and a line of the log says so."""
    put(records, "INSERT INTO receivers VALUES ('one', 'nonsense')")

    with caplog.at_level(logging.WARNING):
        assert messages.states(["one"]) == {"one": ReceiverState()}
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"), [('["overdue", "suspect"]', ("overdue", "suspect")), ("nonsense", ())]
)
def test_what_an_older_version_sent_is_not_repeated(
    messages: Messages, records: Database, text: str, told: tuple[str, ...]
) -> None:
    """It noted one list for all URLs of then; a URL that is added later was told nothing."""
    put(records, "INSERT INTO facts VALUES ('sent_alarms', ?)", text)
    assert messages.states(["one", "two"]) == dict.fromkeys(["one", "two"], ReceiverState(told))

    messages.change(["one", "two"], lambda states: {"one": replace(states["one"], failures=1)})
    assert messages.states(["one", "two", "new"]) == {
        "one": ReceiverState(told, failures=1),
        "two": ReceiverState(told),
    }


def test_the_log_has_every_attempt_since_an_instant(messages: Messages) -> None:
    """In the order in which they were made, failures included; to the second."""
    attempts = [
        replace(ATTEMPT, at=INSTANT + timedelta(minutes=minute), title=str(minute))
        for minute in range(3)
    ]
    attempts[1] = replace(attempts[1], result="failed")
    late = replace(attempts[2], at=attempts[2].at + timedelta(milliseconds=900))
    messages.change((), lambda _: {}, [*attempts[:2], late])

    assert messages.messages_since(INSTANT) == attempts
    assert messages.messages_since(INSTANT + timedelta(minutes=2)) == attempts[2:]
    assert messages.messages_since(INSTANT + timedelta(minutes=3)) == []


def test_the_log_forgets_what_is_older_than_400_days(messages: Messages) -> None:
    """But never the newest thousand: a clock that is wrong for a moment empties nothing."""
    for number in range(4):
        old = [replace(ATTEMPT, title=str(number * 300 + one)) for one in range(300)]
        messages.change((), lambda _: {}, old)
    messages.change((), lambda _: {}, [replace(ATTEMPT, at=INSTANT + KEPT_FOR)])
    assert len(messages.messages_since(INSTANT)) == 1201

    far = replace(ATTEMPT, at=INSTANT + KEPT_FOR + timedelta(seconds=1))
    messages.change((), lambda _: {}, [far])
    left = messages.messages_since(INSTANT)
    assert len(left) == 1000
    assert left[0].title == "202"
    assert left[-1] == far
