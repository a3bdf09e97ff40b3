"""The inbox: kept before the answer, once, until the work is done, whoever does it."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.databases.engines.database import Database
from shared.databases.renewal import moved_aside
from shared.merchants.inbox import (
    MIGRATIONS,
    MOST_BATCH_BYTES,
    REMEMBERED,
    WAITING,
    Event,
    Inbox,
    InboxState,
    WaitingEvent,
    due_accounts_query,
    open_inbox,
)
from tests.support.clock import MIDNIGHT, FixedClock

PROVIDERS = ("facebook", "shopify")


def event(number: int = 1, account: str = "1001", topic: str = "message") -> Event:
    """Something that happened."""
    return Event("facebook", f"m_{number}", account, topic, f'{{"number":{number}}}', MIDNIGHT)


@pytest.fixture
def clock() -> FixedClock:
    """The time, which stands still."""
    return FixedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "inbox.db"


@pytest.fixture
def inbox(inbox_database: Database, clock: FixedClock) -> Inbox:
    """An empty inbox."""
    return Inbox(inbox_database, clock)


def waiting(inbox: Inbox) -> list[WaitingEvent]:
    """What waits of the accounts that have something due, in its order."""
    found = [
        one
        for provider, account in inbox.due_accounts(PROVIDERS)
        for one in inbox.waiting(provider, account, 0, 1000)
    ]
    return sorted(found, key=lambda one: one.sequence)


def due(inbox: Inbox, clock: FixedClock | None = None) -> list[Event]:
    """What is to be done now."""
    now = (clock or FixedClock()).now().timestamp()
    return [one.event for one in waiting(inbox) if one.not_before <= now]


def finish_all(inbox: Inbox) -> None:
    """All of it is done."""
    inbox.finish([one.sequence for one in waiting(inbox)])


def test_events_come_out_as_they_went_in(inbox: Inbox) -> None:
    """In their order, with everything that the sender told."""
    given = [event(1), event(2, account="1002"), Event("shopify", "w", "a", "t", "{}")]

    assert inbox.add(given) == 3

    assert due(inbox) == given
    assert inbox.due_accounts(PROVIDERS) == [
        ("facebook", "1001"),
        ("facebook", "1002"),
        ("shopify", "a"),
    ]
    assert inbox.due_accounts(["shopify"]) == [("shopify", "a")]
    inbox.add([event(3), event(4)])
    assert [one.event for one in inbox.waiting("facebook", "1001", 1, 1)] == [event(3)]


def test_the_same_event_is_kept_once(inbox: Inbox) -> None:
    """Twice in one delivery, again while it waits, and again when it is done."""
    assert inbox.add([event(1), event(1), event(2)]) == 2
    assert inbox.add([event(1)]) == 0
    finish_all(inbox)

    assert inbox.add([event(1), event(2), event(3)]) == 1
    assert due(inbox) == [event(3)]


def test_platforms_name_their_events_independently(inbox: Inbox) -> None:
    """The same id from the other platform is another event."""
    inbox.add([Event("facebook", "1", "a", "t", "{}")])

    assert inbox.add([Event("shopify", "1", "a", "t", "{}")]) == 1


def test_a_delivery_is_kept_whole_or_not_at_all(inbox: Inbox) -> None:
    """Its sender gets one answer for all of it."""
    broken = Event("facebook", "m_9", "1001", "message", "half of an emoji: \ud83d")

    with pytest.raises(UnicodeEncodeError):
        inbox.add([event(1), broken])

    assert due(inbox) == []


def test_what_is_done_is_forgotten_but_for_its_name(inbox: Inbox, path: Path) -> None:
    """What people wrote does not stay in this database."""
    inbox.add([event(1)])

    finish_all(inbox)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT event_id, body, done FROM events").fetchall() == [
            ("m_1", None, 1)
        ]


def test_a_batch_has_few_large_events(inbox: Inbox) -> None:
    """So many that their bodies are large together; the next batch goes on after them."""
    body = f'"{"x" * (MOST_BATCH_BYTES // 3)}"'
    inbox.add(Event("facebook", f"m_{number}", "1001", "message", body) for number in range(5))

    batch = inbox.waiting("facebook", "1001", 0, 2000)
    rest = inbox.waiting("facebook", "1001", batch[-1].sequence, 2000)

    assert [one.event.event_id for one in batch] == ["m_0", "m_1", "m_2"]
    assert [one.event.event_id for one in rest] == ["m_3", "m_4"]
    assert len(inbox.waiting("facebook", "1001", 0, 1)) == 1


def test_what_failed_is_tried_again_later(inbox: Inbox, clock: FixedClock) -> None:
    """Not before its time, and the attempts are counted; others do not wait for it."""
    inbox.add([event(1), event(2), event(3, account="1002")])

    inbox.postpone([1], 60)
    inbox.hold([3], clock.now().timestamp() + 60)

    assert due(inbox, clock) == [event(2)]
    assert inbox.due_accounts(PROVIDERS) == [("facebook", "1001")]
    clock.advance(seconds=59.5)
    assert due(inbox, clock) == [event(2)]
    clock.advance(seconds=0.5)
    assert [(one.event, one.attempts) for one in waiting(inbox)] == [
        (event(1), 1),
        (event(2), 0),
        (event(3, account="1002"), 0),
    ]


def test_a_look_does_not_read_what_is_done(inbox: Inbox, path: Path) -> None:
    """SQLite answers each question about what waits from an index that has nothing else."""
    values = {due_accounts_query(1): ("facebook", 0), WAITING: ("facebook", "1001", 0, 1)}
    with closing(sqlite3.connect(path)) as connection:
        for statement, given in values.items():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
            steps = [row[3] for row in plan]
            assert "USING INDEX events_by_account" in steps[0]
            assert not any("events" in step for step in steps[1:])
        (step,) = connection.execute(
            "EXPLAIN QUERY PLAN SELECT count(*) FROM events WHERE done = 2"
        ).fetchall()
        assert "events_set_aside" in step[3]


def test_what_failed_for_a_day_may_be_set_aside(inbox: Inbox, clock: FixedClock) -> None:
    """Not before a day of failures and ten of them, and not for what was not its own fault."""
    inbox.add([event(1), event(2)])

    def fail(times: int, *, blamed: bool = True) -> list[bool]:
        return [inbox.postpone([1, 2], 60, blamed=blamed) for _ in range(times)]

    clock.advance(days=9)  # nobody tried
    assert fail(10) == [False] * 10
    clock.advance(days=1)
    assert fail(1, blamed=False) == [False]
    assert fail(1) == [False]  # its day begins anew
    clock.advance(days=1, seconds=-1)
    assert fail(1) == [False]
    clock.advance(seconds=1)
    assert fail(1) == [True]


def test_a_clock_that_is_set_forward_blames_nothing(inbox: Inbox, clock: FixedClock) -> None:
    """A day that nobody lived through has no ten attempts in it."""
    inbox.add([event(1)])
    inbox.postpone([1], 60)
    clock.advance(days=365)

    assert inbox.postpone([1], 60) is False


def test_what_was_set_aside_is_tried_again_by_a_person(inbox: Inbox, clock: FixedClock) -> None:
    """Until then it is kept, counted, and in nobody's way; then it is as new."""
    inbox.add([event(1), event(2)])
    inbox.postpone([1], 60)
    clock.advance(seconds=90)

    inbox.set_aside(1)

    assert inbox.state() == InboxState(waiting=1, oldest_seconds=90, set_aside=1)
    assert due(inbox, clock) == [event(2)]
    clock.advance(days=30)
    inbox.purge()
    assert inbox.add([event(1)]) == 0
    assert inbox.retry() == 1
    assert inbox.retry() == 0
    assert [(one.event, one.attempts) for one in waiting(inbox)] == [(event(1), 0), (event(2), 0)]


