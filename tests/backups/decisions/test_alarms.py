"""Tests of the alarms: each state is told once, its end is told once, and staleness is noticed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.decisions.alarms import (
    Message,
    News,
    active_alarms,
    after_attempt,
    alerts_that_fail,
    broken_receivers,
    letter_for,
    may_send,
    message_for,
    success_message,
    without_ended,
)
from backups.decisions.alarms import (
    test_message as message_of_a_test,
)
from backups.decisions.health import PROBLEM_CODES
from backups.decisions.retention import RetentionPolicy
from backups.model import DrillReport, Finding
from backups.vocabulary.receivers import Receiver, ReceiverState, SentMessage
from shared.crontab import Crontab
from shared.store.directory import DirectoryStore
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import write
from tests.support.records import INSTANT, a_manifest
from tests.support.store_wrappers import WatchedStore

SYMPTOM = "no_restore_point"


def finding(code: str) -> Finding:
    """A problem with this code."""
    return Finding(code, f"message of {code}", f"hint of {code}")


# --- what to say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "title"),
    [
        ((), (), None),
        ((), ("overdue",), "Backup problem on h: overdue"),
        (("overdue",), ("overdue",), None),
        (("overdue",), (), "Backups on h are healthy again"),
        (("overdue", "suspect"), ("suspect",), None),  # not all is over yet
        (("suspect",), ("overdue", "suspect"), "Backup problem on h: overdue"),
        (("suspect",), ("overdue",), "Backup problem on h: overdue"),
        ((), ("last_run_failed", "overdue"), "Backup problem on h: last_run_failed"),
        (("overdue", "suspect"), (), "Backups on h are healthy again"),
    ],
)
def test_what_is_said_when_alarms_change(
    before: tuple[str, ...], now: tuple[str, ...], title: str | None
) -> None:
    """New ones are told once, what lasts is not repeated, and that all are over is told once."""
    message = message_for(before, [finding(code) for code in now], name="h")

    assert (message.title if message else None) == title


def test_a_message_has_every_new_alarm_with_its_remedy() -> None:
    """The body names what is new, and only that."""
    message = message_for(["a"], [finding("a"), finding("b"), finding("c")], name="h")

    assert message is not None
    assert message.body == "message of b\n-> hint of b\n\nmessage of c\n-> hint of c"


def test_the_end_names_what_is_over() -> None:
    """The last message says which problems have gone."""
    assert message_for(["b", "a"], [], name="h") == Message(
        "Backups on h are healthy again",
        "Every problem that was reported is over: a, b",
        "success",
    )


@pytest.mark.parametrize("new", [True, False])
def test_every_problem_is_an_alarm_but_a_mere_symptom(new: bool) -> None:
    """All of them; `no_restore_point` only where no other says why, and not on a new host."""
    causes = tuple(finding(code) for code in (*PROBLEM_CODES, "else") if code != SYMPTOM)

    assert active_alarms([finding(SYMPTOM), *causes], new=new) == causes
    assert active_alarms([finding(SYMPTOM)], new=new) == (() if new else (finding(SYMPTOM),))


def test_other_messages_name_the_host() -> None:
    """Success and test messages say where they come from."""
    assert "h" in success_message("h", "20261122T010000Z").title
    assert "20261122T010000Z" in success_message("h", "20261122T010000Z").body
    assert "h" in message_of_a_test("h").title


# --- to whom ----------------------------------------------------------------------------

URL = Receiver("0123", 1, "json")


@pytest.mark.parametrize(
    ("told", "now", "all_known", "codes", "after"),
    [
        ((), (), True, None, None),
        ((), ("overdue",), True, ("overdue",), ("overdue",)),
        (("overdue",), ("overdue", "suspect"), True, ("suspect",), ("overdue", "suspect")),
        (("overdue",), ("suspect",), True, ("suspect",), ("suspect",)),
        (("overdue",), (), True, ("overdue",), ()),
        (("overdue",), (), False, None, None),
        (("overdue",), ("unknown",), False, ("unknown",), ("overdue", "unknown")),
    ],
)
def test_what_a_receiver_is_told_and_knows_after_it(
    told: tuple[str, ...],
    now: tuple[str, ...],
    all_known: bool,
    codes: tuple[str, ...] | None,
    after: tuple[str, ...] | None,
) -> None:
    """The new alarms, or that all are over; nothing is over while not all is known."""
    news = News(tuple(finding(code) for code in now), all_known)
    letter = letter_for(URL, ReceiverState(told), news, name="h")

    assert (letter and letter.codes, letter and letter.told) == (codes, after)


def test_an_alarm_that_comes_again_beside_others_is_told_again() -> None:
    """That one of several is over is no message, but it is remembered."""
    one, both = News((finding("a"),)), News((finding("a"), finding("b")))
    state = without_ended(ReceiverState(("a", "b")), one)
    letter = letter_for(URL, state, both, name="h")

    assert state.told == ("a",)
    assert letter is not None
    assert letter.codes == ("b",)
    for over in (News(()), News((finding("c"),))):  # who was told of one is told that it is over
        assert without_ended(ReceiverState(("a",)), over).told == ("a",)


def attempt(at: datetime, *, sent: bool) -> SentMessage:
    """An attempt to reach the receiver."""
    return SentMessage(at, URL.id, "title", ("overdue",), "sent" if sent else "failed")


def test_a_receiver_that_fails_is_left_alone_for_longer_and_longer() -> None:
    """1, 5, 15 and 60 minutes after failures in a row; the first that arrives ends it."""
    state, now = ReceiverState(), INSTANT
    for minutes in (1, 5, 15, 60, 60):
        assert may_send(state, now)
        state = after_attempt(state, attempt(now, sent=False), ("overdue",))
        assert not may_send(state, now)
        assert not may_send(state, now + timedelta(minutes=minutes, microseconds=-1))
        now += timedelta(minutes=minutes)
    state = after_attempt(state, attempt(now, sent=True), ("overdue",))
    assert state == ReceiverState(("overdue",))
    assert may_send(state, now)


@pytest.mark.parametrize("step", [timedelta(days=-365), timedelta(hours=-1), timedelta(days=365)])
def test_a_step_of_the_clock_neither_silences_nor_floods(step: timedelta) -> None:
    """One attempt comes too early, and the pauses hold from then on."""
    state = ReceiverState()
    for minute in (0, 1, 6):
        state = after_attempt(
            state, attempt(INSTANT + timedelta(minutes=minute), sent=False), ("overdue",)
        )
    attempts, now = 0, INSTANT + timedelta(minutes=7) + step
    for _ in range(121):
        if may_send(state, now):
            attempts += 1
            state = after_attempt(state, attempt(now, sent=False), ("overdue",))
        now += timedelta(minutes=1)
    assert attempts == 3  # at once, and after 60 and 60 minutes

    sending = ReceiverState(sending_since=INSTANT)
    assert may_send(sending, INSTANT + step)
    assert not may_send(sending, INSTANT - timedelta(milliseconds=1))


@pytest.mark.parametrize(
    ("failures", "minutes", "broken", "all_fail"),
    [
        (0, 0, False, False),
        (1, 9.9, False, False),
        (2, 0, False, False),
        (3, 0, True, False),
        (1, 10, True, False),
        (6, 60, True, False),
        (6, 60.1, True, True),
    ],
)
def test_when_a_receiver_is_broken(
    failures: int, minutes: float, broken: bool, all_fail: bool
) -> None:
    """After three failures in a row or ten minutes; a problem after an hour without any other."""
    now = INSTANT + timedelta(minutes=minutes)
    state = ReceiverState(failures=failures, failing_since=INSTANT if failures else None)
    other = Receiver("4567", 2, "mailtos")

    assert broken_receivers([URL], {URL.id: state}, now) == (("URL number 1 (json)",) * broken)
    found = alerts_that_fail([URL], {URL.id: state}, now)
    assert [one.code for one in found] == ["alerts_fail"] * all_fail
    assert alerts_that_fail([URL, other], {URL.id: state}, now) == ()
    assert broken_receivers([other], {}, now) == ()
    assert alerts_that_fail([], {}, now) == ()


# --- when it is said --------------------------------------------------------------------


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    with open_bench(tmp_path, store, clock=clock) as bench:
        yield bench


def test_a_failure_is_told_once_and_its_end_once(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Three failures in a row are one message, and the first success after them is one more."""
    bench.made("scheduled")
    assert bench.notes.messages == []
    store.break_at("put", 0)
    for _ in range(3):
        clock.advance(minutes=5)
        assert bench.run("scheduled").status == "failed"
        bench.service.alerts.send_alerts()
    assert bench.notes.titles() == ["last_run_failed"]
    assert "there was no answer" in bench.notes.messages[0].body

    store.mend()
    clock.advance(minutes=5)
    bench.made("scheduled")
    clock.advance(minutes=5)
    bench.made()
    bench.service.alerts.send_alerts()

    assert bench.notes.titles() == ["last_run_failed", "well"]


