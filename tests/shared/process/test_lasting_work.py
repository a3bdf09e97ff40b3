"""Tests of `shared.process.lasting_work`: what no fault ends."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable

import pytest

from shared.errors import DatabaseLocked
from shared.process import lasting_work
from shared.process.lasting_work import (
    Pulse,
    Sign,
    Supervisor,
    beat,
    has_to_end,
    last,
    note,
    patience,
    until,
)
from tests.support.clock import FixedClock
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait after a fault is short."""
    monkeypatch.setattr(lasting_work, "FIRST_WAIT_SECONDS", 0.001)


@pytest.mark.parametrize("fault", [ValueError("odd"), OSError(13, "denied"), MemoryError()])
def test_whatever_a_step_raises_the_next_one_follows(
    caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """Three faults in a row are logged with their tracebacks, and then the work is done."""
    stopping = threading.Event()
    faults = [fault] * 3

    def step() -> float:
        if faults:
            raise faults.pop()
        stopping.set()
        return 0

    with caplog.at_level(logging.ERROR):
        last("the work", step, stopping)

    assert [record.exc_info is not None for record in caplog.records] == [True] * 3
    assert all("the work failed" in record.getMessage() for record in caplog.records)


def test_an_error_of_ours_is_logged_with_its_remedy(caplog: pytest.LogCaptureFixture) -> None:
    """An `AppError` needs no traceback: it says what to do."""
    stopping = threading.Event()

    def step() -> float:
        stopping.set()
        raise DatabaseLocked("tokens.db is locked", "End the other process.")

    last("the work", step, stopping)

    (record,) = caplog.records
    assert record.exc_info is None
    assert "tokens.db is locked [database_locked] End the other process." in record.getMessage()


def test_the_waits_grow_to_a_minute_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure in a row doubles the wait, up to the longest; a success forgets them."""
    waits: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            return False

    monkeypatch.setattr(lasting_work, "FIRST_WAIT_SECONDS", 1.0)
    stopping = Stopping()
    outcomes = [*["fail"] * 8, "good", "fail", "end"]

    def step() -> float:
        outcome = outcomes.pop(0)
        if outcome == "fail":
            raise ValueError(outcome)
        if outcome == "end":
            stopping.set()
        return 5

    last("the work", step, stopping)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 5, 1, 5]


def test_stopping_ends_the_wait_after_a_fault_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown does not sit out the minute."""
    monkeypatch.setattr(lasting_work, "FIRST_WAIT_SECONDS", 60.0)
    stopping, failed = threading.Event(), threading.Event()

    def step() -> float:
        failed.set()
        raise ValueError

    thread = threading.Thread(target=last, args=("the work", step, stopping))
    thread.start()
    assert failed.wait(30)
    began = time.monotonic()
    stopping.set()
    thread.join(30)

    assert not thread.is_alive()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_process_gets_through(ending: type[BaseException]) -> None:
    """Only faults are survived: an order to end is followed."""

    def step() -> float:
        raise ending

    with pytest.raises(ending):
        last("the work", step, threading.Event())


# --- the pulse ----------------------------------------------------------------------------

LOCKED = DatabaseLocked("runs.db is locked", "End the other process.")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def pulse(clock: FixedClock) -> Pulse:
    return Pulse("the work", 100, clock.monotonic)


def stepping(pulse: Pulse, *steps: Callable[[], object]) -> None:
    """Do the steps as a long-lived thread does, one after the other, and end."""
    stopping = threading.Event()
    waiting = list(steps)

    def step() -> float:
        act = waiting.pop(0)
        if not waiting:
            stopping.set()
        act()
        return 0

    last("the work", step, stopping, pulse)


def failing() -> None:
    raise ValueError("secret")


def test_a_silent_thread_is_stuck_and_a_beat_ends_that(clock: FixedClock, pulse: Pulse) -> None:
    """It may be silent for as long as it was given, by the clock that nobody can set."""
    clock.step(days=9)
    clock.advance(seconds=100)
    assert pulse.sign() == Sign("the work", age=100, most=100)
    assert not pulse.sign().is_stuck
    clock.advance(seconds=1)
    assert pulse.sign().is_stuck

    pulse.beat()
    assert not pulse.sign().is_stuck


def test_every_step_is_a_beat_whether_it_went_well_or_not(clock: FixedClock, pulse: Pulse) -> None:
    """A thread that fails lives: it is failing, and since when, and not stuck."""
    clock.advance(seconds=1000)
    stepping(pulse, failing, lambda: clock.advance(seconds=50), failing)

    assert pulse.sign().age == 0
    assert pulse.sign().failure == "ValueError, a bug in this program; the log has the traceback"
    clock.advance(seconds=7)
    assert pulse.sign().failing_for == 7  # a step that went well was between


def test_a_failure_is_over_with_the_next_good_step(clock: FixedClock, pulse: Pulse) -> None:
    """Only what is so now is told; of several failures in a row, since the first."""
    stepping(pulse, failing)
    clock.advance(seconds=50)
    stepping(pulse, failing)
    assert pulse.sign().failing_for == 50

    stepping(pulse, lambda: None)
    assert (pulse.sign().failure, pulse.sign().failing_for) == (None, 0)


def test_an_attempt_that_failed_stands_until_the_next(clock: FixedClock, pulse: Pulse) -> None:
    """What could not even begin is not forgotten by the idle steps up to its next attempt."""
    stepping(pulse, lambda: note(LOCKED))
    clock.advance(seconds=30)
    stepping(pulse, lambda: None)

    sign = pulse.sign()
    assert sign.failure == "runs.db is locked [database_locked] End the other process."
    assert sign.failing_for == 30

    stepping(pulse, lambda: note(None))
    assert pulse.sign().failure is None


def test_progress_is_a_beat_of_the_thread_that_executes_it(clock: FixedClock, pulse: Pulse) -> None:
    """Also when a thread that was started in its context reports it; nobody else's."""
    seen: list[float] = []

    def long_work() -> None:
        clock.advance(seconds=90)
        worker = threading.Thread(target=contextvars.copy_context().run, args=(beat,))
        worker.start()
        worker.join()
        seen.append(pulse.sign().age)
        clock.advance(seconds=90)
        stranger = threading.Thread(target=beat)
        stranger.start()
        stranger.join()
        seen.append(pulse.sign().age)

    thread = threading.Thread(target=stepping, args=(pulse, long_work))
    thread.start()
    thread.join()

    assert seen == [0, 90]


def test_what_may_take_long_is_not_stuck_meanwhile(clock: FixedClock, pulse: Pulse) -> None:
    """A run may be silent for its own limit, and its thread is stuck only after that."""
    seen: list[bool] = []

    def run() -> None:
        with patience(3600):
            clock.advance(seconds=3600)
            seen.append(pulse.sign().is_stuck)
            clock.advance(seconds=1)
            seen.append(pulse.sign().is_stuck)
        seen.append(pulse.sign().is_stuck)

    thread = threading.Thread(target=stepping, args=(pulse, run))
    thread.start()
    thread.join()

    assert seen == [False, True, False]
    assert pulse.sign().most == 100


def test_outside_of_a_long_lived_thread_there_is_no_pulse() -> None:
    """A command reports the same way, to nobody."""
    beat()
    note(LOCKED)
    with patience(1):
        pass


# --- the supervisor -----------------------------------------------------------------------


def test_the_supervisor_knows_the_threads_that_run() -> None:
    """For as long as they run, in the order in which they began, with what they met."""
    supervisor = Supervisor()
    assert supervisor.signs() == ()
    with (
        supervisor.running("one", lambda: 0.01, threading.Event(), most=5),
        supervisor.running("two", failing_step, threading.Event()),
    ):
        eventually(lambda: supervisor.signs()[1].failure, "the failure of the second")
        assert [(sign.name, sign.most) for sign in supervisor.signs()] == [("one", 5), ("two", 180)]
        assert supervisor.signs()[0].failure is None
        assert {"one", "two"} <= {thread.name for thread in threading.enumerate()}
    assert supervisor.signs() == ()
    assert not {"one", "two"} & {thread.name for thread in threading.enumerate()}


def failing_step() -> float:
    raise OSError(28, "No space left on device")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_ended_is_no_longer_alive_to_anybody(clock: FixedClock) -> None:
    """What even the top of a thread lets through is told at once, and then as silence."""
    supervisor = Supervisor(clock.monotonic)

    def step() -> float:
        raise SystemExit

    with supervisor.running("one", step, threading.Event()):
        eventually(lambda: supervisor.signs()[0].failure, "its end")
        assert supervisor.signs()[0].failure == "the thread ended: SystemExit"
        clock.advance(seconds=181)
        assert supervisor.signs()[0].is_stuck


def test_the_end_of_a_turn_is_known_to_the_threads_that_began_in_it() -> None:
    """And to no others: what somebody else asked for goes on."""
    ended, supervisor = threading.Event(), Supervisor()
    before, within = list[bool](), list[bool]()

    def looking(said: list[bool]) -> Callable[[], float]:
        def step() -> float:
            said.append(has_to_end())
            return 0.01

        return step

    with supervisor.running("before", looking(before), threading.Event()):
        with until(ended):
            assert not has_to_end()
            ended.set()
            assert has_to_end()
            with supervisor.running("within", looking(within), threading.Event()):
                eventually(lambda: within and len(before) > 1, "both")
        assert not has_to_end()
    assert all(within)
    assert not any(before)
