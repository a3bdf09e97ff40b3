"""The last days: what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backups.model import BackupSet, DayOfRuns, RunStatus
from backups.view.calendar import (
    DAYS,
    Day,
    History,
    last_days,
    mondays,
    rows_of_weekdays,
    summary,
)
from shared.crontab import Crontab
from tests.support.records import a_set

DAILY = Crontab("0 1 * * *")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
YESTERDAY = datetime(2026, 11, 21, 1, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def day_before(
    sets: Sequence[BackupSet] = (),
    runs: Sequence[tuple[RunStatus, int]] = (),
    *,
    schedule: Crontab = DAILY,
    began: datetime | None = LONG_AGO,
) -> Day:
    """What `last_days` makes of yesterday."""
    days = [DayOfRuns(YESTERDAY.date(), status, count) for status, count in runs]
    found = last_days(History(sets, days, began), schedule, NOW)
    assert len(found) == DAYS
    assert found[-1].day == NOW.date()
    return found[-2]


def yesterdays(**other: Any) -> BackupSet:
    """A set of yesterday."""
    return a_set(YESTERDAY, **other)


def test_a_set_makes_a_day_proven() -> None:
    """A proven set of all sources is what a day should have."""
    assert day_before([yesterdays()]).state == "proven"


def test_a_run_makes_a_day_proven_when_its_set_was_pruned() -> None:
    """Retention drops sets, not the fact that they were proven."""
    day = day_before(runs=[("succeeded", 2)])
    assert (day.state, day.backups) == ("proven", 2)


def test_a_run_and_its_set_are_one_backup() -> None:
    """What both the store and the run log know is not counted twice."""
    assert day_before([yesterdays()], [("succeeded", 1)]).backups == 1


def test_a_suspect_set_is_what_a_person_must_see() -> None:
    """Also beside a good one of the same day."""
    later = a_set(YESTERDAY + timedelta(hours=1))
    day = day_before([later, yesterdays(suspect=("half is gone",))], [("succeeded", 2)])
    assert day.state == "suspect"


def test_failures_alone_make_a_day_failed() -> None:
    """A failure that was made up for on the same day is only told in words."""
    assert day_before(runs=[("failed", 3)]).state == "failed"
    assert day_before(runs=[("interrupted", 1)]).state == "failed"
    made_up = day_before([yesterdays()], [("failed", 3), ("succeeded", 1)])
    assert (made_up.state, made_up.failures) == ("proven", 3)
    assert made_up.words == "21 November: proven, 1 backup, 3 runs failed"


@pytest.mark.parametrize(
    "found", [yesterdays(complete=False), yesterdays(kind="pre-restore"), yesterdays(kind="legacy")]
)
def test_what_does_not_protect_makes_no_day(found: BackupSet) -> None:
    """A set of one source, what a restore replaced, and an old copy are no backup of the day."""
    runs: list[tuple[RunStatus, int]] = [("succeeded", 0 if found.complete else 1)]
    assert day_before([found], runs).state == "missed"


def test_nothing_at_all_was_missed() -> None:
    """A due instant without a set or a run is a missed day."""
    assert day_before().state == "missed"


def test_days_on_which_nothing_was_due() -> None:
    """A weekly schedule misses nothing on other days, nor did anything before the beginning."""
    assert day_before(schedule=Crontab("0 1 * * 3")).state == "none"
    assert day_before(began=None).state == "none"
    assert day_before(began=NOW - timedelta(hours=1)).state == "none"
    # It began after the due instant of that day.
    assert day_before(began=YESTERDAY + timedelta(hours=2)).state == "none"
    assert day_before(began=YESTERDAY - timedelta(hours=2)).state == "missed"


def test_today_is_due_until_it_is_late() -> None:
    """The day is open while its due instant, and two hours of grace, lie ahead."""
    history = History((), (), LONG_AGO)
    due = NOW.replace(hour=1)
    states = [
        last_days(history, DAILY, due + timedelta(minutes=minutes))[-1].state
        for minutes in (-30, 30, 119, 121)
    ]
    assert states == ["due", "due", "due", "missed"]


def test_days_are_of_utc() -> None:
    """A set just before midnight UTC belongs to that day, whatever zone a clock shows."""
    late = a_set(datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC))
    east = (NOW.replace(hour=20)).astimezone(tz=None)
    found = last_days(History([late], (), LONG_AGO), DAILY, east)
    assert [one.day for one in found if one.state == "proven"] == [date(2026, 11, 21)]


def test_the_grid_has_each_day_once_under_its_weekday() -> None:
    """Seven rows, a column for each week, None around the ends."""
    days = last_days(History((), (), None), DAILY, NOW)
    rows = rows_of_weekdays(days)
    assert len(rows) == 7
    assert {len(row) for row in rows} == {len(mondays(days))}
    placed = [one for row in rows for one in row if one is not None]
    assert sorted(one.day for one in placed) == [one.day for one in days]
    for weekday, row in enumerate(rows):
        for monday, one in zip(mondays(days), row, strict=True):
            assert one is None or one.day == monday + timedelta(days=weekday)


def test_the_grid_of_no_days() -> None:
    """There is nothing to show, and nothing fails."""
    assert rows_of_weekdays(()) == ((),) * 7
    assert mondays(()) == ()


def test_the_summary() -> None:
    """States in the order of good to bad; those that do not occur are left out."""
    days = [
        Day(NOW.date(), state) for state in ("missed", "proven", "none", "proven", "failed", "due")
    ]
    assert summary(days) == "2 proven, 1 failed, 1 missed"
    assert summary(days[2:3]) == "nothing yet"
