"""Work that goes on for as long as the program: no fault ends its thread, and its pulse is known.

What a thread does reports through `beat`, `note` and `patience`, which mean the thread that they
are called in, and the threads that it starts in a copy of its context; elsewhere they do nothing.
By `has_to_end` it learns that its turn is over, while the process goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass

from shared.errors import AppError

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
# How long a thread may give no sign of life: longer than the longest wait, and a slow request.
MOST_SECONDS = 180.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sign:
    """The pulse of a thread at one moment; `age`, `most` and `failing_for` are in seconds.

    `failure` is what its last step raised, or its last attempt met; None when both went well.
    """

    name: str
    age: float
    most: float
    failure: str | None = None
    failing_for: float = 0.0

    @property
    def is_stuck(self) -> bool:
        """Whether it has given no sign of life for longer than it may."""
        return self.age > self.most


class Pulse:
    """The signs of life of one thread, by a clock that no one can set; any thread may read it."""

    def __init__(
        self, name: str, most: float = MOST_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._most = most
        self._beat_at = monotonic()
        self._raised: str | None = None
        self._noted: str | None = None
        self._failing_since: float | None = None

    def beat(self) -> None:
        """The thread lives."""
        self._beat_at = self._monotonic()

    def raised(self, error: BaseException | None) -> None:
        """How a whole step ended."""
        with self._lock:
            self._raised = None if error is None else describe(error)
            self._update()

    def note(self, error: AppError | None) -> None:
        """How an attempt ended; it stands until the next one, whatever the steps between do."""
        with self._lock:
            self._noted = None if error is None else describe(error)
            self._update()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """For the length of a block the thread may be silent for so long, if that is longer."""
        before = self._most
        self._most = max(before, seconds)
        try:
            yield
        finally:
            self.beat()
            self._most = before

    def sign(self) -> Sign:
        """How the thread is now."""
        with self._lock:
            now, since = self._monotonic(), self._failing_since
            return Sign(
                self.name,
                age=max(0.0, now - self._beat_at),
                most=self._most,
                failure=self._raised or self._noted,
                failing_for=0.0 if since is None else max(0.0, now - since),
            )

    def _update(self) -> None:
        if self._raised is None and self._noted is None:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = self._monotonic()


_of_this_thread: ContextVar[Pulse | None] = ContextVar("pulse", default=None)
_end_of_turn: ContextVar[threading.Event | None] = ContextVar("end of the turn", default=None)


def beat() -> None:
    """Say that the long-lived thread that this is called in goes on."""
    if (pulse := _of_this_thread.get()) is not None:
        pulse.beat()


def note(error: AppError | None) -> None:
    """Say how what this thread attempted ended; see `Pulse.note`."""
    if (pulse := _of_this_thread.get()) is not None:
        pulse.note(error)


@contextmanager
def until(ended: threading.Event) -> Iterator[None]:
    """What is done in the block, by whichever thread for it, has to end once `ended` is set."""
    token = _end_of_turn.set(ended)
    try:
        yield
    finally:
        _end_of_turn.reset(token)


def has_to_end() -> bool:
    """Whether the turn in which this is called is over; never outside of one: see `until`."""
    ended = _end_of_turn.get()
    return ended is not None and ended.is_set()


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Around what may take so long without a sign of life."""
    pulse = _of_this_thread.get()
    if pulse is None:
        yield
        return
    with pulse.patience(seconds):
        yield


def last(
    name: str, step: Callable[[], float], stopping: threading.Event, pulse: Pulse | None = None
) -> None:
    """Repeat `step` until `stopping` is set; it returns how many seconds to wait before the next.

    Whatever a step raises is logged, with its traceback where it is not an `AppError`, and the
    next one follows after a wait that doubles with each failure in a row, up to a minute. Only
    what ends the process (`KeyboardInterrupt`, `SystemExit`) gets through, and is in the pulse.
    `stopping` ends every wait at once.
    """
    pulse = pulse or Pulse(name)
    token = _of_this_thread.set(pulse)
    try:
        _repeat(name, step, stopping, pulse)
    except BaseException as ending:
        pulse.raised(ending)
        raise
    finally:
        _of_this_thread.reset(token)


def _repeat(name: str, step: Callable[[], float], stopping: threading.Event, pulse: Pulse) -> None:
    failures = 0
    while not stopping.is_set():
        try:
            wait = step()
            failures = 0
            pulse.raised(None)
        except Exception as error:  # the top of a thread that has to live
            wait = min(FIRST_WAIT_SECONDS * 2.0 ** min(failures, 10), LONGEST_WAIT_SECONDS)
            failures += 1
            pulse.raised(error)
            _report(name, error, wait)
        pulse.beat()
        stopping.wait(wait)


class Supervisor:
    """Runs the long-lived threads of this process, and knows how each of them is."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pulses: list[Pulse] = []

    @contextmanager
    def running(
        self,
        name: str,
        step: Callable[[], float],
        stopping: threading.Event,
        *,
        most: float = MOST_SECONDS,
    ) -> Iterator[Pulse]:
        """Repeat `step` in a thread for the length of a block; see `last`.

        The end of the block sets `stopping`, and waits for the step in hand.
        """
        pulse = Pulse(name, most, self._monotonic)
        work = (last, name, step, stopping, pulse)
        thread = threading.Thread(target=copy_context().run, args=work, name=name)
        thread.start()
        with self._lock:
            self._pulses.append(pulse)
        try:
            yield pulse
        finally:
            stopping.set()
            thread.join()
            with self._lock:
                self._pulses.remove(pulse)

    def signs(self) -> tuple[Sign, ...]:
        """How the threads are that run now, in the order in which they began."""
        with self._lock:
            pulses = list(self._pulses)
        return tuple(pulse.sign() for pulse in pulses)


def describe(error: BaseException) -> str:
    """An error in one line: ours with its remedy, any other by its kind alone.

    The text of a foreign error may hold anything; the log has it.
    """
    if isinstance(error, AppError):
        return f"{error.message} [{error.code}] {error.hint}".rstrip()
    if isinstance(error, Exception):
        return f"{type(error).__name__}, a bug in this program; the log has the traceback"
    return f"the thread ended: {type(error).__name__}"


def _report(name: str, error: Exception, wait: float) -> None:
    if isinstance(error, AppError):
        _log.error(
            "%s failed and will be tried again in %.0f s: %s [%s] %s",
            name,
            wait,
            error.message,
            error.code,
            error.hint,
        )
    else:
        _log.error("%s failed and will be tried again in %.0f s", name, wait, exc_info=error)
