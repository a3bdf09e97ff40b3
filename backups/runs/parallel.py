"""Doing things side by side: the same for several sources, two at a time at most, and one thing
beside all that follows it."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from backups.model import Progress, ProgressSink
from shared.threads import start

# A third worker would cost memory and the bot's processor time, and the bot has two sources.
MAX_WORKERS = 2
# How long an interrupted caller waits for workers that a silent store keeps from noticing.
_GRACE_SECONDS = 2.0
_LOOK_SECONDS = 0.2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Stopped(Exception):
    """Ends the work of a thread because another one has failed."""


def cpu_workers() -> int:
    """How many workers may compute at once: one of this process's processors stays the bot's."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, processors - 1))


@contextmanager
def beside(
    work: Callable[[Callable[[], None]], _Result],
) -> Iterator[Callable[[Callable[[], None]], _Result]]:
    """Run `work` in a thread while the body goes on; what is yielded waits for what it returned.

    `work` is given a function that raises once the body has ended: then nothing of it goes on. The
    waiting one is given what to call meanwhile, whose error ends the waiting.
    """
    results: list[_Result] = []
    failures: list[BaseException] = []
    left, ended = threading.Event(), threading.Event()

    def ask() -> None:
        if left.is_set():
            raise _Stopped

    def run() -> None:
        try:
            results.append(work(ask))
        except BaseException as error:  # raised again by the one that waits
            failures.append(error)
        finally:
            ended.set()

    def result(report: Callable[[], None]) -> _Result:
        while not ended.wait(_LOOK_SECONDS):
            report()
        if failures:
            raise failures[0]
        return results[0]

    start(
        threading.Thread(
            target=contextvars.copy_context().run, args=(run,), name="beside", daemon=True
        )
    )
    try:
        yield result
    finally:
        left.set()
        ended.wait(_GRACE_SECONDS)


def in_parallel(
    work: Callable[[_Item, ProgressSink], _Result],
    items: Sequence[_Item],
    progress: ProgressSink,
    *,
    workers: int = MAX_WORKERS,
) -> list[_Result]:
    """`work` on all `items`, `workers` at a time; what it returned for each, in their order.

    It is given a sink that leads to `progress`, one report at a time. When one fails, nothing
    more begins, and the other ends at its next report; what the first one raised is raised
    when both have ended, so that nobody works on behind the caller's back. Only a caller that
    is interrupted (by a signal) leaves a worker behind that does not end in time.
    """
    if workers == 1 or len(items) == 1:
        return [work(item, progress) for item in items]
    waiting = iter(enumerate(items))
    results: dict[int, _Result] = {}
    failures: list[BaseException] = []
    stopped, turn = threading.Event(), threading.Lock()

    def report(reported: Progress) -> None:
        if stopped.is_set():
            raise _Stopped
        with turn:
            progress(reported)

    def worker(ended: threading.Event) -> None:
        try:
            while not stopped.is_set():
                with turn:
                    chosen = next(waiting, None)
                if chosen is None:
                    return
                results[chosen[0]] = work(chosen[1], report)
        except _Stopped:
            pass
        except BaseException as error:  # raised again by the caller's thread
            failures.append(error)
            stopped.set()
        finally:
            ended.set()

    # Not `join`: interrupted by a signal, it takes a thread that still runs for one that ended.
    ends = [threading.Event() for _ in range(min(workers, len(items)))]
    try:
        for ended in ends:
            start(
                threading.Thread(
                    target=contextvars.copy_context().run,
                    args=(worker, ended),
                    name="worker",
                    daemon=True,
                )
            )
        for ended in ends:
            while not ended.wait(_LOOK_SECONDS):
                pass  # a signal that came just before a wait is noticed only after it
    except BaseException:
        stopped.set()
        for ended in ends:
            ended.wait(_GRACE_SECONDS)
        raise
    if failures:
        raise failures[0]
    return [results[place] for place in range(len(items))]
