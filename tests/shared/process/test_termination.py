"""What a signal raised, and what came in its place; and a signal that acts later."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.process.termination import signal_in

ROOT = Path(__file__).parents[3]
# Says whether it was asked to leave, and ends when the handler of before was called.
LEAVING = """
import os, signal, sys, threading
from shared.process.termination import delayed_termination
acted = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: acted.set())
with delayed_termination(float(sys.argv[1])) as departure:
    print(departure.begun, flush=True)
    for _ in range(int(sys.argv[2])):
        os.kill(os.getpid(), signal.SIGTERM)
        print(departure.begun, flush=True)
    while not acted.wait(0.02):
        pass
print(signal.getsignal(signal.SIGTERM).__name__)
"""


@pytest.mark.parametrize(
    ("seconds", "times", "said"),
    [
        ("0.1", 1, ["False", "True", "<lambda>"]),
        ("600", 2, ["False", "True", "True", "<lambda>"]),
        ("0", 1, ["False", "False", "<lambda>"]),
    ],
    ids=["after the delay", "at the second", "without a delay"],
)
def test_a_signal_acts_later(seconds: str, times: int, said: list[str]) -> None:
    """After the delay, or at once when it comes again; then all is as it was."""
    done = subprocess.run(
        [sys.executable, "-c", LEAVING, seconds, f"{times}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == said


def test_what_came_in_place_of_a_signal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while `Condition.wait` takes its lock again ends in a RuntimeError."""
    condition = threading.Condition(threading.Lock())

    def interrupted(_state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(condition, "_acquire_restore", interrupted, raising=False)
    with pytest.raises(RuntimeError, match="unlocked lock") as caught, condition:
        condition.wait(0.001)
    assert isinstance(signal_in(caught.value), KeyboardInterrupt)


def test_an_error_of_its_own_has_none() -> None:
    """Also where it came while another one was handled."""
    with pytest.raises(OSError, match="second") as caught:
        fail_twice()
    assert signal_in(caught.value) is None


def fail_twice() -> None:
    try:
        raise ValueError("first")
    except ValueError:
        raise OSError("second")  # noqa: B904 - as it happens
