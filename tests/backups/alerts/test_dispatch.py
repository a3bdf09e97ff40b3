"""Tests of `backups.alerts.dispatch`: each receiver is sent each problem once, and their end once.

Whatever happens to the other receivers, to the records, or to the process that sends.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from backups.alerts import dispatch
from backups.alerts.dispatch import Alerts
from backups.alerts.notifier import AppriseNotifier
from backups.decisions import alarms
from backups.decisions.alarms import Message
from backups.decisions.health import Health, Status, assess
from backups.decisions.protection import HealthFacts
from backups.vocabulary.receivers import Receiver, receivers_of
from backups.wiring import open_service
from shared.errors import DiskFull
from shared.store.directory import DirectoryStore
from tests.support.alert_process import alert_process
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.installation import installation_in, settings_of
from tests.support.listener import Listener
from tests.support.memory_notifier import MemoryNotifier
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore
from tests.support.waiting import eventually

# What apprise imports warns of Python 3.13; everything else stays an error.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@dataclass(frozen=True)
class Site:
    """A bench that sends to two servers, and its clock."""

    bench: Bench
    clock: FixedClock
    one: Listener
    two: Listener

    def fail(self) -> None:
        """A run that fails, which is a problem."""
        self.bench.watched.break_at("put", 0)
        assert self.bench.run().status == "failed"
        self.bench.watched.mend()

    def succeed(self) -> None:
        """A run that ends all problems."""
        self.bench.made()

    def step(self, times: int = 1) -> None:
        """So many minutes, in each of which the app looks at what is to be sent."""
        for _ in range(times):
            self.clock.advance(minutes=1)
            self.bench.service.alerts.step()


@pytest.fixture
def listeners() -> Iterator[tuple[Listener, Listener]]:
    """Two servers."""
    with Listener() as one, Listener() as two:
        yield one, two


def urls(*listeners: Listener) -> tuple[str, ...]:
    """The servers as apprise knows them."""
    return tuple(f"json://127.0.0.1:{one.port}/" for one in listeners)


@pytest.fixture
def site(tmp_path: Path, listeners: tuple[Listener, Listener]) -> Iterator[Site]:
    """A bench over a store that can be broken, with two receivers."""
    clock = FixedClock(INSTANT)
    store = WatchedStore(DirectoryStore(tmp_path / "store"))
    notifier = AppriseNotifier(urls(*listeners), None)
    with open_bench(tmp_path, store, clock=clock, notifier=notifier) as bench:
        yield Site(bench, clock, *listeners)


def told(listener: Listener) -> list[str]:
    """What a server was sent: the code of a problem, or `well`."""
    titles = [json.loads(one.body)["title"] for one in listener.heard]
    return [
        "well" if title.endswith("healthy again") else title.rpartition(": ")[2] for title in titles
    ]


# --- one receiver and the other ---------------------------------------------------------


def test_a_broken_receiver_costs_the_other_nothing(site: Site) -> None:
    """In 200 minutes the good one gets the problem once; the broken one when it is repaired."""
    site.two.status = 500
    site.fail()
    site.step(200)
    assert told(site.one) == ["last_run_failed"]
    assert len(site.two.heard) == 6  # at once, and after 1, 5, 15, 60 and 60 minutes

    site.two.status = 200
    site.two.heard.clear()
    site.step(60)
    assert told(site.two) == ["last_run_failed"]
    site.succeed()
    site.step(60)
    assert told(site.one) == told(site.two) == ["last_run_failed", "well"]


def test_who_was_told_of_no_problem_is_told_of_no_end(site: Site) -> None:
    """A problem that came and went while a receiver was broken is no message to it."""
    site.two.status = 500
    site.fail()
    site.step(5)
    site.succeed()
    site.two.status = 200
    site.two.heard.clear()
    site.step(120)

    assert told(site.one) == ["last_run_failed", "well"]
    assert told(site.two) == []


def test_an_end_that_did_not_arrive_is_sent_until_it_does(site: Site) -> None:
    """The end of a problem is tried again like a problem, and arrives once."""
    site.fail()
    site.two.status = 500
    site.succeed()
    site.two.heard.clear()
    site.two.status = 200
    site.step(60)

    assert told(site.one) == ["last_run_failed", "well"]
    assert told(site.two) == ["well"]


def test_receivers_that_fail_show_in_status(site: Site) -> None:
    """A warning after ten minutes names the place and scheme; a problem after an hour of all."""

    def findings() -> tuple[list[str], list[str]]:
        health = site.bench.service.status().health
        return (
            [found.message for found in health.problems if found.code == "alerts_fail"],
            [found.message for found in health.warnings if found.code == "receiver_broken"],
        )

    site.two.status = 500
    site.fail()
    site.step()
    assert findings() == ([], [])
    site.step(10)
    assert findings() == (
        [],
        ["messages do not reach URL number 2 (json) of BACKUP_NOTIFY_URLS"],
    )
    site.step(80)
    assert findings()[0] == []

    site.one.status = 500
    site.succeed()
    site.step(61)
    ((problem,), (warning,)) = findings()
    assert "for 61 minutes: URL number 1 (json), URL number 2 (json)" in problem
    assert "URL number 1 (json), URL number 2 (json)" in warning

    for listener in (site.one, site.two):
        listener.status = 200
        listener.heard.clear()
    assert site.bench.service.alerts.send_test_message() == ()
    assert findings() == ([], [])
    site.step(60)
    assert told(site.one)[1:] == ["well"]


def test_a_test_message_names_whom_it_does_not_reach(site: Site) -> None:
    """It is sent to a receiver that is left alone too, and is in the log like any attempt."""
    site.two.status = 500
    for _ in range(2):
        unreached = site.bench.service.alerts.send_test_message()
        assert [str(one) for one in unreached] == ["URL number 2 (json)"]

    logged = site.bench.facts.messages.messages_since(INSTANT)
    assert sorted(one.result for one in logged) == ["failed", "failed", "sent", "sent"]
    assert {one.codes for one in logged} == {()}


def test_a_look_with_nothing_to_send_writes_nothing(site: Site) -> None:
    """Neither while all is well, nor beside a problem that was sent, or cannot be sent now."""

    def steps() -> None:
        with closing(sqlite3.connect(site.bench.records.path)) as connection:
            before = connection.execute("PRAGMA data_version").fetchone()
            site.clock.advance(seconds=5)
            for _ in range(5):
                site.bench.service.alerts.step()
            assert connection.execute("PRAGMA data_version").fetchone() == before

    site.succeed()
    steps()
    site.two.status = 500
    site.fail()
    steps()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, False),
        ({"BACKUP_NOTIFY_URLS": "json://127.0.0.1/"}, True),
        ({"BACKUP_HEARTBEAT_URL": "http://127.0.0.1/"}, True),
    ],
)
def test_status_knows_whether_somebody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: bool
) -> None:
    """By a message, or by the watchdog that misses the calls of the heartbeat."""
    judged: list[HealthFacts] = []

    def judging(facts: HealthFacts) -> Health:
        judged.append(facts)
        return assess(facts)

    monkeypatch.setattr("backups.status.assess", judging)
    with open_service(settings_of(installation_in(tmp_path, **settings).make_databases())) as own:
        own.status()
    assert [facts.somebody_is_told for facts in judged] == [told]


class Hanging(MemoryNotifier):
    """Two receivers, of which the second does not answer until it is let go."""

    receivers = receivers_of(["one://", "two://"])

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[int] = []
        self.go_on = threading.Event()

    def send(self, receiver: Receiver, message: Message) -> bool:
        """See `Notifier.send`."""
        if receiver.number == 2:
            assert self.go_on.wait(30)
        self.reached.append(receiver.number)
        return super().send(receiver, message)


def test_a_receiver_that_hangs_holds_up_neither_the_run_nor_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits long for it; it is one failure, sent nothing else, and gets its message late."""
    monkeypatch.setattr(dispatch, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(alarms, "SENDING_TAKES_AT_MOST", timedelta(0))
    clock, notifier = FixedClock(INSTANT), Hanging()
    store = WatchedStore(DirectoryStore(tmp_path / "store"))
    with open_bench(tmp_path, store, clock=clock, notifier=notifier) as bench:
        messages = bench.facts.messages
        store.break_at("put", 0)
        bench.run()
        eventually(lambda: notifier.reached == [1], "the other gets its message")
        for _ in range(20):
            clock.advance(minutes=1)
            bench.service.alerts.step()
        results = [(one.receiver, one.result) for one in messages.messages_since(INSTANT)]
        one, two = (receiver.id for receiver in notifier.receivers)
        assert results == [(one, "sent"), (two, "failed")]
        assert messages.states([two])[two].failures == 1

        notifier.go_on.set()
        eventually(lambda: len(messages.messages_since(INSTANT)) == 3, "the late one is recorded")
        clock.advance(minutes=1)
        bench.service.alerts.step()
        assert notifier.reached == [1, 2]
        assert messages.states([two])[two].told == ("last_run_failed",)


def test_a_process_that_has_no_thread_left_sends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, the message is sent without one."""

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    site.one.status = site.two.status = 500
    site.fail()
    site.one.status = site.two.status = 200
    site.one.heard.clear()
    with monkeypatch.context() as few:
        few.setattr("backups.alerts.dispatch.threading.Thread", NoThread)
        few.setattr(AppriseNotifier, "send", MemoryNotifier().send)
        site.step()
    site.step(5)
    assert sent_to(site, site.one) == [("last_run_failed",)]
    assert told(site.one) == []  # it went to the notifier in its place


def test_messages_about_good_runs_leave_a_broken_receiver_alone(
    tmp_path: Path, listeners: tuple[Listener, Listener]
) -> None:
    """`BACKUP_NOTIFY_SUCCESS` tries a broken URL no more often than an alert does."""
    one, two = listeners
    two.status = 500
    clock = FixedClock(INSTANT)
    with open_bench(
        tmp_path,
        DirectoryStore(tmp_path / "store"),
        clock=clock,
        notifier=AppriseNotifier(urls(one, two), None),
        notify_success=True,
    ) as bench:
        for _ in range(5):
            bench.made()
            clock.advance(seconds=10)

        assert (len(one.heard), len(two.heard)) == (5, 1)


# --- records that cannot be written, status that cannot be determined -------------------


@pytest.mark.slow
def test_what_cannot_be_recorded_is_sent_all_the_same(site: Site, tmp_path: Path) -> None:
    """On a full disk a process sends each message once; what it sent is recorded when it can be."""
    site.one.status = site.two.status = 500
    site.fail()
    site.one.status = site.two.status = 200
    site.one.heard.clear()
    with alert_process(tmp_path, site.clock.now(), *urls(site.one)) as process:
        process.do("full", *["advance 60", "step"] * 200)
        assert told(site.one) == ["last_run_failed"]
        assert sent_to(site, site.one) == []

        process.do("room", "step")
        assert told(site.one) == ["last_run_failed"]
        assert sent_to(site, site.one) == [("last_run_failed",)]


def sent_to(site: Site, listener: Listener) -> list[tuple[str, ...]]:
    """The alarms in the messages that a server was sent, as the records have them."""
    (receiver,) = receivers_of(urls(listener))
    logged = site.bench.facts.messages.messages_since(INSTANT)
    return [one.codes for one in logged if (one.receiver, one.result) == (receiver.id, "sent")]


def test_a_receiver_is_left_alone_also_when_nothing_can_be_recorded(site: Site) -> None:
    """The pauses after failures hold in a process that cannot write them down."""
    site.one.status = site.two.status = 500
    site.fail()
    site.bench.records._connection.execute("PRAGMA query_only=ON")
    site.one.status = 200
    for listener in (site.one, site.two):
        listener.heard.clear()
    site.step(200)

    assert told(site.one) == ["last_run_failed"]
    assert len(site.two.heard) == 5  # after 1, 5, 15, 60 and 60 minutes
    assert sent_to(site, site.one) == []


@pytest.mark.parametrize(
    "fault", [DiskFull("the disk is full", "Make room."), OverflowError("date value out of range")]
)
def test_that_status_is_unknown_is_sent_at_most_hourly(tmp_path: Path, fault: Exception) -> None:
    """It says why, once while it lasts; beside a process that sees no problem, once an hour."""
    clock, notes = FixedClock(INSTANT), MemoryNotifier()
    with open_bench(tmp_path, clock=clock, notifier=notes) as bench:
        bench.made()

        def status() -> Status:
            raise fault

        blind = Alerts(status, bench.facts, notes, clock, of_success=False)
        for _ in range(200):
            blind.step()
            clock.advance(minutes=1)
        assert notes.titles() == ["status_unknown"]
        assert "the state of the backups cannot be determined" in notes.messages[0].body
        if isinstance(fault, DiskFull):
            assert "the disk is full\n-> Make room." in notes.messages[0].body

        for _ in range(200):
            blind.step()
            bench.service.alerts.step()
            clock.advance(minutes=1)
        assert notes.titles() == ["status_unknown", "well"] * 5


def test_an_unknown_status_ends_no_problem(site: Site) -> None:
    """What was a problem before status became unknown is not repeated and not over after it."""
    site.fail()
    failing = True

    def status() -> Status:
        if failing:
            raise DiskFull("the disk is full", "Make room.")
        return site.bench.service.status()

    notifier = AppriseNotifier(urls(site.one), None)
    blind = Alerts(status, site.bench.facts, notifier, site.clock, of_success=False)
    blind.step()
    failing = False
    blind.step()
    assert told(site.one) == ["last_run_failed", "status_unknown"]
    site.succeed()
    assert told(site.one) == ["last_run_failed", "status_unknown", "well"]


def test_records_made_anew_repeat_nothing(site: Site) -> None:
    """A process remembers what it sent when the records were lost meanwhile."""
    site.fail()
    with site.bench.records.transaction() as connection:
        connection.execute("DELETE FROM receivers")
    site.step(3)
    site.succeed()

    assert told(site.one) == ["last_run_failed", "well"]


# --- several processes ------------------------------------------------------------------


@pytest.mark.slow
def test_one_of_several_processes_sends(site: Site, tmp_path: Path) -> None:
    """However many look at the same time, each change is one message to each receiver."""
    site.one.status = 500
    with ExitStack() as stack:
        processes = [
            stack.enter_context(alert_process(tmp_path, site.clock.now(), *urls(site.two)))
            for _ in range(3)
        ]
        for number in range(1, 6):
            site.two.status = 500
            (site.fail if number % 2 else site.succeed)()
            site.two.status = 200
            site.two.heard.clear()
            site.clock.advance(minutes=5)
            for process in processes:
                process.do("advance 300")
            for process in processes:
                process.order("step")
            for process in processes:
                process.answer()
            assert told(site.two) == ["last_run_failed" if number % 2 else "well"]


def test_a_process_that_looked_before_a_problem_does_not_end_it(site: Site) -> None:
    """News that are older than what a receiver was told meanwhile are not sent to it."""

    def status() -> Status:
        seen = site.bench.service.status()
        site.fail()
        return seen

    site.succeed()
    notifier = AppriseNotifier(urls(site.one, site.two), None)
    late = Alerts(status, site.bench.facts, notifier, site.clock, of_success=False)
    late.step()
    site.step()
    assert told(site.one) == told(site.two) == ["last_run_failed"]


@pytest.mark.slow
def test_a_process_that_dies_before_it_sends_loses_no_message(site: Site, tmp_path: Path) -> None:
    """Another process sends it when the claim is two minutes old, once."""
    site.one.status = site.two.status = 500
    site.fail()
    site.one.heard.clear()
    site.one.status = 200
    site.clock.advance(hours=2)
    with alert_process(tmp_path, site.clock.now(), *urls(site.one)) as process:
        process.do("die")
        process.order("step")
        assert process.died_by() == signal.SIGKILL

    site.step()
    assert told(site.one) == []
    site.step(5)
    assert told(site.one) == ["last_run_failed"]
