"""Tests of `backups.scheduling.due_runs`: what the scheduler thread does, second by second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.errors import LeaseHeld
from backups.format import naming
from backups.runs.run import StartedRun
from backups.scheduling.due_runs import DueRuns
from backups.scheduling.store_probe import StoreProbe
from shared.errors import AppError, DiskFull, ObjectMissing, StoreUnreachable
from shared.process.lasting_work import Pulse, last
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore

FULL = DiskFull("the disk of runs.db is full", "Make room on that disk.")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT + timedelta(hours=3))


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    with open_bench(tmp_path, store, clock=clock) as bench:
        yield bench


@pytest.fixture
def runs(bench: Bench) -> DueRuns:
    return DueRuns(bench.service)


def statuses(bench: Bench) -> list[str]:
    """How each run ended, oldest first."""
    return [f"{run.trigger} {run.status}" for run in reversed(bench.service.run_log.page(500))]


def go_on(
    runs: DueRuns, bench: Bench, clock: FixedClock, *, minutes: int, seconds_a_step: int = 10
) -> list[str]:
    """Let minutes pass; when runs were begun meanwhile, and how they ended."""
    before = len(statuses(bench))
    began = clock.monotonic()
    while clock.monotonic() - began < minutes * 60:
        clock.advance(seconds=seconds_a_step)
        runs.step()
    return [status.partition(" ")[2] for status in statuses(bench)[before:]]


def replace(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: Exception) -> None:
    """Make a method raise, until `monkeypatch.undo`."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, fails)


def in_thread(runs: DueRuns, pulse: Pulse, between: Callable[[], object] = lambda: None) -> None:
    """One step in a long-lived thread with this pulse."""
    stopping = threading.Event()

    def step() -> float:
        stopping.set()
        return runs.step()

    last("the scheduler", step, stopping, pulse)
    between()


