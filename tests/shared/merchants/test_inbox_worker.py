"""The work on the inbox: an account waits for no other one, and a lane for none of its account."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.errors import StoreError
from shared.merchants.errors import PlatformUnreachable
from shared.merchants.inbox import Event, Inbox, Provider, WaitingEvent, open_inbox
from shared.merchants.inbox_worker import InboxWorker
from shared.merchants.platform import Connection
from tests.support.clock import FixedClock
from tests.support.waiting import eventually


@dataclass
class Talks:
    """A platform whose events are "lane number"; it does with them what a test says."""

    provider: Provider = "talks"
    act: Callable[[str, list[str]], None] = lambda _account, _bodies: None
    done: list[str] = field(default_factory=list)

    def connections(self, user: str) -> list[Connection]:
        return []

    def owner(self, account: str) -> str | None:
        return None

    def accounts(self) -> list[str]:
        return []

    def poll(self, account: str) -> None:
        raise AssertionError("the inbox polls nothing")

    def lane(self, event: Event) -> str:
        lane, _number = event.body.split()
        return lane

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        bodies = [waiting.event.body for waiting in events]
        self.act(account, bodies)
        self.done += [f"{account} {body}" for body in bodies]


@dataclass
class Desk:
    """An inbox, its platform, its time, and how many threads work."""

    path: Path
    inbox: Inbox
    talks: Talks
    clock: FixedClock

    def worker(self, workers: int = 1) -> InboxWorker:
        return InboxWorker(self.inbox, {"talks": self.talks}, self.clock, workers=workers)

    def add(self, *lines: str) -> None:
        """Events "account lane number"."""
        self.inbox.add(
            Event("talks", line, account, "topic", rest)
            for line in lines
            for account, _, rest in [line.partition(" ")]
        )

    def work_off(self) -> None:
        """All that is due."""
        worker = self.worker()
        while worker.work():
            pass


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock, path = FixedClock(), tmp_path / "inbox.db"
    with closing(open_inbox(path)) as database:
        yield Desk(path, Inbox(database, clock), Talks(), clock)


def failing(*which: str, error: Exception) -> Callable[[str, list[str]], None]:
    """Fail whenever one of these bodies is among the events."""

    def act(_account: str, bodies: list[str]) -> None:
        if any(body in which for body in bodies):
            raise error

    return act


def test_accounts_that_hang_hold_up_nobody_else(desk: Desk) -> None:
    """Three of four threads are held by three accounts; twenty others are worked off meanwhile."""
    release, inside = threading.Event(), threading.Semaphore(0)
    hung = [f"hung{number}" for number in range(3)]
    others = [f"shop{number}" for number in range(20)]

    def act(account: str, _bodies: list[str]) -> None:
        if account in hung:
            inside.release()
            release.wait(30)

    desk.talks.act = act
    desk.add(*(f"{account} a 1" for account in (*hung, *others)))
    with desk.worker(4).running():
        try:
            for _ in hung:
                assert inside.acquire(timeout=20)
            desk.add(*(f"{account} a 2" for account in (*hung, *others)))
            eventually(lambda: len(desk.talks.done) == 40, "the work for the others")
            assert desk.inbox.state().waiting == 6
        finally:
            release.set()
        eventually(lambda: desk.inbox.state().waiting == 0, "the rest")


def test_no_two_threads_work_on_one_account(desk: Desk) -> None:
    """Each event once, in order, however many threads there are."""
    lock = threading.Lock()

    def act(_account: str, _bodies: list[str]) -> None:
        assert lock.acquire(blocking=False)
        lock.release()

    desk.talks.act = act
    lines = [f"shop a {number}" for number in range(50)]
    with desk.worker(8).running():
        for line in lines:
            desk.add(line)
        eventually(lambda: desk.inbox.state().waiting == 0, "all of them")

    assert desk.talks.done == lines


def test_a_lane_that_fails_waits_alone(desk: Desk) -> None:
    """What succeeded is finished; the lane waits for its own time, and what comes to it as well."""
    desk.talks.act = failing("a 2", error=PlatformUnreachable("away"))
    desk.add("shop a 1", "shop b 1", "shop a 2", "shop c 1")

    desk.work_off()
    assert desk.talks.done == ["shop b 1", "shop c 1"]

    desk.add("shop a 3", "shop b 2", "other a 1")
    desk.work_off()
    assert desk.talks.done[2:] == ["shop b 2", "other a 1"]

    desk.talks.act = lambda _account, _bodies: None
    desk.clock.advance(seconds=1)
    desk.work_off()
    assert desk.talks.done[4:] == ["shop a 1", "shop a 2", "shop a 3"]


def test_the_wait_of_a_lane_doubles_up_to_a_minute(desk: Desk) -> None:
    """It is the lane's own: another one that fails later begins with a second."""
    desk.talks.act = failing("a 1", "b 1", error=PlatformUnreachable("away"))
    desk.add("shop a 1")
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        desk.work_off()
        (waiting,) = desk.inbox.waiting("talks", "shop", 0, 9)
        assert waiting.not_before - desk.clock.now().timestamp() == seconds
        desk.clock.advance(seconds=seconds)
    desk.clock.advance(seconds=-60)
    desk.add("shop b 1")
    desk.work_off()

    first, second = desk.inbox.waiting("talks", "shop", 0, 9)
    assert (first.attempts, second.attempts) == (8, 1)


