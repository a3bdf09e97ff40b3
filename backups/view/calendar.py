"""What became of each of the last days: proven, suspect, failed, missed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from backups.decisions.protection import GRACE
from backups.model import BackupSet, DayOfRuns, RunStatus
from shared.crontab import Crontab

DAYS = 90

DayState = Literal["proven", "suspect", "failed", "missed", "due", "none"]

_WORDS: dict[DayState, str] = {
    "proven": "proven",
    "suspect": "suspect",
    "failed": "failed",
    "missed": "missed: a backup was due, and none was made",
    "due": "not due yet",
    "none": "nothing was due",
}


@dataclass(frozen=True)
class Day:
    """One day (UTC): its state, how many backups it has, and how many runs failed."""

    day: date
    state: DayState
    backups: int = 0
    failures: int = 0

    @property
    def words(self) -> str:
        """The same for those who do not see colours."""
        parts = [f"{self.day.day} {self.day:%B}: {_WORDS[self.state]}"]
        if self.backups:
            parts.append(f"{self.backups} backup{'s' if self.backups > 1 else ''}")
        if self.failures:
            parts.append(f"{self.failures} run{'s' if self.failures > 1 else ''} failed")
        return ", ".join(parts)


@dataclass(frozen=True)
class History:
    """What is known of the past: the sets and the runs since `since`, and when it all began."""

    sets: Sequence[BackupSet]
    runs: Sequence[DayOfRuns]
    began: datetime | None


def last_days(
    history: History, schedule: Crontab, now: datetime, length: int = DAYS
) -> tuple[Day, ...]:
    """The last `length` days, today included, oldest first.

    A day is `suspect` when one of its sets is, for that is what a person must see; it is
    `proven` when a run of it succeeded, whether its set is kept or was pruned since.
    """
    today = now.astimezone(UTC).date()
    ended: Counter[tuple[date, RunStatus]] = Counter()
    for runs in history.runs:
        ended[runs.day, runs.status] += runs.count
    complete = [s for s in history.sets if s.kind == "set" and s.complete]
    made = Counter(_day_of(s) for s in complete)
    suspect = {_day_of(s) for s in complete if s.suspect}
    partial = Counter(_day_of(s) for s in history.sets if s.kind == "set" and not s.complete)
    days = []
    for back in range(length - 1, -1, -1):
        day = today - timedelta(days=back)
        # A run of a single source protects nothing, and its set shows that it was one.
        backups = max(made[day], ended[day, "succeeded"] - partial[day])
        failures = ended[day, "failed"] + ended[day, "interrupted"]
        state: DayState
        if day in suspect:
            state = "suspect"
        elif backups:
            state = "proven"
        elif failures:
            state = "failed"
        else:
            state = _empty_day(day, schedule, history.began, now)
        days.append(Day(day, state, backups, failures))
    return tuple(days)


def _empty_day(day: date, schedule: Crontab, began: datetime | None, now: datetime) -> DayState:
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1) - timedelta(microseconds=1)
    if began is None or end < began:
        return "none"
    due = schedule.next_after(max(start, began) - timedelta(microseconds=1))
    if due > end:
        return "none"
    return "missed" if now - GRACE > due else "due"


def rows_of_weekdays(days: Sequence[Day]) -> tuple[tuple[Day | None, ...], ...]:
    """Seven rows, Monday first, with a column for each week; None where there is no day."""
    if not days:
        return ((),) * 7
    first = days[0].day
    monday = first - timedelta(days=first.weekday())
    by_day = {day.day: day for day in days}
    weeks = (days[-1].day - monday).days // 7 + 1
    return tuple(
        tuple(by_day.get(monday + timedelta(days=7 * week + weekday)) for week in range(weeks))
        for weekday in range(7)
    )


def mondays(days: Sequence[Day]) -> tuple[date, ...]:
    """The Monday of each column of `rows_of_weekdays`."""
    if not days:
        return ()
    first = days[0].day - timedelta(days=days[0].day.weekday())
    return tuple(first + timedelta(days=7 * week) for week in range(len(rows_of_weekdays(days)[0])))


def summary(days: Iterable[Day]) -> str:
    """`88 days proven, 1 failed, 1 missed`; states that do not occur are left out."""
    counts = Counter(day.state for day in days)
    shown: tuple[DayState, ...] = ("proven", "suspect", "failed", "missed")
    parts = [f"{counts[state]} {state}" for state in shown if counts[state]]
    return ", ".join(parts) or "nothing yet"


def _day_of(backup_set: BackupSet) -> date:
    return backup_set.created_at.astimezone(UTC).date()
