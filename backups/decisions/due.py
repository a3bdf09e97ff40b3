"""When a run is owed, by the schedule or for a change, and when to retry it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.model import BackupSet
from shared.crontab import Crontab
from shared.errors import (
    ObjectArchived,
    StoreAccessDenied,
    StoreClockSkew,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreNoBucket,
    StoreNotS3,
    StoreSuspended,
    StoreUnknownKey,
    StoreUnreachable,
    StoreUntrusted,
    StoreWrongSecret,
)

# The codes of failures that are over when the store answers again.
STORE_FAILURES = frozenset(
    kind.code
    for kind in (
        StoreError,
        StoreUnreachable,
        StoreFailing,
        StoreUntrusted,
        StoreUnknownKey,
        StoreWrongSecret,
        StoreAccessDenied,
        ObjectArchived,
        StoreNoBucket,
        StoreNotS3,
        StoreFull,
        StoreSuspended,
        StoreClockSkew,
    )
)
# After the first, second, third failure since the due instant; hourly from then on.
RETRY_DELAYS = (timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))
# From the beginning of a change run to that of the next.
BETWEEN_SETS = timedelta(minutes=1)
# Change runs take at most this part of the time.
SHARE = 20


def owed_since(schedule: Crontab, newest: BackupSet | None, now: datetime) -> datetime | None:
    """The last due instant if no proven set is as young as it, else None."""
    due = schedule.last_until(now)
    return None if newest is not None and newest.holds_until >= due else due


def two_due_before(schedule: Crontab, now: datetime) -> datetime:
    """The last but one due instant: who made no set since then is not working any more."""
    return schedule.last_until(schedule.last_until(now) - timedelta(microseconds=1))


def next_try(failures: Sequence[datetime], now: datetime) -> datetime:
    """When a run that is owed may be tried, after these failures since it was due.

    A failure that lies in the future (the clock was set back) does not hold anything up.
    """
    if not failures or failures[-1] > now:
        return now
    return failures[-1] + RETRY_DELAYS[min(len(failures), len(RETRY_DELAYS)) - 1]


@dataclass(frozen=True)
class ChangeFacts:
    """`changed_at`: the first change since the last run began; the last run's times; failures.

    Times are those of the monotonic clock: a clock that is set moves none of them.
    `failures` counts change runs that failed in a row.
    """

    changed_at: timedelta
    last_started_at: timedelta | None
    last_finished_at: timedelta | None
    failures: int


def due_at(facts: ChangeFacts, delay: timedelta) -> timedelta:
    """When a run for the change may begin, by the monotonic clock."""
    due = facts.changed_at + delay
    if facts.last_started_at is None or facts.last_finished_at is None:
        return due
    took = facts.last_finished_at - facts.last_started_at
    due = max(due, facts.last_finished_at + (SHARE - 1) * took)
    due = max(due, facts.last_started_at + BETWEEN_SETS)
    if facts.failures:
        wait = RETRY_DELAYS[min(facts.failures, len(RETRY_DELAYS)) - 1]
        due = max(due, facts.last_finished_at + wait)
    return due
