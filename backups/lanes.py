"""Doing the same for several sources, two at a time: a thread for each, one outcome."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from backups.model import Progress, ProgressSink

# A third lane would cost memory and the bot's processor time, and the bot has two sources.
LANES = 2
# How long an interrupted caller waits for lanes that a silent store keeps from noticing.
_GRACE_SECONDS = 2.0

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Stopped(Exception):
    """Ends the work of a lane because another one has failed."""


def in_lanes(
    work: Callable[[_Item, ProgressSink], _Result], items: Sequence[_Item], progress: ProgressSink
) -> list[_Result]:
    """`work` on all `items`, two at a time; what it returned for each, in their order.

    It is given a sink that leads to `progress`, one report at a time. When one fails, nothing
    more begins, and the other ends at its next report; what the first one raised is raised
    when both have ended, so that nobody works on behind the caller's back. Only a caller that
    is interrupted (by a signal) leaves a lane behind that does not end in time.
    """
    if len(items) == 1:
        return [work(items[0], progress)]
    waiting = iter(enumerate(items))
    results: dict[int, _Result] = {}
    failures: list[BaseException] = []
    stopped, turn = threading.Event(), threading.Lock()

    def report(reported: Progress) -> None:
        if stopped.is_set():
            raise _Stopped
        with turn:
            progress(reported)

    def lane() -> None:
        while not stopped.is_set():
            with turn:
                chosen = next(waiting, None)
            if chosen is None:
                return
            try:
                results[chosen[0]] = work(chosen[1], report)
            except _Stopped:
                return
            except BaseException as error:  # raised again in the caller
                failures.append(error)
                stopped.set()

    threads = [
        threading.Thread(
            target=contextvars.copy_context().run, args=(lane,), name="lane", daemon=True
        )
        for _ in range(min(LANES, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        stopped.set()
        for thread in threads:
            thread.join(_GRACE_SECONDS)
        raise
    if failures:
        raise failures[0]
    return [results[place] for place in range(len(items))]
