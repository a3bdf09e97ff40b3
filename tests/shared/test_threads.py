"""Tests of `shared.threads`."""

from __future__ import annotations

import signal
import threading

import pytest

from shared.threads import start


class Interrupted(threading.Thread):
    """A thread in whose start a signal comes."""

    def start(self) -> None:
        """As the start of a thread is, with Ctrl-C in the middle of it."""
        signal.raise_signal(signal.SIGINT)
        super().start()


def test_a_signal_in_a_start_is_handled_after_it() -> None:
    """The thread has begun, and nothing of it is lost; the handler is the one of before."""
    ran = threading.Event()
    handler = signal.getsignal(signal.SIGINT)
    thread = Interrupted(target=ran.set)

    with pytest.raises(KeyboardInterrupt):
        start(thread)

    thread.join()
    assert ran.is_set()
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_thread_starts_another() -> None:
    """Where no signal arrives, nothing is changed."""
    ran = threading.Event()
    inner = threading.Thread(target=ran.set)
    outer = threading.Thread(target=start, args=(inner,))

    start(outer)

    outer.join()
    assert ran.wait(20)
    inner.join()
