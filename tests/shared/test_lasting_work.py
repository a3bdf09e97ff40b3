"""Tests of `shared.process.lasting_work`: what no fault ends."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from shared.errors import DatabaseLocked
from shared.process import lasting_work
from shared.process.lasting_work import last


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
