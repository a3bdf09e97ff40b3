"""Which drills there were in a period, what they measured, and when there was none. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.model import DrillReport, Run
from shared.clock import format_utc
from shared.crontab import Crontab

# A drill's report is stored within the run that wrote it; the run log has milliseconds.
_ROUNDING = timedelta(milliseconds=1)


@dataclass(frozen=True)
class DrillEntry:
    """One drill. What its report said is None where there is none any more, and of a failure.

    `measured` is the RTO; `took` how long its run was, None where the clock makes that unknown.
    """

    at: datetime
    run_id: str | None
    set_id: str | None
    status: str
    measured: timedelta | None
    rows: int | None
    took: timedelta | None
    failure: str | None


def drills_of(
    runs: Iterable[Run], reports: Iterable[DrillReport], start: datetime, now: datetime
) -> tuple[DrillEntry, ...]:
    """The drills of the run log with what their reports measured, and those of other hosts."""
    # The same report may be on this host and beside its set.
    left = {(one.set_id, format_utc(one.at)[:19]): one for one in reports}
    entries = []
    for run in runs:
        key = next((key for key, one in left.items() if _is_of(one, run)), None)
        report = left.pop(key) if key is not None else None
        good = report is not None and report.failure is None
        entries.append(
            DrillEntry(
                at=run.started_at,
                run_id=run.id,
                set_id=run.set_id or (report.set_id if report else None),
                status=run.status,
                measured=timedelta(seconds=report.seconds) if report and good else None,
                rows=report.rows if report and good else None,
                took=duration(run),
                failure=run.error.message if run.error else None,
            )
        )
    for report in left.values():
        if start <= report.at <= now:
            good = report.failure is None
            entries.append(
                DrillEntry(
                    at=report.at,
                    run_id=None,
                    set_id=report.set_id,
                    status="succeeded" if good else "failed",
                    measured=timedelta(seconds=report.seconds) if good else None,
                    rows=report.rows if good else None,
                    took=None,
                    failure=report.failure,
                )
            )
    return tuple(sorted(entries, key=lambda one: one.at))


def intervals_without(
    drills: Iterable[DrillEntry], schedule: Crontab | None, start: datetime, now: datetime
) -> tuple[int, int]:
    """How many whole intervals of the drill schedule there were, and how many had no good drill."""
    if schedule is None:
        return 0, 0
    good = sorted(one.at for one in drills if one.status == "succeeded")
    count = without = 0
    due = schedule.next_after(start - timedelta(microseconds=1))
    while (following := schedule.next_after(due)) <= now:
        count += 1
        without += bisect_left(good, due) == bisect_left(good, following)
        due = following
    return count, without


def duration(run: Run) -> timedelta | None:
    """How long a run was; None while it runs, and when a step of the clock makes it unknown."""
    if run.finished_at is None or run.finished_at < run.started_at:
        return None
    return run.finished_at - run.started_at


def _is_of(report: DrillReport, run: Run) -> bool:
    """Whether a run wrote a report."""
    if run.finished_at is None or run.set_id not in (None, report.set_id):
        return False
    return run.started_at <= report.at <= run.finished_at + _ROUNDING
