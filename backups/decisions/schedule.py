"""When a backup is owed, and when to try again after a failure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from backups.model import BackupSet
from shared.crontab import Crontab

# After the first, second, third failure since the due instant; hourly from then on.
RETRY_DELAYS = (timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))


def owed_since(schedule: Crontab, newest: BackupSet | None, now: datetime) -> datetime | None:
    """The last due instant if no proven set is as young as it, else None."""
    due = schedule.last_until(now)
    return None if newest is not None and newest.created_at >= due else due


def may_try(failures: Sequence[datetime], now: datetime) -> bool:
    """Whether a run that is owed may be tried, after these failures since it was due.

    A failure that lies in the future (the clock was set back) does not hold anything up.
    """
    if not failures or failures[-1] > now:
        return True
    delay = RETRY_DELAYS[min(len(failures), len(RETRY_DELAYS)) - 1]
    return now - failures[-1] >= delay