def test_an_inbox_of_an_earlier_version_is_used_on(path: Path, clock: FixedClock) -> None:
    """What it lacks is added; its `user_version` stays, so that the earlier version reads it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1")
    with closing(open_inbox(path)) as database:
        inbox = Inbox(database, clock)
        inbox.add([event(1)])
        assert inbox.postpone([1], 0) is False
        assert due(inbox) == [event(1)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_deletion_can_be_asked_after(inbox: Inbox) -> None:
    """In progress, done, or unknown; other events are nobody's to ask after."""
    inbox.add([event(1, topic="data_deletion"), event(2)])

    assert inbox.is_done("facebook", "data_deletion", "m_1") is False
    finish_all(inbox)
    assert inbox.is_done("facebook", "data_deletion", "m_1") is True
    assert inbox.is_done("facebook", "data_deletion", "m_2") is None
    assert inbox.is_done("shopify", "data_deletion", "m_1") is None


def test_old_events_are_purged_but_not_those_that_wait(inbox: Inbox, clock: FixedClock) -> None:
    """After three days, when no sender tries again; requests for deletion stay answerable."""
    inbox.add([event(1), event(2, topic="data_deletion")])
    finish_all(inbox)
    inbox.add([event(3)])

    clock.advance(days=REMEMBERED / timedelta(days=1))
    inbox.purge()
    assert inbox.add([event(1)]) == 0
    clock.advance(seconds=1)
    inbox.purge()

    assert inbox.add([event(1)]) == 1
    assert inbox.is_done("facebook", "data_deletion", "m_2") is True
    assert due(inbox) == [event(3), event(1)]


