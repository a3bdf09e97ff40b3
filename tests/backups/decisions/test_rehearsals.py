"""The drills of a period, from the run log and from the reports beside the sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backups.decisions.rehearsals import DrillEntry, drills_of, duration, intervals_without
from backups.model import DrillReport, Run, RunError
from shared.crontab import Crontab
from tests.support.records import a_run

START = datetime(2026, 11, 1, tzinfo=UTC)  # a Sunday
NOW = START + timedelta(days=21)
SUNDAYS = Crontab("0 3 * * 0")


def a_drill(at: datetime, **other: Any) -> Run:
    """A drill of four seconds that succeeded."""
    values: dict[str, Any] = {
        "operation": "drill",
        "started_at": at,
        "finished_at": at + timedelta(seconds=4),
        "set_id": "20261101T010000Z",
        "stage": "open",
    }
    return a_run(f"drill-{at:%d%H%M%S}", **{**values, **other})


def a_report(at: datetime, seconds: float = 3.25, **other: Any) -> DrillReport:
    """What a drill that ended at `at` measured."""
    return DrillReport("20261101T010000Z", at, seconds, 120, 0, **{"failure": None, **other})


def test_a_run_is_paired_with_its_report() -> None:
    """A drill has what the report says that was written during it, and no other's."""
    earlier, later = START + timedelta(hours=3), START + timedelta(hours=5)
    reports = [
        a_report(later + timedelta(seconds=4), 3.5),
        a_report(earlier + timedelta(seconds=3)),
    ]

    drills = drills_of([a_drill(earlier), a_drill(later)], reports, START, NOW)

    assert [one.measured for one in drills] == [timedelta(seconds=3.25), timedelta(seconds=3.5)]
    assert [one.rows for one in drills] == [120, 120]


def test_a_drill_without_a_report_measured_nothing() -> None:
    """When its set was removed, and the report with it, only how long its run took is known."""
    (drill,) = drills_of([a_drill(START)], [], START, NOW)
    assert (drill.measured, drill.rows, drill.took) == (None, None, timedelta(seconds=4))


def test_a_failed_drill_measured_nothing() -> None:
    """The seconds of a rehearsal that failed are no RTO."""
    error = RunError("drill_failed", "one row of 120 cannot be decrypted", "Add the key.")
    run = a_drill(START, status="failed", set_id=None, error=error)
    (drill,) = drills_of([run], [a_report(START, failure=error.message)], START, NOW)
    assert (drill.status, drill.measured, drill.rows) == ("failed", None, None)
    assert (drill.failure, drill.set_id) == (error.message, "20261101T010000Z")


def test_the_report_of_another_host_is_a_drill() -> None:
    """A report without a run of this host counts once, and only in its period."""
    there = a_report(START + timedelta(hours=1))
    before, after = a_report(START - timedelta(days=1)), a_report(NOW + timedelta(days=1))
    (drill,) = drills_of([], [before, there, there, after], START, NOW)
    assert (drill.at, drill.run_id, drill.status) == (there.at, None, "succeeded")


def test_a_step_of_the_clock_makes_a_duration_unknown() -> None:
    """A run that ended before it began took nobody knows how long, and not less than nothing."""
    assert duration(a_drill(START)) == timedelta(seconds=4)
    assert duration(a_drill(START, finished_at=START - timedelta(hours=1))) is None
    assert duration(a_drill(START, finished_at=None, status="running")) is None


def test_intervals_without_a_drill() -> None:
    """Whole intervals of the schedule count; a failed drill does not fill one."""

    def drill(at: datetime, status: str = "succeeded") -> DrillEntry:
        return DrillEntry(at, "a", "b", status, None, None, None, None)

    # Due on the 1st, 8th and 15th at 03:00: two whole intervals.
    first, second = START + timedelta(hours=3), START + timedelta(days=9)
    assert intervals_without([], SUNDAYS, START, NOW) == (2, 2)
    assert intervals_without([drill(first)], SUNDAYS, START, NOW) == (2, 1)
    assert intervals_without([drill(first), drill(second)], SUNDAYS, START, NOW) == (2, 0)
    assert intervals_without([drill(first, "failed")], SUNDAYS, START, NOW) == (2, 2)
    assert intervals_without([drill(first - timedelta(seconds=1))], SUNDAYS, START, NOW) == (2, 2)
    assert intervals_without([drill(first)], None, START, NOW) == (0, 0)
