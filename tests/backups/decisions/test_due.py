"""Tests of `backups.decisions.due`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backups.decisions.due import next_try, owed_since
from shared.crontab import Crontab
from tests.support.records import a_set

DAILY = Crontab("0 1 * * *")
HOURLY = Crontab("30 * * * *")
WEEKLY = Crontab("0 1 * * 7")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "newest", "now", "owed"),
    [
        # The due instant of the day has passed, or has not.
        (DAILY, "2026-11-21T01:00:04", "2026-11-22T00:59:59.999999", None),
        (DAILY, "2026-11-21T01:00:04", "2026-11-22T01:00:00", "2026-11-22T01:00:00"),
        (DAILY, "2026-11-21T01:00:04", "2026-11-22T23:59:59", "2026-11-22T01:00:00"),
        # A set of exactly the due instant is one; one of a moment before is not.
        (DAILY, "2026-11-22T01:00:00", "2026-11-22T01:00:00", None),
        (DAILY, "2026-11-22T01:00:00", "2026-11-22T12:00:00", None),
        (DAILY, "2026-11-22T00:59:59.999999", "2026-11-22T01:00:00", "2026-11-22T01:00:00"),
        # A set made by hand since then counts as well as the scheduled one.
        (DAILY, "2026-11-22T15:30:00", "2026-11-22T23:00:00", None),
        # However long the host slept, the last due instant is owed, once.
        (DAILY, "2026-10-01T01:00:00", "2026-11-22T00:30:00", "2026-11-21T01:00:00"),
        (HOURLY, "2026-11-22T00:31:00", "2026-11-22T09:29:00", "2026-11-22T08:30:00"),
        (WEEKLY, "2026-11-15T01:00:00", "2026-11-21T23:00:00", None),
        (WEEKLY, "2026-11-15T01:00:00", "2026-11-22T01:00:00", "2026-11-22T01:00:00"),
        # Without any set one is owed at once.
        (DAILY, None, "2026-11-22T00:30:00", "2026-11-21T01:00:00"),
        (DAILY, None, "2026-11-22T01:00:00", "2026-11-22T01:00:00"),
        # The clock was set back behind the newest set: nothing is owed.
        (DAILY, "2026-11-22T01:00:00", "2026-11-20T12:00:00", None),
    ],
)
def test_what_is_owed_since_when(
    schedule: Crontab, newest: str | None, now: str, owed: str | None
) -> None:
    """A set is owed exactly when no proven set is as young as the last due instant."""
    newest_set = a_set(at(newest)) if newest else None

    assert owed_since(schedule, newest_set, at(now)) == (at(owed) if owed else None)


NOON = at("2026-11-22T12:00:00")


@pytest.mark.parametrize(
    ("failed_minutes_ago", "may"),
    [
        ([], True),
        # Five minutes after the first failure,
        ([0], False),
        ([4.99], False),
        ([5], True),
        # fifteen after the second,
        ([20, 5], False),
        ([20, 14.99], False),
        ([20, 15], True),
        # an hour after the third, and hourly from then on.
        ([90, 80, 15], False),
        ([90, 80, 59.99], False),
        ([125, 120, 60], True),
        ([300, 240, 180, 120, 59], False),
        ([300, 240, 180, 120, 60], True),
        ([60 * hour for hour in range(24, 0, -1)], True),
        # A failure in the future, after the clock was set back, holds nothing up.
        ([-30], True),
        ([20, -0.01], True),
        ([60 * -24, 60 * -25], True),
    ],
)
def test_when_a_run_that_is_owed_may_be_tried(failed_minutes_ago: list[float], may: bool) -> None:
    """After a failure comes a pause, longer each time up to an hour, and never for ever."""
    failures = [NOON - timedelta(minutes=ago) for ago in failed_minutes_ago]

    assert (next_try(failures, NOON) <= NOON) is may
