"""The points of the chart: sizes from sets, durations from runs."""

from __future__ import annotations

from datetime import timedelta

from backups.format import naming
from backups.view.chart import MOST_POINTS, Point, points
from tests.support.records import INSTANT, a_run, a_set

SIX_SECONDS = timedelta(seconds=6)


def test_size_and_duration_belong_together() -> None:
    """A set and the run that made it are one point."""
    run = a_run(finished_at=INSTANT + SIX_SECONDS)
    assert points([a_set()], [run]) == (Point(naming.set_id(INSTANT), INSTANT, 16384, 6.0),)


def test_what_is_only_half_known_is_shown_by_half() -> None:
    """A set that was pruned has a duration, one of another host a size."""
    later = INSTANT + timedelta(days=1)
    run = a_run(finished_at=INSTANT + SIX_SECONDS)
    found = points([a_set(later)], [run])
    assert [(one.bytes, one.seconds) for one in found] == [(None, 6.0), (16384, None)]


def test_only_backups_of_all_sources_are_drawn() -> None:
    """Others would look like a sudden loss."""
    partial = a_set(INSTANT, complete=False)
    verify = a_run(operation="verify", set_id="20261101T010000Z")
    assert points([partial], [verify, a_run()]) == ()
    assert points([a_set(kind="pre-restore")], []) == ()


def test_the_newest_are_drawn_oldest_first() -> None:
    """However long the past is."""
    sets = [a_set(INSTANT - timedelta(days=back)) for back in range(MOST_POINTS + 50)]
    found = points(sets, [])
    assert len(found) == MOST_POINTS
    assert found[-1].at == INSTANT
    assert list(found) == sorted(found, key=lambda one: one.at)