def test_a_second_failure_after_the_recovery_is_told_again(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Once for one state, and a new state is a new message."""
    for _ in range(2):
        store.break_at("put", 0)
        bench.run()
        store.mend()
        clock.advance(minutes=1)
        bench.made()
        clock.advance(minutes=1)

    assert bench.notes.titles() == ["last_run_failed", "well"] * 2


def test_an_interrupted_run_is_no_recovery(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """A failure that is merely followed by a shutdown is not said to be over."""
    store.break_at("put", 0)
    bench.run()
    store.mend()
    bench.service.stop()
    assert bench.run().status == "interrupted"
    bench.service.alerts.send_alerts()

    assert bench.notes.titles() == ["last_run_failed"]


def test_success_is_not_told_unless_it_is_wanted(tmp_path: Path, clock: FixedClock) -> None:
    """`BACKUP_NOTIFY_SUCCESS` gives one message for each proven run, and no other."""
    store = WatchedStore(DirectoryStore(tmp_path / "store"))
    with open_bench(tmp_path, store, clock=clock, notify_success=True) as bench:
        bench.made()
        store.break_at("put", 0)
        clock.advance(minutes=1)
        bench.run()

        assert bench.notes.titles() == ["done", "last_run_failed"]


def test_the_heartbeat_follows_proven_runs_only(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Not after a failed, a suspect or a partial run, nor after a verification or a prune."""
    bench.made("scheduled")
    assert bench.notes.heartbeats == 1
    store.break_at("get", 0)
    bench.run()
    store.mend()
    clock.advance(minutes=1)
    bench.made(only="tokens")
    bench.service.verify.begin().execute()
    bench.prune()
    write(bench.tokens, "DELETE FROM tokens")
    clock.advance(minutes=1)
    bench.made()

    assert bench.notes.heartbeats == 1


def test_a_notifier_that_fails_is_tried_again(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """An alarm that reached nobody is sent until it arrives, then no more; and so is its end."""
    bench.notes.works = False
    store.break_at("put", 0)
    bench.run()
    bench.notes.works = True
    assert bench.notes.messages == []
    for _ in range(3):
        clock.advance(minutes=1)
        bench.service.alerts.send_alerts()
    assert bench.notes.titles() == ["last_run_failed"]

    store.mend()
    bench.notes.works = False
    bench.made()
    bench.notes.works = True
    for _ in range(3):
        clock.advance(minutes=1)
        bench.service.alerts.send_alerts()
    assert bench.notes.titles() == ["last_run_failed", "well"]
    assert bench.notes.attempts == 4


def test_a_failed_drill_is_told(bench: Bench, clock: FixedClock) -> None:
    """A rehearsal that failed is an alarm until one succeeds."""
    made = bench.made()
    bench.facts.set_last_drill(
        DrillReport(made.id, clock.now(), 1.0, 3, 3, "3 of 3 rows cannot be used")
    )
    bench.service.alerts.send_alerts()
    clock.advance(minutes=1)
    assert bench.service.drill.begin().execute().status == "succeeded"
    bench.service.alerts.send_alerts()

    assert bench.notes.titles() == ["drill_failed", "well"]


def test_keys_that_no_longer_open_are_told(
    bench: Bench, clock: FixedClock, tmp_path: Path, store: WatchedStore
) -> None:
    """A newest set whose key this host has no more is an alarm."""
    bench.made()
    newest = bench.service.own_sets.latest()
    assert newest is not None

    document = a_manifest(replace(newest, token_key="a" * 16))
    bench.service.catalogue.add_manifest(newest.id, document)
    with open_bench(
        tmp_path, store, clock=clock, sources=bench.sources, token_keys=("b" * 16,)
    ) as rotated:
        rotated.service.alerts.send_alerts()

        assert rotated.notes.titles() == ["token_key_lost"]


# --- two processes ----------------------------------------------------------------------


def test_two_services_tell_it_once(
    tmp_path: Path, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """However many processes of a host notice it at the same time, one message goes out."""
    store.break_at("put", 0)
    bench.notes.works = False
    bench.run()
    bench.notes.works = True
    barrier = threading.Barrier(4)

    with open_bench(tmp_path, store, clock=clock, sources=bench.sources) as other:

        def tell(one: Bench) -> None:
            barrier.wait()
            one.service.alerts.send_alerts()

        clock.advance(minutes=1)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(tell, [bench, other, bench, other]))

        assert (bench.notes.titles() + other.notes.titles()) == ["last_run_failed"]


# --- staleness --------------------------------------------------------------------------


def hours(number: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=number)


SUNDAY = datetime(2026, 11, 22, 1, tzinfo=UTC)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "quiet", "stale"),
    [
        ("0 1 * * *", hours(26), hours(26.1)),
        ("0 1 * * 0", hours(7 * 24 + 2), hours(7 * 24 + 2.1)),
        ("0 * * * *", hours(3), hours(3.1)),
        ("*/10 * * * *", hours(2 + 1 / 6), hours(2.3)),
        ("0 1 1 * *", timedelta(days=9, hours=2), timedelta(days=9, hours=2.1)),
    ],
    ids=["daily", "weekly", "hourly", "ten minutes", "monthly"],
)
def test_staleness_fires_with_a_scheduler_that_never_runs(
    tmp_path: Path, schedule: str, quiet: timedelta, stale: timedelta
) -> None:
    """Two hours after the missed instant one message goes out; after a new set one more."""
    clock = FixedClock(SUNDAY)
    store = DirectoryStore(tmp_path / "store")
    with open_bench(tmp_path, store, clock=clock, schedule=Crontab(schedule)) as bench:
        bench.made("scheduled")
        clock.advance(seconds=quiet.total_seconds())
        bench.service.alerts.send_alerts()
        assert bench.problems() == []

        clock.advance(seconds=(stale - quiet).total_seconds())
        for _ in range(48):
            bench.service.alerts.send_alerts()
            clock.advance(hours=1)
        assert bench.problems() == ["overdue"]
        assert bench.notes.titles() == ["overdue"]

        bench.made("catch-up")
        bench.service.alerts.send_alerts()
        assert bench.problems() == []
        assert bench.notes.titles() == ["overdue", "well"]


