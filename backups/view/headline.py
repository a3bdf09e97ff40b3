"""The one line that says whether the data is protected, for the page and for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.decisions.health import Status
from backups.model import Finding, Light
from backups.view import units

TITLES: Mapping[str, str] = {
    "records_unusable": "This host's records of backups cannot be used",
    "cannot_begin": "No backup can begin",
    "host_is_empty": "This host is empty",
    "no_restore_point": "No backup yet",
    "last_run_failed": "The last backup failed",
    "overdue": "A backup is overdue",
    "token_key_lost": "The newest backup cannot be decrypted with the current keys",
    "started_empty": "A database was missing at start; a new, empty one was created",
    "source_missing": "A database is missing",
    "source_unreadable": "A database cannot be read",
    "database_unreachable": "The database that the hosts share cannot be used",
    "lease_stuck": "A process that does nothing keeps backups from being made",
    "suspect": "The data in the newest backup looks damaged",
    "points_suspect": "What was stored last looks damaged",
    "chain_differs": "What was stored last is not what the databases were",
    "changes_not_stored": "Changes are not stored",
    "two_writers": "Another installation stores its backups in the same place",
    "drill_failed": "The last rehearsal of a restore failed",
    "alerts_fail": "Messages about problems do not arrive",
    "drill_overdue": "No restore has been rehearsed for too long",
    "points_missing": "The store lost backups",
    "not_seen": "The newest backup is not in the store that is configured now",
    "future_set": "A backup has a time in the future",
    "thread_stuck": "A part of the app does not work any more",
    "thread_failing": "A part of the app fails again and again",
    "not_scheduled": "No running process schedules backups",
    "inbox_stuck": "The bot does not get on with what customers and shops send",
    "copy_behind": "The second place lacks backups",
    "updates_set_aside": "The bot has set aside what failed for a day",
}

# Of a light that is amber; for the codes of `health.AMBER_CODES`.
AMBER_TITLES: Mapping[str, str] = {
    "attempts_unknown": "Backed up, but the run log was lost",
    "not_offsite": "Backed up, on this disk only",
    "nobody_told": "Backed up, but nobody is notified of a problem",
    "kit_not_kept": "Backed up, but nobody keeps the emergency kit elsewhere",
    "drill_overdue": "Backed up, but no restore was rehearsed when it was due",
    "changes_not_stored": "Backed up, but the last changes are not stored yet",
    "not_seen": "Backed up, but not yet seen in the store that is configured now",
    "keys_unknown": "Backed up, but the keys were not checked",
    "not_scheduled": "Backed up, but no running process schedules backups",
    "thread_stuck": "Backed up, but a part of the app has given no sign of life yet",
    "thread_failing": "Backed up, but a part of the app fails",
    "first_place_away": "Backed up, in the second place alone",
    "copy_behind": "Backed up, but nothing is in the second place yet",
    "documents_gone": "Backed up, but documents of merchants are gone from the store",
    "copy_deletable": "Backed up, but the second place can be deleted from here",
    "copy_disturbed": "Backed up, but somebody meddles with the second place",
}


@dataclass(frozen=True)
class Headline:
    """`Protected`, or the first problem with its remedy, or what weakens the protection.

    `code` is the problem's or warning's, None when the light is green; `others` are the problems
    beside it.
    """

    title: str
    message: str
    remedy: str | None = None
    code: str | None = None
    others: tuple[Finding, ...] = ()
    light: Light = "green"


# Weaknesses beside which it stays true that every change is stored.
_STORED_ALL_THE_SAME = frozenset(
    {
        *("not_offsite", "nobody_told", "kit_not_kept", "drill_overdue"),
        *("copy_behind", "copy_deletable", "copy_disturbed"),
    }
)


def headline(status: Status, now: datetime) -> Headline:
    """What a person must know first; it agrees with the light."""
    match status.health.light:
        case "red" if status.health.problems:
            first, *others = status.health.problems
            return Headline(
                title=TITLES.get(first.code, "There is a problem"),
                message=units.sentence(first.message),
                remedy=units.sentence(first.hint),
                code=first.code,
                others=tuple(others),
                light="red",
            )
        case "green":
            return Headline("Protected", _newest(status, now))
        case light:
            weak = status.health.amber
            first_weak = weak[0] if weak else None
            return Headline(
                title=AMBER_TITLES.get(
                    first_weak.code if first_weak else "",
                    "Backed up, but not all that protects it is known",
                ),
                message=_newest(status, now),
                remedy=units.sentence(first_weak.hint) if first_weak else None,
                code=first_weak.code if first_weak else None,
                light=light,
            )


def _newest(status: Status, now: datetime) -> str:
    newest = status.newest_restore_point
    if newest is None:
        return "There is no problem."
    if status.newest_point_at and status.stored_within and stores_every_change(status):
        return (
            f"Every change is stored within {units.within(status.stored_within)}, read back and "
            f"proven; newest point {units.clock(status.newest_point_at, now)}."
        )
    return (
        f"The newest restore point is {units.age(now - newest.holds_until)} old, "
        "read back and proven."
    )


def stores_every_change(status: Status) -> bool:
    """Whether changes are followed, and nothing makes that doubtful."""
    if status.follow not in ("wal", "compare"):
        return False
    doubts = {finding.code for finding in status.health.amber}
    doubts |= {
        fact.finding.code if fact.finding else "" for fact in status.health.facts if not fact.holds
    }
    return doubts <= _STORED_ALL_THE_SAME


def change_delay_note(delay: timedelta, stored_within: timedelta | None) -> str | None:
    """`BACKUP_CHANGE_DELAY=60: a change is stored within a minute`, where it is not each second.

    `stored_within` is what comes of the `delay`: more, where each change needs a whole set.
    """
    if stored_within is None or delay <= timedelta(seconds=1):
        return None
    setting = f"BACKUP_CHANGE_DELAY={delay.total_seconds():.0f}"
    return f"{setting}: a change is stored within {units.within(stored_within)}"
