"""When everything is fetched, and that one failure stays one failure."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from shared.crontab import Crontab
from shared.errors import AppError, DatabaseError, StoreError
from shared.merchants.errors import (
    PermissionMissing,
    PlatformPreparing,
    PlatformUnreachable,
    TokenRefused,
)
from shared.merchants.inbox import Event, Provider, WaitingEvent, open_inbox
from shared.merchants.marks import Marks
from shared.merchants.platform import Connection
from shared.merchants.polling import FirstSyncs, Polling
from shared.process.lasting_work import until
from tests.support.clock import MIDNIGHT, FixedClock
from tests.support.waiting import eventually


@dataclass
class Shops:
    """A platform whose accounts fail as a test says."""

    failing: dict[str, Exception] = field(default_factory=dict)
    names: list[str] = field(default_factory=lambda: ["a", "b", "c"])
    polled: list[str] = field(default_factory=list)
    provider: Provider = "shopify"
    unreadable: AppError | None = None
    hold: threading.Event | None = None
    then: dict[str, Callable[[], object]] = field(default_factory=dict)

    def connections(self, user: str) -> list[Connection]:
        return []

    def owner(self, account: str) -> str | None:
        return None

    def accounts(self) -> list[str]:
        if self.unreadable:
            raise self.unreadable
        return self.names

    def poll(self, account: str) -> None:
        self.polled.append(account)
        if self.hold:
            self.hold.wait(10)
        if account in self.then:
            self.then[account]()
        if account in self.failing:
            raise self.failing[account]

    def lane(self, event: Event) -> str:
        raise AssertionError("polling works no events")

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        raise AssertionError("polling works no events")


@dataclass
class Desk:
    """A polling with its platform, its marks and its time."""

    shops: Shops
    marks: Marks
    clock: FixedClock
    polling: Polling


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Polls at two in the morning; it is midnight, and nothing was polled yet."""
    clock, shops = FixedClock(), Shops()
    with closing(open_inbox(tmp_path / "inbox.db")) as database:
        marks = Marks(database, clock)
        yield Desk(
            shops, marks, clock, Polling([shops], marks, Crontab("0 2 * * *"), clock, workers=1)
        )


def test_polling_is_owed_at_its_instants(desk: Desk) -> None:
    """The first time at once, then once a day at two, and not in between."""
    assert desk.polling.poll_if_owed() is True
    assert desk.marks.last_sync() == MIDNIGHT
    assert desk.polling.poll_if_owed() is False
    desk.clock.advance(hours=1, minutes=59)
    assert desk.polling.poll_if_owed() is False
    desk.clock.advance(minutes=1)
    assert desk.polling.poll_if_owed() is True
    assert desk.polling.poll_if_owed() is False
    assert desk.shops.polled == ["a", "b", "c"] * 2


def test_a_missed_instant_is_made_up_for_once(desk: Desk) -> None:
    """A host that was off for a week polls once when it is back."""
    desk.polling.poll()
    desk.clock.advance(days=7)

    assert [desk.polling.poll_if_owed() for _ in range(3)] == [True, False, False]


