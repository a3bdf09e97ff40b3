"""Tests of `shared.process.clock_steps`: that somebody has set the clock is noticed, once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.process.clock_steps import ClockSteps
from tests.support.clock import FixedClock


@pytest.mark.parametrize("hours", [-3, -0.01, 0.01, 24 * 90, -24 * 365 * 20])
def test_a_step_is_noticed_once_with_its_size(hours: float) -> None:
    """In either direction; what passes meanwhile is no part of it."""
    clock = FixedClock()
    steps = ClockSteps(clock)
    clock.advance(seconds=1)
    assert steps.look() is None

    clock.step(hours=hours)
    clock.advance(seconds=1)

    assert steps.look() == timedelta(hours=hours)
    clock.advance(seconds=1)
    assert steps.look() is None


def test_a_clock_that_is_adjusted_slowly_has_not_been_set() -> None:
    """Half a second gained or lost between two looks, as NTP does it, is no step."""
    clock = FixedClock()
    steps = ClockSteps(clock)
    for gained in [0.5] * 40 + [-0.5] * 40:
        clock.step(seconds=gained)
        clock.advance(seconds=1)
        assert steps.look() is None
