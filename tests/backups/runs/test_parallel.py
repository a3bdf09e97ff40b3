"""Tests of `backups.runs.parallel`."""

from __future__ import annotations

import os
import signal
import threading
from contextvars import ContextVar

import pytest

from backups.model import Progress, ProgressSink
from backups.runs.parallel import MAX_WORKERS, cpu_workers, in_parallel

PATIENCE_SECONDS = 20.0


def ignore(_: Progress) -> None:
    pass


def test_results_come_in_the_order_of_the_items() -> None:
    """What each item gave stands at its place, whichever was done first."""
    second_is_done = threading.Event()

    def work(item: int, _: ProgressSink) -> int:
        if item == 1:
            assert second_is_done.wait(PATIENCE_SECONDS)
        else:
            second_is_done.set()
        return item * 10

    assert in_parallel(work, [1, 2, 3, 4, 5], ignore) == [10, 20, 30, 40, 50]
    assert in_parallel(work, [7], ignore) == [70]
    assert in_parallel(work, [], ignore) == []


def test_two_items_are_worked_on_at_once_and_never_more() -> None:
    """A second item begins before the first has ended, and a third one waits."""
    both, working, most = threading.Barrier(MAX_WORKERS), [0], [0]
    lock = threading.Lock()

    def work(_item: int, _: ProgressSink) -> None:
        with lock:
            working[0] += 1
            most[0] = max(most[0], working[0])
        both.wait(PATIENCE_SECONDS)
        with lock:
            working[0] -= 1

    in_parallel(work, range(3 * MAX_WORKERS), ignore)

    assert most == [MAX_WORKERS]


def test_one_worker_takes_one_item_after_the_other() -> None:
    """With one worker nothing begins before what is before it has ended, and a failure ends all."""
    told: list[str] = []

    def work(item: str, report: ProgressSink) -> str:
        told.append(f"{item} begins")
        report(Progress("stage", item))
        if item == "fails":
            raise ValueError(item)
        told.append(f"{item} ends")
        return item.upper()

    seen: list[str | None] = []
    assert in_parallel(work, ["a", "b"], lambda one: seen.append(one.source), workers=1) == [
        "A",
        "B",
    ]
    assert told == ["a begins", "a ends", "b begins", "b ends"]
    assert seen == ["a", "b"]

    with pytest.raises(ValueError, match="fails"):
        in_parallel(work, ["fails", "never begins"], ignore, workers=1)
    assert told[-1] == "fails begins"


@pytest.mark.parametrize(("processors", "workers"), [(1, 1), (2, 1), (3, 2), (64, 2)])
def test_computing_leaves_the_bot_a_processor(
    monkeypatch: pytest.MonkeyPatch, processors: int, workers: int
) -> None:
    """Of the processors that this process may use, one stays free; one worker there always is."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    assert cpu_workers() == workers

    monkeypatch.delattr(os, "sched_getaffinity")  # a Mac has none
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert cpu_workers() == workers


def test_a_failure_stops_the_others_and_is_what_comes_out() -> None:
    """The other worker ends at its next report, no further item begins, and the cause is raised."""
    begun: list[str] = []
    other_works, failed = threading.Event(), ValueError("the cause")

    def work(item: str, report: ProgressSink) -> None:
        begun.append(item)
        if item == "fails":
            assert other_works.wait(PATIENCE_SECONDS)
            raise failed
        other_works.set()
        while True:
            report(Progress("stage", item))

    with pytest.raises(ValueError, match="the cause") as raised:
        in_parallel(work, ["goes on", "fails", "never begins"], ignore)

    assert raised.value is failed
    assert sorted(begun) == ["fails", "goes on"]


def test_what_the_listener_raises_stops_all() -> None:
    """A run that is told to stop stops in every worker, with the reason that it was given."""

    class Stop(Exception):
        pass

    def listener(_: Progress) -> None:
        raise Stop

    def work(item: int, report: ProgressSink) -> None:
        while True:
            report(Progress("stage", str(item)))

    with pytest.raises(Stop):
        in_parallel(work, [1, 2], listener)


def test_a_signal_to_the_caller_stops_the_workers() -> None:
    """When a signal ends the thread that waits, no worker works on behind its back."""

    class Signal(BaseException):
        pass

    def on_signal(_number: int, _frame: object) -> None:
        raise Signal

    begun, ended = threading.Barrier(MAX_WORKERS + 1), []

    def work(item: int, report: ProgressSink) -> None:
        begun.wait(PATIENCE_SECONDS)
        try:
            while True:
                report(Progress("stage", str(item)))
        finally:
            ended.append(item)

    def interrupt() -> None:
        begun.wait(PATIENCE_SECONDS)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, on_signal)
    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        with pytest.raises(Signal):
            in_parallel(work, [1, 2], ignore)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)

    assert sorted(ended) == [1, 2]


def test_reports_come_one_at_a_time() -> None:
    """A listener that is not made for threads hears one report at a time."""
    inside, overlaps = threading.Lock(), []

    def listener(progress: Progress) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(progress)
            return
        threading.Event().wait(0.0001)
        inside.release()

    def work(item: int, report: ProgressSink) -> None:
        for done in range(50):
            report(Progress("stage", str(item), done))

    in_parallel(work, [1, 2], listener)

    assert overlaps == []


def test_workers_see_the_context_of_the_caller() -> None:
    """What is noted about the run in the caller's context is there in every worker."""
    noted: ContextVar[str] = ContextVar("noted")
    noted.set("run 7")

    assert in_parallel(lambda _item, _report: noted.get(), [1, 2], ignore) == ["run 7", "run 7"]