def test_an_account_with_a_lane_that_waits_does_not_hide_another(desk: Desk) -> None:
    """New events of a lane that waits are due at once, and must not be looked at for ever."""
    desk.talks.act = failing("a 1", error=PlatformUnreachable("away"))
    desk.add("shop a 1")
    desk.work_off()
    desk.add("shop a 2", "other b 1")
    worker = desk.worker()

    worker.work()
    worker.work()

    assert desk.talks.done == ["other b 1"]
    assert desk.inbox.due_accounts(["talks"]) == []


def test_more_than_a_batch_that_waits_hides_nothing_behind_it(desk: Desk) -> None:
    """A lane with a thousand events that failed: the other lane of the account is done."""
    desk.talks.act = failing("a 0", error=PlatformUnreachable("away"))
    desk.add(*(f"shop a {number}" for number in range(1200)))
    desk.work_off()
    desk.add("shop b 1")

    desk.work_off()

    assert desk.talks.done == ["shop b 1"]


def fail_for_a_day(desk: Desk) -> None:
    """Let what waits be tried for a day and a minute."""
    for _ in range(12):
        desk.work_off()
        desk.clock.advance(hours=2, minutes=6)
    desk.work_off()


@pytest.mark.parametrize("error", [PlatformUnreachable("odd"), ZeroDivisionError("a bug")])
def test_what_failed_for_a_day_is_set_aside_alone(
    desk: Desk, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The one event, and not those that were handed on together with it; it is named, and kept."""
    desk.talks.act = failing("a 2", error=error)
    desk.add("shop a 1", "shop a 2", "shop a 3")

    fail_for_a_day(desk)

    assert desk.talks.done[0] == "shop a 1"
    assert desk.inbox.state().set_aside == 1
    (record,) = [one for one in caplog.records if "was set aside" in one.message]
    assert "./bot shared inbox retry" in record.message
    desk.clock.advance(minutes=61)
    desk.work_off()
    assert "shop a 3" in desk.talks.done
    desk.talks.act = lambda _account, _bodies: None
    assert desk.inbox.retry() == 1
    desk.work_off()
    assert desk.talks.done[-1] == "shop a 2"
    assert desk.inbox.state().set_aside == desk.inbox.state().waiting == 0


def test_a_store_that_is_away_for_days_sets_nothing_aside(desk: Desk) -> None:
    """That says nothing about the event: it waits until the store is back."""
    desk.talks.act = failing("a 1", error=StoreError("refused"))
    desk.add("shop a 1")

    for _ in range(3):
        fail_for_a_day(desk)

    assert desk.inbox.state().set_aside == 0
    assert desk.inbox.state().waiting == 1


def test_days_without_a_store_are_no_failures_of_the_event(desk: Desk) -> None:
    """When it is back, and then the platform fails, the day begins with that."""
    desk.talks.act = failing("a 1", error=StoreError("refused"))
    desk.add("shop a 1")
    fail_for_a_day(desk)
    desk.talks.act = failing("a 1", error=PlatformUnreachable("away"))

    desk.clock.advance(hours=2)
    desk.work_off()

    assert desk.inbox.state().set_aside == 0


def test_an_event_whose_lane_cannot_be_told_fails_alone(desk: Desk) -> None:
    """The others of its account are done."""
    desk.add("shop a 1", "shop b 1")
    with closing(sqlite3.connect(desk.path)) as connection, connection:
        connection.execute("UPDATE events SET body = 'odd' WHERE sequence = 1")
    desk.talks.act = failing("odd", error=ValueError("odd"))

    desk.work_off()

    assert desk.talks.done == ["shop b 1"]
