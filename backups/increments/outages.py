"""Times in which changes were not stored, as the follower noticed them, for the timeline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backups.increments.follow_folder import FollowFolder
from backups.vocabulary.following import Outage

# The page shows a day; the newest ones of a store that comes and goes are enough.
_KEPT = timedelta(days=2)
_MOST = 500

AWAY = "the store was away"
UNREADABLE = "a database could not be read"
LATE = "changes were stored late"


def read_outages(folder: FollowFolder) -> tuple[Outage, ...]:
    """Those of the last days, oldest first; nothing where that cannot be read."""
    found = []
    for one in folder.outages():
        try:
            start, end, reason = one
            found.append(
                Outage(
                    datetime.fromtimestamp(float(start), UTC),
                    datetime.fromtimestamp(float(end), UTC),
                    str(reason),
                )
            )
        except (TypeError, ValueError, OverflowError, OSError):
            continue
    return tuple(found)


def note_outage(folder: FollowFolder, since: datetime, instant: int, reason: str | None) -> None:
    """Remember that what was noticed at `since` was first stored by a point of `instant`.

    That is in milliseconds since 1970. Raises `DiskFull`, `DirectoryUnusable`.
    """
    end = datetime.fromtimestamp(instant / 1000, UTC)
    if since >= end:
        return
    known = [one for one in read_outages(folder) if one.end > end - _KEPT]
    folder.note_outages(
        [
            (one.start.timestamp(), one.end.timestamp(), one.reason)
            for one in [*known, Outage(since, end, reason or LATE)][-_MOST:]
        ]
    )