# --- when -------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-3, -24 * 365, 24 * 90])
def test_what_is_owed_is_made_within_a_minute_of_a_step_of_the_clock(
    runs: DueRuns, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Catching up comes each minute of the monotonic clock, wherever the other one was set to."""
    replace(monkeypatch, bench.service.backup, "run_if_owed", FULL)
    runs.step()
    clock.step(hours=hours)
    monkeypatch.undo()

    assert go_on(runs, bench, clock, minutes=1) == ["succeeded"]


def test_a_due_instant_is_served_before_what_is_made_up(runs: DueRuns, bench: Bench) -> None:
    """Also when both come in the same second: it is a scheduled run, and only one."""
    runs.wake("backup")
    runs.step()
    runs.step()

    assert statuses(bench) == ["scheduled succeeded"]


# --- failures that no run records ---------------------------------------------------------


def test_a_run_that_cannot_begin_is_a_failure_of_the_thread(
    runs: DueRuns, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its remedy, since the first time, until one begins; the idle seconds do not hide it."""
    pulse = Pulse("scheduler", 180, clock.monotonic)
    replace(monkeypatch, bench.service.run_log, "start", FULL)

    in_thread(runs, pulse, lambda: clock.advance(seconds=30))
    in_thread(runs, pulse)

    assert pulse.sign().failure == "the disk of runs.db is full [disk_full] Make room on that disk."
    assert pulse.sign().failing_for == 30
    monkeypatch.undo()
    clock.advance(seconds=30)
    in_thread(runs, pulse)
    assert pulse.sign().failure is None
    assert statuses(bench) == ["catch-up succeeded"]


def test_records_that_cannot_be_written_at_the_start_are_one_too(
    runs: DueRuns, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that cannot even note that it schedules does not look as if it did."""
    pulse = Pulse("scheduler", 180, clock.monotonic)
    replace(monkeypatch, bench.service.facts, "note_begun", FULL)
    monkeypatch.setattr("shared.process.lasting_work.FIRST_WAIT_SECONDS", 0.0)

    in_thread(runs, pulse)

    assert "disk_full" in str(pulse.sign().failure)
    assert not runs.begun.is_set()
    monkeypatch.undo()
    in_thread(runs, pulse)
    assert (pulse.sign().failure, statuses(bench)) == (None, ["catch-up succeeded"])


def test_a_run_that_waits_for_another_is_no_failure(
    runs: DueRuns, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody verifies, or restores: what is owed comes a minute later."""
    pulse = Pulse("scheduler", 180, clock.monotonic)
    replace(monkeypatch, bench.service.backup, "run_if_owed", LeaseHeld(None))
    in_thread(runs, pulse)
    assert pulse.sign().failure is None


def test_the_progress_of_a_run_is_a_sign_of_life(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """An hour of honest upload is not stuck, and a run that hangs is after `BACKUP_TIMEOUT`."""
    pulse = Pulse("scheduler", 180, clock.monotonic)
    seen: list[tuple[float, bool]] = []

    def look(seconds: float) -> Callable[[], None]:
        def act() -> None:
            clock.advance(seconds=seconds)
            seen.append((pulse.sign().age, pulse.sign().is_stuck))

        return act

    store.before("put", "tokens_", look(2000))
    store.before("get", "tokens_", look(3000))
    store.before("put", "manifest", look(3601))
    in_thread(runs, pulse)

    assert statuses(bench) == ["catch-up succeeded"]
    assert seen == [(2000, False), (3000, False), (3601, True)]
    assert not pulse.sign().is_stuck


def test_a_store_that_hangs_before_a_run_begins_is_not_a_stuck_thread(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The client's own limits end such a request; a restart by systemd would help nothing."""
    pulse = Pulse("scheduler", 180, clock.monotonic)
    seen: list[bool] = []

    def hang() -> None:
        clock.advance(seconds=600)
        seen.append(pulse.sign().is_stuck)

    store.before("list", PREFIX, hang)
    runs.wake("backup")
    in_thread(runs, pulse)
    assert (seen, pulse.sign().age) == ([False], 0)


# --- a store that answers again -------------------------------------------------------------


@pytest.mark.parametrize("minutes", [3, 30, 200])
def test_a_store_that_answers_again_is_noticed_within_two_minutes(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock, minutes: int
) -> None:
    """By one small request a minute while a run is owed; the run begins at once, and only one."""
    store.go_away()
    runs.step()
    go_on(runs, bench, clock, minutes=minutes)
    before = len(store.calls)
    go_on(runs, bench, clock, minutes=1)
    asked = [call for call in store.calls[before:] if "instances/" in call[1]]
    assert asked == [("head", naming.instance_key(PREFIX, bench.directory.instance()))]

    store.mend()

    assert go_on(runs, bench, clock, minutes=2) == ["succeeded"]
    before = len(store.calls)
    assert go_on(runs, bench, clock, minutes=60) == []
    # Nothing is owed: what the store has is looked at, and nothing else is asked.
    assert store.calls[before:] == [("list", PREFIX)] * 4


def test_a_bucket_that_was_emptied_is_noticed_within_a_quarter_of_an_hour(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Nothing is owed and nobody types a command: the scheduler looks at the store by itself."""
    runs.step()
    assert bench.problems() == []
    for key in bench.all_keys():
        store.inner.delete(key)
    go_on(runs, bench, clock, minutes=16)
    assert "points_missing" in bench.problems()


def test_a_run_by_hand_that_failed_is_made_up(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Although the set of the day is there: else the problem would stay until the next day."""
    runs.step()
    store.break_at("put", 0)
    assert bench.run().status == "failed"
    store.mend()
    assert bench.problems() == ["last_run_failed"]
    assert go_on(runs, bench, clock, minutes=6) == ["succeeded"]
    assert bench.problems() == []


def test_it_is_noticed_by_a_process_that_started_meanwhile(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The delays outlive a restart, and so does the reason to look."""
    store.go_away()
    runs.step()
    go_on(runs, bench, clock, minutes=30)
    store.mend()

    assert go_on(DueRuns(bench.service), bench, clock, minutes=1) == ["succeeded"]


def test_a_run_that_fails_although_the_store_answers_goes_back_to_the_delays(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """One attempt out of turn; then 15, 60 and 60 minutes as after any failures."""
    store.break_at("put", 0)
    runs.step()

    failed = [
        minute
        for minute in range(1, 141)
        if go_on(runs, bench, clock, minutes=1, seconds_a_step=60)
    ]

    assert failed == [1, 16, 76, 136]


def test_a_failure_that_is_not_the_stores_waits_out_its_delay(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """While a source is missing the store is not asked: its answer would change nothing."""
    bench.tokens.rename(bench.tokens.with_name("away.db"))
    runs.step()
    before = len(store.calls)
    assert go_on(runs, bench, clock, minutes=4) == []
    assert store.calls[before:] == []


def test_a_probe_takes_each_answer_for_one_run(clock: FixedClock) -> None:
    """An answer is news after silence, once; a request comes at most each minute."""
    answers: list[AppError | None] = []
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        if (error := answers.pop(0)) is not None:
            raise error

    away, gone = StoreUnreachable("no answer"), ObjectMissing("no such object")
    probe = StoreProbe(ask, clock.monotonic)
    answers += [away, None, None, away, gone, gone]
    news = []
    for _ in range(6):
        news.append(probe.answers_again())
        assert not probe.answers_again()
        clock.advance(minutes=1)
    assert (news, asked) == ([False, True, False, False, True, False], 6)
    probe.succeeded()
    probe.failed()
    answers += [None]
    assert not probe.answers_again()
    clock.advance(minutes=1)
    assert probe.answers_again()


# --- drills ---------------------------------------------------------------------------------


def test_a_drill_that_cannot_begin_is_tried_again_each_hour(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Until one begins; then none comes before the next instant of the schedule."""
    bench.made("scheduled")
    runs.step()
    store.break_at("list", 0)
    runs.wake("drill")
    with caplog.at_level(logging.WARNING):
        go_on(runs, bench, clock, minutes=150)
    told = [r.getMessage() for r in caplog.records if "drill could not begin" in r.getMessage()]
    assert len(told) == 3
    assert "will be tried again in 60 min" in told[0]
    assert bench.service.run_log.last("drill", "succeeded", "failed") is None

    store.mend()
    go_on(runs, bench, clock, minutes=31)
    assert bench.service.run_log.last("drill", "succeeded") is not None
    go_on(runs, bench, clock, minutes=300)
    assert statuses(bench).count("scheduled succeeded") == 2


def test_a_drill_that_failed_is_not_repeated_each_hour(
    runs: DueRuns, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Its outcome is known, and is a problem of status until the next."""
    bench.made("scheduled")
    runs.step()
    runs.wake("drill")
    store.break_at("get", 0)
    go_on(runs, bench, clock, minutes=200)
    assert statuses(bench) == ["scheduled succeeded", "scheduled failed"]


def test_after_a_restore_one_set_is_made_whoever_makes_it(
    runs: DueRuns, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower makes a full, too: who waited for its lease then makes no second one."""
    runs.step()
    clock.advance(minutes=1)
    bench.restored()
    clock.advance(seconds=1)
    begin_unless = bench.service.backup.begin_unless

    def late(*asked: Any) -> StartedRun | None:
        bench.made("change")
        clock.advance(seconds=1)
        return begin_unless(*asked)

    monkeypatch.setattr(bench.service.backup, "begin_unless", late)
    before = len(statuses(bench))
    runs.step()
    assert statuses(bench)[before:] == ["change succeeded"]
    monkeypatch.undo()
    assert go_on(runs, bench, clock, minutes=5) == []
