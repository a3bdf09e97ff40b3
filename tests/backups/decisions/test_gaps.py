"""Gaps between points, judged by an oracle that asks at every half hour what could be lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.decisions.gaps import (
    AHEAD,
    Doubt,
    Doubtful,
    MadeSet,
    Points,
    gaps_of,
    largest,
    longest_interval,
    points_of,
)
from backups.decisions.protection import GRACE
from backups.format import naming
from backups.model import MissingPoint, RestorePoint, SetKind, Trigger
from shared.crontab import Crontab

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
NOW = MONDAY + timedelta(days=6)
TICK = timedelta(minutes=30)
OURS = frozenset({"us"})
SCHEDULES = st.sampled_from(
    [
        Crontab(line)
        for line in (
            "0 1 * * *",
            "30 * * * *",
            "0 1,9,10 * * *",
            "0 0,18,23 * * *",
            "0 9-17 * * 1-5",
            "0 1 * * 0",
            "30 2 1 * *",
            "0 4 29 2 *",
        )
    ]
)


def a_point(
    at: datetime, *, protects: bool = True, instance: str = "us", kind: SetKind = "set"
) -> RestorePoint:
    """A point as the catalogue has it."""
    return RestorePoint(naming.set_id(at), kind, at, "scheduled", instance, protects, 1000)


def made(at: datetime, trigger: Trigger = "scheduled") -> MadeSet:
    """A run that made the set of an instant."""
    return MadeSet(naming.set_id(at), trigger)


@given(
    st.lists(st.integers(0, 400), max_size=30).map(lambda ticks: sorted({TICK * n for n in ticks})),
    st.integers(0, 400),
    st.integers(1, 400),
    SCHEDULES,
)
def test_gaps_are_what_a_watcher_would_have_seen(
    offsets: list[timedelta], begin: int, length: int, schedule: Crontab
) -> None:
    """The largest gap is the most that could be lost; late are those during which it was overdue.

    The watcher looks every half hour, and knows nothing of gaps.
    """
    points = [MONDAY + offset for offset in offsets]
    start, end = MONDAY + TICK * begin, MONDAY + TICK * (begin + length)
    most, overdue = timedelta(0), set()
    for tick in range(1, length + 1):
        now = start + TICK * tick
        before = [at for at in points if at < now]
        newest = before[-1] if before else start
        most = max(most, now - newest)
        if now > schedule.next_after(newest) + GRACE:
            overdue.add(newest)

    gaps = gaps_of(points, start, end, schedule)

    widest = largest(gaps)
    assert (widest.length if widest else timedelta(0)) == most
    assert {gap.start for gap in gaps if gap.late} == overdue
    assert all(gap.until_now == (gap.end not in points) for gap in gaps)
    assert all(gap.after_point == (gap.start in points) for gap in gaps)


@given(SCHEDULES, st.integers(0, 500_000), st.integers(0, 80_000))
def test_the_longest_interval_is_that_of_all_due_instants(
    schedule: Crontab, begin: int, length: int
) -> None:
    """It is what one finds by going from one due instant to the next through the whole period."""
    start = MONDAY + timedelta(minutes=begin)
    end = start + timedelta(minutes=length)
    due, longest = schedule.last_until(start), timedelta(0)
    while due < end:
        following = schedule.next_after(due)
        due, longest = following, max(longest, following - due)

    assert longest_interval(schedule, start, end) == longest


@pytest.mark.parametrize(
    ("lost", "kept", "trigger", "doubt"),
    [
        (None, True, "scheduled", None),
        (None, True, "manual", None),
        (None, False, "scheduled", "does_not_protect"),
        (None, None, "scheduled", None),
        (None, None, "change", None),
        (None, None, "manual", "not_known"),
        ("vanished", None, "scheduled", "vanished"),
        ("hollow", True, "scheduled", "hollow"),
    ],
)
def test_what_counts_as_a_point(
    lost: Doubt | None, kept: bool | None, trigger: Trigger, doubt: Doubt | None
) -> None:
    """A set that is kept and protects, or was removed after a run that had all sources.

    Not one that the store lost, nor one that lacks a source or may have lacked one.
    """
    at = MONDAY
    missing = (
        [MissingPoint(naming.set_id(at), lost, at, NOW)] if lost in ("vanished", "hollow") else []
    )
    points = points_of(
        [] if kept is None else [a_point(at, protects=kept)],
        [made(at, trigger)],
        missing,
        OURS,
        NOW,
    )

    if doubt is None:
        assert points == Points((at,))
    else:
        assert points == Points((), (Doubtful(naming.set_id(at), at, doubt),))


def test_points_of_others_and_of_restores_do_not_count() -> None:
    """What another installation made, and what is no protection, is none of our points."""
    kept = [
        a_point(MONDAY, instance="another"),
        a_point(MONDAY + timedelta(hours=1), kind="pre-restore", protects=False),
    ]
    assert points_of(kept, [], [], OURS, NOW) == Points(())


def test_points_of_the_future_are_named_and_do_not_count() -> None:
    """A point later than now, by more than clocks differ, is no evidence; kept or removed."""
    ahead, kept, removed = NOW + AHEAD, NOW + timedelta(days=1), NOW + timedelta(days=2)
    points = points_of([a_point(ahead), a_point(kept)], [made(removed)], [], OURS, NOW)
    assert points == Points((NOW,), (), (naming.set_id(kept), naming.set_id(removed)))
