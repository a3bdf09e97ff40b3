"""From what the records say to what a person must know: problems and warnings. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.decisions.restore_plan import key_is_lost, lost_key_finding
from backups.model import (
    BackupSet,
    Beat,
    DrillReport,
    Finding,
    MissingPoint,
    Run,
    RunBy,
)
from shared.clock import format_utc
from shared.crontab import Crontab
from shared.store.object_store import StoreKind

# How long after a due instant its set may be missing before that is a problem.
GRACE = timedelta(hours=2)

# Every problem there can be, in the order of status.
PROBLEM_CODES = (
    "last_run_failed",
    "no_restore_point",
    "overdue",
    "token_key_lost",
    "started_empty",
    *("source_missing", "source_unreadable", "lease_stuck"),
    "suspect",
    "two_writers",
    "drill_failed",
)


@dataclass(frozen=True)
class HealthFacts:
    """What `assess` judges. `last_run` is the newest backup run that is over.

    `begun_at` is since when this host should make backups, whether or not it does. `seen_at` is
    when `newest` was last seen in the store that is configured now, `future` the ids of sets
    whose time lies in the future. `beats` are the last signs of life of the threads of the
    leader; of none at all, no process leads. `found_faults` are problems that others have found:
    of the live sources, of the leases, of the records.
    """

    now: datetime
    schedule: Crontab
    offsite: bool
    location: str
    scheduled: bool
    newest: BackupSet | None
    last_run: Run | None
    begun_at: datetime | None = None
    latest: BackupSet | None = None
    token_keys: tuple[str, ...] = ()
    last_drill: DrillReport | None = None
    drill_possible: bool = True
    started_empty: tuple[str, ...] = ()
    newest_made: BackupSet | None = None
    other_writer: BackupSet | None = None
    retention_warning: str | None = None
    run_by: RunBy = "app"
    seen_at: datetime | None = None
    future: tuple[str, ...] = ()
    beats: tuple[Beat, ...] = ()
    found_faults: tuple[Finding, ...] = ()
    missing_points: tuple[MissingPoint, ...] = ()
    somebody_is_told: bool = True


@dataclass(frozen=True)
class Health:
    """Healthy means: no problem. Warnings are for when there is time."""

    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


@dataclass(frozen=True)
class Status:
    """The state of the backups, from this host's records alone."""

    health: Health
    cron: str
    next_run_at: datetime
    owner: tuple[str, int] | None
    kind: StoreKind
    offsite: bool
    location: str
    last_contact_at: datetime | None
    running: Run | None
    last_run: Run | None
    last_success: Run | None
    newest_restore_point: BackupSet | None
    restore_points: int
    last_drill: DrillReport | None


def assess(facts: HealthFacts) -> Health:
    """Judge the facts."""
    return Health(tuple(_problems(facts)), tuple(_warnings(facts)))


def _problems(facts: HealthFacts) -> list[Finding]:
    found = []
    last = facts.last_run
    if last is not None and last.status == "failed" and last.error is not None:
        found.append(
            Finding(
                "last_run_failed",
                f"the last backup, run {last.id}, failed: {last.error.message}",
                last.error.hint,
            )
        )
    if facts.newest is None:
        found.append(
            Finding(
                "no_restore_point",
                "there is no complete, proven backup yet",
                "Make one now: python -m backups run. On a host that replaces another one, restore "
                "first: python -m backups restore",
            )
        )
    found += _overdue(facts)
    if facts.latest is not None and key_is_lost(facts.latest, facts.token_keys):
        found.append(lost_key_finding(facts.latest))
    found += [
        Finding(
            "started_empty",
            f"{source} was missing when the app started, and an empty database was created "
            "although backups exist",
            "Restore it: python -m backups restore --in-place --yes",
        )
        for source in facts.started_empty
    ]
    if facts.newest_made is not None and facts.newest_made.suspect:
        made = facts.newest_made
        found.append(
            Finding(
                "suspect",
                f"set {made.id} is suspect (the data looks damaged): "
                f"{'; '.join(made.suspect or ())}. Nothing is pruned meanwhile",
                "If data is lost: python -m backups restore --in-place --yes. If the data is as it "
                f"should be: python -m backups accept {made.id}",
            )
        )
    if facts.other_writer is not None:
        found.append(
            Finding(
                "two_writers",
                f"installation {facts.other_writer.instance} stores its backups in the same place "
                f"({facts.other_writer.id})",
                "Set a BACKUP_PREFIX of its own in the .env of each host, and restart.",
            )
        )
    if facts.last_drill is not None and facts.last_drill.failure is not None:
        found.append(
            Finding(
                "drill_failed",
                f"the last rehearsal of a restore failed: {facts.last_drill.failure}",
                "Correct the cause, then rehearse again: python -m backups drill",
            )
        )
    return found


def _overdue(facts: HealthFacts) -> list[Finding]:
    """The first instant that was missed, not the last: with an hourly schedule that is never old.

    A host that never made a set is as late as one that made its last when it began.
    """
    since = facts.newest.created_at if facts.newest else facts.begun_at
    if since is None:
        return []
    due = facts.schedule.next_after(since)
    if facts.now - GRACE <= due:
        return []
    newest = (
        f"the newest proven backup is from {format_utc(since)}"
        if facts.newest
        else "there is no proven backup"
    )
    return [
        Finding(
            "overdue",
            f"{newest}, and one was due at {format_utc(due)}",
            "Make one now: python -m backups run. To see why none was made: python -m backups runs",
        )
    ]


def _warnings(facts: HealthFacts) -> list[Finding]:
    found = []
    if not facts.offsite:
        found.append(
            Finding(
                "not_offsite",
                f"not offsite: backups are kept on this host's own disk ({facts.location})",
                "Set the five SPACES_ settings in .env, and restart; README.md has the steps.",
            )
        )
    if not facts.scheduled:
        found.append(
            Finding(
                "not_scheduled",
                "no running process schedules backups on this host",
                "Start the app (make run), or run `python -m backups run` from cron.",
            )
        )
    if not facts.drill_possible:
        found.append(
            Finding(
                "drill_not_possible",
                "backups are encrypted and the age identity is not on this host, so the "
                "scheduled drill (test restore) cannot run",
                "Run it yourself, with the identity: python -m backups drill --identity FILE",
            )
        )
    if facts.last_run is not None and facts.last_run.status == "interrupted":
        found.append(
            Finding(
                "last_run_interrupted",
                f"the last backup, run {facts.last_run.id}, was interrupted",
                "Nothing to do: the scheduler will run it again.",
            )
        )
    if facts.retention_warning is not None:
        found.append(
            Finding(
                "over_budget",
                facts.retention_warning,
                "Raise BACKUP_KEEP_MAX_BYTES, or lower the other BACKUP_KEEP_ settings.",
            )
        )
    for stored in facts.newest.objects if facts.newest else ():
        if stored.journal_mode != "wal":
            found.append(
                Finding(
                    "not_wal",
                    f"source {stored.source} is in journal mode {stored.journal_mode}: its "
                    "writers wait while it is copied, and its copy is taken at another instant "
                    "than the others",
                    f"Switch it: sqlite3 FILE 'PRAGMA journal_mode=WAL' (source {stored.source})",
                )
            )
        elif not stored.same_instant:
            found.append(
                Finding(
                    "not_same_instant",
                    f"this user may only read source {stored.source}, so its copy is taken at "
                    "another instant than the others",
                    "Give the user of the app write access to the file and its directory.",
                )
            )
    return found
