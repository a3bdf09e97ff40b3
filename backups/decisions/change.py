"""When changed data asks for a run, and how far apart such runs stay. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.decisions.schedule import RETRY_DELAYS

# Change runs take at most this part of the time.
SHARE = 20


@dataclass(frozen=True)
class ChangeFacts:
    """`changed_at`: the first change since the last run began; the last run's times; failures.

    `failures` counts change runs that failed in a row.
    """

    changed_at: datetime
    last_started_at: datetime | None
    last_finished_at: datetime | None
    failures: int


def due_at(facts: ChangeFacts, delay: timedelta) -> datetime:
    """When a run for the change may begin."""
    due = facts.changed_at + delay
    if facts.last_started_at is None or facts.last_finished_at is None:
        return due
    took = facts.last_finished_at - facts.last_started_at
    due = max(due, facts.last_finished_at + (SHARE - 1) * took)
    if facts.failures:
        wait = RETRY_DELAYS[min(facts.failures, len(RETRY_DELAYS)) - 1]
        due = max(due, facts.last_finished_at + wait)
    return due
