"""What has to happen a while after SIGTERM; and SIGTERM itself, a while after it came."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def after_termination(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act`, in a thread, when the block still lasts so long after SIGTERM or Ctrl-C.

    The signal goes on to whoever handled it before. Outside the main thread, where no signal
    arrives, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    ended = threading.Event()

    def wait() -> None:
        os.read(reading, 1)
        if not ended.wait(seconds):
            act()

    before = {one: signal.getsignal(one) for one in _SIGNALS}

    def on_signal(number: int, frame: FrameType | None) -> None:
        os.write(writing, b"!")  # a lock could be held by what the signal has interrupted
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    # Only where a handler is called before: a default, or a signal that is ignored, stays.
    for one in _SIGNALS:
        if callable(before[one]):
            signal.signal(one, on_signal)
    waiter = threading.Thread(target=wait, name="termination", daemon=True)
    waiter.start()
    try:
        yield
    finally:
        for one in _SIGNALS:
            if signal.getsignal(one) is on_signal:
                signal.signal(one, before[one])
        ended.set()
        os.write(writing, b"!")
        waiter.join()
        os.close(reading)
        os.close(writing)


class Departure:
    """Whether this process was asked to end, and still serves for a while."""

    begun = False


@contextmanager
def delayed_termination(seconds: float) -> Iterator[Departure]:
    """Let SIGTERM act so many seconds after it came; a second one acts at once.

    Meanwhile a load balancer sees that this process leaves, and sends nothing more to it. Outside
    the main thread, where no signal arrives, nothing is done.
    """
    departure, number = Departure(), signal.SIGTERM
    before = signal.getsignal(number)
    is_main = threading.current_thread() is threading.main_thread()
    if not seconds or not is_main or not callable(before):
        yield departure
        return
    reading, writing = os.pipe()
    ended = threading.Event()

    def wait() -> None:
        os.read(reading, 1)
        if not ended.wait(seconds):
            os.kill(os.getpid(), number)

    def on_signal(given: int, frame: FrameType | None) -> None:
        if departure.begun:
            before(given, frame)
            return
        departure.begun = True
        os.write(writing, b"!")  # see `after_termination`

    signal.signal(number, on_signal)
    waiter = threading.Thread(target=wait, name="departure", daemon=True)
    waiter.start()
    try:
        yield departure
    finally:
        if signal.getsignal(number) is on_signal:
            signal.signal(number, before)
        ended.set()
        os.write(writing, b"!")
        waiter.join()
        os.close(reading)
        os.close(writing)


def signal_in(error: BaseException) -> BaseException | None:
    """What a signal raised, in whose place `error` came: `KeyboardInterrupt` or `SystemExit`.

    A signal in the middle of `Condition.wait` leaves its lock unacquired, and the end of the block
    raises "release unlocked lock" in its place: https://github.com/python/cpython/issues/118433.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt | SystemExit):
        found = found.__context__
    return found