def test_a_host_that_never_made_a_set_is_stale_too(bench: Bench, clock: FixedClock) -> None:
    """Messages after two hours, and two hours after its first due instant; after a set one more."""
    bench.facts.note_begun(clock.now())
    for hour in range(48):
        bench.service.alerts.send_alerts()
        due = clock.now() > datetime(2026, 11, 23, 3, tzinfo=UTC)
        assert bench.notes.titles() == [
            *(["no_restore_point"] if hour >= 2 else []),
            *(["overdue"] if due else []),
        ]
        clock.advance(hours=1)
    assert bench.problems() == ["overdue", "no_restore_point"]
    bench.made("catch-up")
    assert bench.notes.titles() == ["no_restore_point", "overdue", "well"]


def test_runs_that_only_fail_are_stale_too(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Failure is told first, staleness when the grace is over, and one message ends both."""
    bench.made("scheduled")
    store.break_at("put", 0)
    for _ in range(8):
        clock.advance(hours=6)
        bench.run("scheduled")
    store.mend()
    clock.advance(hours=1)
    bench.made("scheduled")

    assert bench.notes.titles() == ["last_run_failed", "overdue", "well"]
    assert (
        bench.notes.messages[-1].body
        == "Every problem that was reported is over: last_run_failed, overdue"
    )


def test_sets_that_do_not_protect_do_not_end_staleness(bench: Bench, clock: FixedClock) -> None:
    """A suspect or partial set is no reason to say that backups are well."""
    bench.made("scheduled")
    clock.advance(days=2)
    bench.service.alerts.send_alerts()
    bench.made(only="tokens")
    assert bench.notes.titles() == ["overdue"]
    write(bench.tokens, "DELETE FROM tokens")
    clock.advance(minutes=1)
    bench.made()

    assert bench.notes.titles() == ["overdue", "suspect"]
    assert bench.problems() == ["suspect", "overdue"]


def test_a_set_of_the_future_is_sent_once_and_its_end_once(bench: Bench, clock: FixedClock) -> None:
    """The clock was set back below the newest set: an alarm until a right one is proven."""
    bench.made("scheduled")
    clock.advance(days=-30)
    for _ in range(3):
        bench.service.alerts.send_alerts()
    assert bench.notes.titles() == ["future_set"]

    bench.made("catch-up")
    bench.service.alerts.send_alerts()

    assert bench.notes.titles() == ["future_set", "well"]


# --- alarms and the rest ----------------------------------------------------------------


def test_a_budget_that_cannot_be_kept_is_a_warning_and_no_alarm(
    tmp_path: Path, clock: FixedClock
) -> None:
    """What is protected beats `BACKUP_KEEP_MAX_BYTES`; status says so, nobody is woken."""
    store = DirectoryStore(tmp_path / "store")
    with open_bench(tmp_path, store, clock=clock, retention=RetentionPolicy(max_bytes=1)) as bench:
        bench.made()

        health = bench.service.status().health
        assert health.healthy
        assert "over_budget" in [one.code for one in health.warnings]
        assert bench.notes.messages == []


def test_alarms_survive_a_restart(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> None:
    """What was told is remembered in the records, so a restart tells nothing twice."""
    with open_bench(tmp_path, store, clock=clock) as bench:
        store.break_at("put", 0)
        bench.run()
        sources = bench.sources
        assert bench.notes.titles() == ["last_run_failed"]
    with open_bench(tmp_path, store, clock=clock, sources=sources) as bench:
        bench.service.alerts.send_alerts()

        assert bench.notes.messages == []


def test_the_end_names_all_that_has_ended_since_it_was_told() -> None:
    """What ended while others lasted is named with the last of them, once."""
    state = ReceiverState(("a", "b", "c"))
    state = without_ended(state, News((finding("c"),)))
    more = letter_for(URL, state, News((finding("d"),)), name="h")  # c ends as d comes
    assert more is not None
    state = after_attempt(state, attempt(INSTANT, sent=True), more.told)
    last = letter_for(URL, state, News(()), name="h")

    assert last is not None
    assert last.message.body == "Every problem that was reported is over: a, b, c, d"
    assert sorted(last.codes) == ["a", "b", "c", "d"]
    assert after_attempt(state, attempt(INSTANT, sent=True), last.told) == ReceiverState()


def test_what_came_again_has_not_ended() -> None:
    """A problem that ended and is told again is named once, when it is over."""
    state = without_ended(ReceiverState(("a", "b")), News((finding("b"),)))
    again = letter_for(URL, state, News((finding("a"), finding("b"))), name="h")
    assert again is not None
    state = after_attempt(state, attempt(INSTANT, sent=True), again.told)

    assert (state.told, state.ended) == (("a", "b"), ())
