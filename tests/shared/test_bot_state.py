"""Tests of `shared.bot_state`: another process looks, changes nothing, and does not wait long."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from shared.bot_state import BotState, read_bot_state, read_only
from shared.merchants.inbox import (
    OLDEST,
    SET_ASIDE_COUNT,
    WAITING_COUNT,
    Event,
    Inbox,
    InboxState,
)
from shared.merchants.inbox import open_inbox as open_database
from shared.merchants.marks import Marks
from tests.support.clock import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    """The time, which stands still."""
    return FixedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the inbox is."""
    return tmp_path / "inbox.db"


def events(count: int) -> list[Event]:
    """So many, of an account each."""
    return [Event("shopify", f"e{one}", f"a{one}", "products/update", "{}") for one in range(count)]


def test_the_state_is_what_the_app_has_committed(path: Path, clock: FixedClock) -> None:
    """While its connection is open: what waits and since when, what was set aside, the polling."""
    with closing(open_database(path)) as database:
        inbox = Inbox(database, clock)
        inbox.add(events(3))
        inbox.set_aside(1)
        inbox.postpone([2], 60)
        Marks(database, clock).note_sync(polled_at := clock.now())
        clock.advance(minutes=20)

        found = read_bot_state(path, clock.now())

    assert found == BotState(InboxState(2, 1200.0, 1, attempts=1), polled_at)


def test_the_oldest_is_the_first_whatever_the_clock_said(path: Path, clock: FixedClock) -> None:
    """An event that came while the clock was wrong is not taken for the oldest."""
    with closing(open_database(path)) as database:
        inbox = Inbox(database, clock)
        inbox.add(events(1))
        inbox.add([Event("shopify", "x", "b", "t", "{}")])
        clock.advance(minutes=1)
        with database.transaction() as connection:
            connection.execute("UPDATE events SET received_at = 0 WHERE event_id = 'x'")

        assert inbox.state() == InboxState(waiting=2, oldest_seconds=60, set_aside=0)


def test_an_inbox_that_nobody_has_made_is_empty(path: Path, clock: FixedClock) -> None:
    """And looking does not make it."""
    assert read_bot_state(path, clock.now()) == BotState(InboxState(0, 0.0, 0))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"no database, for a hundred bytes" * 4], ids=["0", "x"])
def test_one_that_cannot_be_read_is_named(path: Path, clock: FixedClock, content: bytes) -> None:
    """It is not known how it is, and why; nothing is raised, and nothing moved aside."""
    path.write_bytes(content)

    found = read_bot_state(path, clock.now())

    assert found.inbox is None
    assert str(path) in found.fault
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_who_looks_does_not_wait_for_more_than_there_is_time(path: Path, clock: FixedClock) -> None:
    """However much waits: with no time left the answer is that it is not known."""
    with closing(open_database(path)) as database:
        Inbox(database, clock).add(events(6000))

    found = read_bot_state(path, clock.now(), most_seconds=0)

    assert found == BotState(None, fault=f"{path} could not be read within 0 s")


def test_a_look_reads_only_what_waits(path: Path, clock: FixedClock) -> None:
    """Each question walks an index that has nothing of what is done, and is not sorted."""
    with closing(open_database(path)) as database, database.reading() as connection:
        for query, given, index in (
            (WAITING_COUNT, (10,), "events_first"),
            (OLDEST, (), "events_first"),
            (SET_ASIDE_COUNT, (), "events_set_aside"),
        ):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", given).fetchall()
            steps = [row[3] for row in plan if "events" in row[3]]
            assert len(steps) == 1
            assert f"INDEX {index}" in steps[0]
            assert not any("SORT" in row[3] or "ORDER" in row[3] for row in plan)


def test_a_look_writes_nothing(path: Path, clock: FixedClock) -> None:
    """Not a row of the inbox changes, and its version does not."""
    with closing(open_database(path)) as database:
        Inbox(database, clock).add(events(3))
        with closing(sqlite3.connect(path)) as watcher:
            before = watcher.execute("PRAGMA data_version").fetchone()
            read_bot_state(path, clock.now() + timedelta(days=1))
            assert watcher.execute("PRAGMA data_version").fetchone() == before


def test_what_looks_cannot_write(path: Path, clock: FixedClock) -> None:
    """Neither a row nor a file."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        read_only(path, 1.0)
    with closing(open_database(path)) as database:
        Inbox(database, clock).add(events(1))
        with (
            closing(read_only(path, 1.0)) as connection,
            pytest.raises(sqlite3.OperationalError, match="readonly"),
        ):
            connection.execute("DELETE FROM events")
