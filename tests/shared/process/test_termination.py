"""What a signal raised, and what came in its place."""

from __future__ import annotations

import threading

import pytest

from shared.process.termination import signal_in


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
