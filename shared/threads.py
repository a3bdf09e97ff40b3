"""Starting a thread where a signal may come."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def start(thread: threading.Thread) -> None:
    """Start a thread; a signal that comes meanwhile is handled right after.

    In the middle of `Thread.start`, what its handler raises would take the lock of an event from
    the new thread, which then ends with a traceback before it has begun
    (https://github.com/python/cpython/issues/118433).
    """
    if threading.current_thread() is not threading.main_thread():  # no handler runs here
        thread.start()
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    handlers = {one: handler for one, handler in before.items() if callable(handler)}
    try:
        for one in handlers:
            signal.signal(one, lambda number, frame: came.append((number, frame)))
        thread.start()
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    for number, frame in came:
        handlers[signal.Signals(number)](number, frame)