def test_the_inbox_outlives_its_process(path: Path, clock: FixedClock) -> None:
    """What was kept is there when it is opened again."""
    with closing(open_inbox(path)) as database:
        Inbox(database, clock).add([event(1)])

    with closing(open_inbox(path)) as database:
        assert due(Inbox(database, clock)) == [event(1)]
    assert path.stat().st_mode & 0o777 == 0o600


def add_many(path: str, first: int) -> int:
    """In another process: add a hundred events one by one; how many were new."""
    with closing(open_inbox(Path(path))) as database:
        inbox = Inbox(database, SystemClock())
        return sum(inbox.add([event(number)]) for number in range(first, first + 100))


def test_two_processes_keep_each_event_once(path: Path) -> None:
    """Both add the same events at the same time: each is new for one of them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        new = list(pool.map(add_many, [os.fspath(path)] * 2, [0, 50]))

    with closing(open_inbox(path)) as database:
        found = [one.event.event_id for one in waiting(Inbox(database, SystemClock()))]
    assert sorted(found) == sorted({f"m_{number}" for number in range(150)})
    assert sum(new) == 150


def test_a_damaged_inbox_is_kept_and_made_anew(
    tmp_path: Path, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no backup: the app goes on with an empty one, and says once where the other is."""
    path = tmp_path / "inbox.db"
    path.write_bytes(b"not a database" * 100)

    with closing(open_inbox(path)) as database:
        inbox = Inbox(database, clock)
        inbox.add([event(1)])
        assert due(inbox) == [event(1)]

    (aside,) = moved_aside(path)
    assert aside.read_bytes() == b"not a database" * 100
    (record,) = caplog.records
    assert str(aside) in record.message


def test_an_inbox_that_is_removed_while_it_is_used_is_made_anew(
    inbox: Inbox, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: the next update is kept in the new one, and the log names what is lost."""
    inbox.add([event(1)])
    for part in path.parent.glob("inbox.db*"):
        part.unlink()

    assert inbox.due_accounts(PROVIDERS) == []
    inbox.add([event(2)])

    assert due(inbox) == [event(2)]
    (record,) = caplog.records
    assert "inbox.db no longer exists: an empty inbox was created" in record.message
    with closing(open_inbox(path)) as database:
        assert due(Inbox(database, FixedClock())) == [event(2)]