def test_who_asks_is_served_once(desk: Desk) -> None:
    """By whichever process polls, and not again at the next look."""
    desk.polling.poll()
    desk.clock.advance(seconds=1)
    desk.marks.ask_for_sync()

    assert [desk.polling.poll_if_owed() for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("error", [TokenRefused("expired"), PermissionMissing("not granted")])
def test_an_account_to_reconnect_is_marked_and_the_others_go_on(
    desk: Desk, caplog: pytest.LogCaptureFixture, error: AppError
) -> None:
    """Exactly that one, logged once; when it works again the mark is gone."""
    desk.shops.failing = {"b": error}

    assert (desk.polling.poll(), desk.polling.poll()) == (1, 1)

    assert desk.shops.polled == ["a", "b", "c"] * 2
    assert {name: one.reason for name, one in desk.marks.reconnects("shopify").items()} == {
        "b": error.message
    }
    assert [one.message for one in caplog.records if "reconnect" in one.message] == [
        f"reconnect: {error.message}. "
    ]
    desk.shops.failing = {}
    desk.polling.poll()
    assert desk.marks.reconnects("shopify") == {}


@pytest.mark.parametrize(
    "error", [PlatformUnreachable("gone"), ZeroDivisionError("a fault of ours")]
)
def test_any_other_failure_is_logged_and_the_others_go_on(
    desk: Desk, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """It says nothing about the token, so nothing is marked, and an older mark stays."""
    desk.marks.mark_reconnect("shopify", "a", "expired")
    desk.shops.failing = {"a": error, "b": error}

    assert desk.polling.poll() == 2

    # One that did not answer soon is asked again, with patience, when the others are done.
    again = ["a", "b"] if isinstance(error, PlatformUnreachable) else []
    assert desk.shops.polled == ["a", "b", "c", *again]
    assert list(desk.marks.reconnects("shopify")) == ["a"]
    told = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(told) == 2 + len(again)
    # Only a fault of this program is told with its traceback.
    assert {bool(one.exc_info) for one in told} == {isinstance(error, ZeroDivisionError)}
    assert desk.marks.last_sync() == MIDNIGHT


def test_what_a_platform_prepares_is_fetched_when_it_is_there(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """That is no failure, and no worker waits for it: the account comes again, as often as said."""
    desk.shops.failing = {"b": PlatformPreparing("Shopify prepares it", wait=30)}
    first_syncs = FirstSyncs({"shopify": desk.shops}, desk.marks)

    assert desk.polling.poll() == 0
    assert desk.polling.poll_if_owed() is False
    for polled in ("abc", "abcb", "abcbb"):
        assert "".join(desk.shops.polled) == polled
        assert first_syncs.work() is False
        desk.clock.advance(seconds=31)
        assert first_syncs.work() is True
    desk.shops.failing = {}
    desk.clock.advance(seconds=31)
    assert first_syncs.work() is True
    desk.clock.advance(days=1)
    assert first_syncs.work() is False

    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_a_polling_that_was_stopped_is_still_owed(desk: Desk) -> None:
    """It ends after the account in hand."""
    desk.polling.stop()

    assert desk.polling.poll() == 0

    assert desk.shops.polled == []
    assert desk.marks.last_sync() is None


def test_a_polling_of_whoever_leads_no_more_is_still_owed(desk: Desk) -> None:
    """It ends after the account in hand, and the next turn makes it up."""
    ended = threading.Event()
    ended.set()
    with until(ended):
        assert desk.polling.poll() == 0

    assert desk.shops.polled == []
    assert desk.marks.last_sync() is None
    assert desk.polling.poll_if_owed() is True
    assert desk.shops.polled != []


def test_a_database_that_is_being_restored_is_an_entry_in_the_log(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised into the scheduler, and it stays owed: it is tried again in a while."""
    desk.shops.unreadable = DatabaseError("tokens.db is not a database")

    assert desk.polling.poll_if_owed() is False

    assert "tokens.db is not a database" in caplog.text
    desk.shops.unreadable = None
    assert desk.polling.poll_if_owed() is False  # asked again in some seconds, not at once
    desk.clock.advance(seconds=15)
    assert desk.polling.poll_if_owed() is True


def test_two_pollings_do_not_meet(desk: Desk) -> None:
    """One that is asked for while another goes on leaves it alone."""
    desk.shops.hold = threading.Event()
    desk.marks.ask_for_sync()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(desk.polling.poll_if_owed)
        while not desk.shops.polled:
            assert not first.done()
        assert desk.polling.poll_if_owed() is False
        desk.shops.hold.set()
        assert first.result(10) is True
    assert desk.shops.polled == ["a", "b", "c"]


def polling_of(desk: Desk, workers: int = 1) -> Polling:
    """As another process begins with the same marks."""
    return Polling([desk.shops], desk.marks, Crontab("0 2 * * *"), desk.clock, workers=workers)


def test_a_round_that_was_cut_off_goes_on_where_it_was(desk: Desk) -> None:
    """After a restart only what it had not polled is: also by a clock that was set back."""
    desk.shops.names = ["a", "b", "c", "d"]
    desk.shops.then = {"b": desk.polling.stop}
    assert desk.polling.poll_if_owed() is True
    assert desk.shops.polled == ["a", "b"]  # what was in hand at the end may have failed for that
    desk.clock.advance(hours=-1)
    desk.shops.then = {}

    assert polling_of(desk).poll_if_owed() is True

    assert desk.shops.polled == ["a", "b", "b", "c", "d"]
    assert desk.marks.last_sync() == MIDNIGHT


def test_who_waited_longest_comes_first(desk: Desk) -> None:
    """By the turns of earlier rounds, and not by the alphabet; who is new comes before all."""
    desk.shops.names, desk.shops.failing = ["a", "b"], {"a": PlatformUnreachable("gone")}
    desk.polling.poll()
    desk.shops.names, desk.shops.failing = ["a", "b", "c"], {}
    desk.polling.poll()

    assert desk.shops.polled == ["a", "b", "a", *("c", "b", "a")]


def test_who_is_connected_no_more_is_forgotten(desk: Desk) -> None:
    """So that the table of turns has what there is, and no more."""
    desk.polling.poll()
    desk.shops.names = ["b"]
    desk.polling.poll()

    assert list(desk.marks.polling_round().turns) == [("shopify", "b")]


def test_one_that_hangs_holds_up_one_worker(desk: Desk) -> None:
    """The others are polled meanwhile, each once, in however many rounds' worth of accounts."""
    desk.shops.names = [f"s{number:02}" for number in range(20)]
    hung = threading.Event()
    desk.shops.then = {"s00": lambda: hung.wait(60)}
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(polling_of(desk, workers=2).poll)
        try:
            eventually(lambda: len(desk.shops.polled) == 20, "all the others")
            assert not polling.done()
        finally:
            hung.set()
        assert polling.result(10) == 0
    assert sorted(desk.shops.polled) == desk.shops.names


def test_the_day_begins_in_utc(desk: Desk) -> None:
    """Two o'clock is two o'clock UTC, whatever the host's zone."""
    desk.polling.poll()
    due = MIDNIGHT + timedelta(hours=2)

    desk.clock.advance(seconds=(due - desk.clock.now()).total_seconds())

    assert desk.polling.poll_if_owed() is True


def first(desk: Desk) -> FirstSyncs:
    """What fetches accounts for the first time."""
    return FirstSyncs({"shopify": desk.shops}, desk.marks)


def work_off(syncs: FirstSyncs) -> None:
    """Fetch all that is due."""
    while syncs.work():
        pass


def test_what_was_connected_is_fetched_once(desk: Desk) -> None:
    """In the order in which it was; also what a process that has ended was asked for."""
    desk.marks.want_first_sync("shopify", "b")
    desk.marks.want_first_sync("shopify", "a")
    desk.marks.want_first_sync("shopify", "a")
    desk.marks.want_first_sync("a platform that is no longer set up", "a")

    work_off(first(desk))
    work_off(first(desk))

    assert desk.shops.polled == ["b", "a"]


def test_a_first_sync_that_failed_is_tried_again_later(desk: Desk) -> None:
    """After a wait that doubles, up to an hour; others do not wait for it."""
    desk.shops.failing = {"a": PlatformUnreachable("gone")}
    desk.marks.want_first_sync("shopify", "a")
    work_off(first(desk))
    desk.marks.want_first_sync("shopify", "b")
    work_off(first(desk))
    assert desk.shops.polled == ["a", "b"]

    for seconds in (1, 2, 4, 8):
        desk.clock.advance(seconds=seconds - 0.5)
        work_off(first(desk))
        tries = len(desk.shops.polled)
        desk.clock.advance(seconds=0.5)
        work_off(first(desk))
        assert len(desk.shops.polled) == tries + 1
    desk.shops.failing = {}
    desk.clock.advance(hours=1)
    work_off(first(desk))
    desk.clock.advance(hours=1)
    work_off(first(desk))
    assert desk.shops.polled.count("a") == 6


@pytest.mark.parametrize("error", [TokenRefused("expired"), PermissionMissing("not granted")])
def test_a_first_sync_of_an_account_to_reconnect_is_over(desk: Desk, error: AppError) -> None:
    """Its merchant sees that; connecting it again asks for the next one, which clears the mark."""
    desk.shops.failing = {"a": error}
    desk.marks.want_first_sync("shopify", "a")
    work_off(first(desk))
    assert list(desk.marks.reconnects("shopify")) == ["a"]
    assert desk.marks.first_syncs() == []

    desk.shops.failing = {}
    desk.marks.want_first_sync("shopify", "a")
    work_off(first(desk))

    assert desk.marks.reconnects("shopify") == {}


def test_a_first_sync_that_is_asked_for_meanwhile_comes_after(desk: Desk) -> None:
    """What was connected while it was fetched is fetched once more, and not twice at a time."""
    desk.shops.hold = threading.Event()
    desk.marks.want_first_sync("shopify", "a")
    with first(desk).running():
        try:
            eventually(lambda: desk.shops.polled, "the first one to begin")
            desk.marks.want_first_sync("shopify", "a")
            desk.marks.want_first_sync("shopify", "b")
            eventually(lambda: desk.shops.polled == ["a", "b"], "the other account")
        finally:
            desk.shops.hold.set()
        eventually(lambda: desk.shops.polled == ["a", "b", "a"], "the second time")
        eventually(lambda: desk.marks.first_syncs() == [], "the end of it")


def test_what_was_kept_for_long_enough_goes_after_each_round(desk: Desk) -> None:
    """A failure of that is logged, and no reason to poll again before the next instant."""
    tidied: list[int] = []

    def tidy() -> int:
        tidied.append(len(desk.shops.polled))
        raise StoreError("the store is down")

    polling = Polling(
        [desk.shops], desk.marks, Crontab("0 2 * * *"), desk.clock, workers=1, tidy=tidy
    )

    assert [polling.poll_if_owed() for _ in range(3)] == [True, False, False]
    desk.clock.advance(hours=2)
    assert polling.poll_if_owed() is True
    assert tidied == [3, 6]
