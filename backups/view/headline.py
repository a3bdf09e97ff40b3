"""The one line that says whether the data is protected, for the page and for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backups.decisions.health import Status
from backups.model import Finding
from backups.view import units

TITLES: Mapping[str, str] = {
    "no_restore_point": "No backup yet",
    "last_run_failed": "The last backup failed",
    "overdue": "A backup is overdue",
    "token_key_lost": "The newest backup cannot be decrypted with the current keys",
    "started_empty": "A database was missing, and an empty one was created",
    "source_missing": "A database is missing",
    "source_unreadable": "A database cannot be read",
    "lease_stuck": "A process that does nothing keeps backups from being made",
    "suspect": "The data in the newest backup looks damaged",
    "two_writers": "Another installation stores its backups in the same place",
    "drill_failed": "The last rehearsal of a restore failed",
}

# That a set is late, or that there is none, is mostly explained better by another problem.
_SYMPTOMS = ("overdue", "no_restore_point")


@dataclass(frozen=True)
class Headline:
    """`Protected`, or the first problem with its remedy.

    `code` is the problem's, None when there is none; `others` are the problems beside it.
    """

    title: str
    message: str
    remedy: str | None = None
    code: str | None = None
    others: tuple[Finding, ...] = ()

    @property
    def good(self) -> bool:
        """Whether there is no problem."""
        return self.code is None


def headline(status: Status, now: datetime) -> Headline:
    """What a person must know first."""
    if status.health.problems:
        # Stable: a cause before what follows from it.
        first, *others = sorted(status.health.problems, key=lambda found: found.code in _SYMPTOMS)
        return Headline(
            title=TITLES.get(first.code, "There is a problem"),
            message=units.sentence(first.message),
            remedy=units.sentence(first.hint),
            code=first.code,
            others=tuple(others),
        )
    newest = status.newest_restore_point
    if newest is None:  # an old group of the cron scripts that went away in between
        return Headline("Protected", "There is no problem.")
    where = "" if status.offsite else " It is on this host's own disk only."
    return Headline(
        title="Protected",
        message=(
            f"The newest restore point is {units.age(now - newest.created_at)} old, "
            f"read back and proven.{where}"
        ),
    )
