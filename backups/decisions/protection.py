"""What green rests on: each fact, whether it holds, and what to say when it does not. Pure.

A fact that is not known does not hold: for ten minutes the light is amber, then red.
One file, because a reader has to see all that green rests on at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.decisions.restore_plan import key_is_lost, lost_key_finding
from backups.model import (
    BackupSet,
    Beat,
    DrillReport,
    Finding,
    MissingPoint,
    Refusal,
    Run,
    RunBy,
)
from backups.vocabulary.following import Following
from shared.clock import format_utc
from shared.crontab import Crontab

# How long after a due instant its set may be missing before that is a problem.
GRACE = timedelta(hours=2)
# How long a fact may be unknown before that is a problem: a restart, a deploy.
UNKNOWN_GRACE = timedelta(minutes=10)

# How old the last look at the store may be, where the app looks by itself.
SEEN_WITHIN = timedelta(hours=1)

_SEE_LOG = "Look into the log of the app, and restart the app."
_WORK = {
    "scheduler": "starts the scheduled backups",
    "follower": "makes a backup after a change",
    "packer": "packs the points of the hours that are over",
    "alerts": "sends the alerts",
    "inbox": "handles the events of the merchants",
    "sync": "fetches what was just connected",
}


@dataclass(frozen=True)
class Fact:
    """One thing that green rests on: `holds` is None when it is not known.

    `finding` says what to do when it does not hold, or has not been known for too long.
    """

    name: str
    holds: bool | None
    detail: str
    finding: Finding | None = None


@dataclass(frozen=True)
class HealthFacts:
    """What `assess` judges.

    `newest` is the newest point of this installation that protects, and `seen_at` when it was
    last seen in the store that is configured now. `failure` is the backup run that failed and
    that no complete backup has followed, and `retry_at` when this host tries again;
    `attempts_are_known` is false when the run log cannot tell. `begun_at` is since when this
    host should make backups, whether or not it does. `beats` are the last signs of life of the
    threads of the leading process; if there are none, no process has led since `unled_since`.
    `future` has the ids of sets whose time lies in the future, `future_is_over` whether a right
    set was proven since they were first seen, `restored_at` when all that is live was restored
    from `newest`. `found_faults` are problems that others have found (of the live sources, of
    the leases, of the records), and `found_warnings` the warnings; `found_facts` are what green
    rests on besides. `refusal` is why the store
    could not be asked, and `in_other_places` the beginning of a hint that names where this host
    has known points under other settings. `points_for_empty_host` is how many the store has,
    where this host has neither data nor a set of its own. `missing_keys` are the fingerprints
    of keys that are not here, with which the only points were marked. `following` is how
    changes are stored, where they become increments.
    """

    now: datetime
    schedule: Crontab
    offsite: bool
    location: str
    newest: BackupSet | None
    run_by: RunBy = "app"
    follows: bool = True
    following: Following | None = None
    failure: Run | None = None
    retry_at: datetime | None = None
    attempts_are_known: bool = True
    last_run: Run | None = None
    begun_at: datetime | None = None
    seen_at: datetime | None = None
    beats: tuple[Beat, ...] = ()
    unled_since: datetime | None = None
    latest: BackupSet | None = None
    token_keys: tuple[str, ...] = ()
    last_drill: DrillReport | None = None
    drill_schedule: Crontab | None = None
    drill_possible: bool = True
    started_empty: tuple[str, ...] = ()
    newest_made: BackupSet | None = None
    other_writer: BackupSet | None = None
    retention_warning: str | None = None
    future: tuple[str, ...] = ()
    future_is_over: bool = False
    restored_at: datetime | None = None
    found_faults: tuple[Finding, ...] = ()
    found_warnings: tuple[Finding, ...] = ()
    missing_points: tuple[MissingPoint, ...] = ()
    somebody_is_told: bool = True
    kit_is_kept: bool = True
    broken_receivers: tuple[str, ...] = ()
    refusal: Refusal | None = None
    in_other_places: str = ""
    missing_keys: tuple[str, ...] = ()
    points_for_empty_host: int = 0
    found_facts: tuple[Fact, ...] = ()


def protection(facts: HealthFacts) -> tuple[Fact, ...]:
    """Everything that green rests on, the cause of a fault before what follows from it."""
    return tuple(_facts(facts))


def _facts(facts: HealthFacts) -> Iterator[Fact]:
    yield _attempt(facts)
    yield _point(facts)
    yield _age(facts)
    yield _seen(facts)
    yield _proof(facts)
    yield _keys(facts)
    yield from facts.found_facts
    if facts.run_by == "app":
        yield _thread(facts, "scheduler")
        if facts.follows:
            yield _thread(facts, "follower")
        if facts.following is not None:
            yield _changes(facts.following, facts.now)
        yield _thread(facts, "alerts")


def _attempt(facts: HealthFacts) -> Fact:
    failed = facts.failure
    if failed is None and not facts.attempts_are_known:
        detail = "the run log has no complete backup, so it is not known whether one has failed"
        hint = "Make a backup: ./bot backups run. The app makes one by itself within minutes."
        holds = _unknown_since(facts.begun_at, facts.now) if facts.begun_at else None
        return Fact("attempt", holds, detail, Finding("attempts_unknown", detail, hint))
    if failed is None:
        return Fact("attempt", True, "no backup has failed since the last complete one")
    message = failed.error.message if failed.error else "for an unknown reason"
    return Fact(
        "attempt",
        False,
        f"run {failed.id} failed, and no complete backup has followed",
        Finding(
            "last_run_failed",
            f"the last backup, run {failed.id}, failed: {message}",
            _retry(facts) + (failed.error.hint if failed.error else "See: ./bot backups runs"),
        ),
    )


def _retry(facts: HealthFacts) -> str:
    """When the app tries a failed backup again by itself; a hint may end with a command."""
    if facts.retry_at is None:
        return ""
    if facts.retry_at <= facts.now:
        return "The app tries again by itself within a minute. "
    return f"The app tries again by itself at {format_utc(facts.retry_at.replace(microsecond=0))}. "


def _point(facts: HealthFacts) -> Fact:
    if facts.newest is not None:
        return Fact("point", True, f"{facts.newest.id}, complete and proven")
    detail = "no complete, proven restore point"
    if facts.missing_keys:
        keys = " and ".join(facts.missing_keys)
        return Fact(
            "point",
            False,
            f"{detail} with a mark of today's keys",
            Finding(
                "token_key_lost",
                f"the backups were made with key {keys}, which is not in TOKEN_ENCRYPTION_KEYS",
                f"Put key {keys} back into TOKEN_ENCRYPTION_KEYS, after the first, and restart. "
                "If it is lost for good: docs/bad-day.md.",
            ),
        )
    if facts.refusal is not None:
        return Fact(
            "point",
            False,
            f"{detail} is known, and the store could not be asked",
            Finding(
                "no_restore_point",
                "this host knows no complete, proven backup, and the store could not be asked at "
                f"{format_utc(facts.refusal.at)}: {facts.refusal.message}",
                f"{facts.in_other_places}{facts.refusal.hint} Then: ./bot backups list",
            ),
        )
    return Fact(
        "point",
        False,
        detail,
        Finding(
            "no_restore_point",
            "there is no complete, proven backup yet",
            f"{facts.in_other_places}Make one now: ./bot backups run. On a host that replaces "
            "another one, restore first: ./bot backups restore",
        ),
    )


def _age(facts: HealthFacts) -> Fact:
    """The first instant that was missed, not the last: with an hourly schedule that is never old.

    A host that never made a set is as late as one that made its last when it began.
    """
    since = facts.newest.holds_until if facts.newest else facts.begun_at
    if since is not None and facts.restored_at is not None:
        since = max(since, facts.restored_at)  # what is live was in the store then
    if since is None:
        return Fact("age", None, "there is no restore point")
    due = facts.schedule.next_after(since)
    if facts.now - GRACE <= due:
        known = None if facts.newest is None else True
        return Fact("age", known, f"from {format_utc(since)}; the next is due at {format_utc(due)}")
    newest = (
        f"the newest proven backup is from {format_utc(since)}{_clock_was_ahead(facts.newest)}"
        if facts.newest
        else "there is no proven backup"
    )
    message = f"{newest}, and one was due at {format_utc(due)}"
    return Fact(
        "age",
        False,
        message,
        Finding(
            "overdue",
            message,
            "Make one now: ./bot backups run. To see why none was made: ./bot backups runs",
        ),
    )


def _clock_was_ahead(newest: BackupSet) -> str:
    if newest.seen_ahead_at is None:
        return ""
    return f" or earlier ({newest.id} was made while the clock was ahead)"


def _seen(facts: HealthFacts) -> Fact:
    newest = facts.newest
    if newest is None:
        return Fact("seen", None, "there is no restore point")
    last = facts.seen_at
    is_old = last is not None and facts.run_by == "app" and facts.now - last > SEEN_WITHIN
    if last is not None and not is_old:
        return Fact("seen", True, f"in {facts.location} at {format_utc(last)}")
    detail = f"restore point {newest.id} has not been seen in {facts.location}"
    if last is not None:
        detail += f" since {format_utc(last)}"
    finding = Finding(
        "not_seen",
        f"{detail}, which is configured now",
        "Check it: ./bot backups doctor. If the settings of the store were changed: "
        "./bot backups run",
    )
    since = newest.proven_at if last is None else last + SEEN_WITHIN
    return Fact("seen", _unknown_since(since, facts.now), detail, finding)


def _proof(facts: HealthFacts) -> Fact:
    newest = facts.newest
    if newest is None or newest.proven_at is None:
        return Fact("proof", None, "there is no restore point")
    return Fact("proof", True, f"{newest.proof}, at {format_utc(newest.proven_at)}")


def _keys(facts: HealthFacts) -> Fact:
    newest = facts.latest or facts.newest
    if newest is None:
        return Fact("keys", None, "there is no restore point")
    if key_is_lost(newest, facts.token_keys):
        finding = lost_key_finding(newest)
        return Fact("keys", False, finding.message, finding)
    if not facts.token_keys or newest.token_key is None:
        detail = f"it is not known whether today's keys decrypt restore point {newest.id}"
        return Fact(
            "keys",
            None,
            detail,
            Finding(
                "keys_unknown",
                detail,
                "Set TOKEN_ENCRYPTION_KEYS for this command, then make a backup: ./bot backups run",
            ),
        )
    return Fact("keys", True, f"key {newest.token_key} is in TOKEN_ENCRYPTION_KEYS")


def _changes(following: Following, now: datetime) -> Fact:
    since = following.waiting_since
    if following.mode == "stopped":
        why = f", because it stopped: {following.reason}" if following.reason else ""
    else:
        why = ""
    if since is None:
        return Fact("changes", True, f"all are stored{why}")
    detail = f"changes have not been stored since {format_utc(since.replace(microsecond=0))}{why}"
    finding = Finding(
        "changes_not_stored",
        detail,
        "See why: ./bot backups doctor. To store all now: ./bot backups run",
    )
    return Fact("changes", _unknown_since(since, now), detail, finding)


def _thread(facts: HealthFacts, name: str) -> Fact:
    if not facts.beats:
        return _unled(facts, name)
    beat = next((beat for beat in facts.beats if beat.name == name), None)
    if beat is None:
        return Fact(name, None, "no sign of life yet", _no_sign(name, "has given no sign of life"))
    return beat_fact(beat)


def beat_fact(beat: Beat) -> Fact:
    """Whether a thread lives and its work goes well."""
    ago = f"{beat.age.total_seconds():.0f} s"
    if beat.age > beat.most:
        return Fact(
            beat.name,
            False,
            f"no sign of life for {ago}",
            _no_sign(beat.name, f"has given no sign of life for {ago}"),
        )
    if beat.failure is None:
        return Fact(beat.name, True, f"alive {ago} ago")
    minutes = beat.failing_for.total_seconds() / 60
    finding = Finding(
        "thread_failing",
        f"the {beat.name} thread, which {_does(beat.name)}, has been failing for "
        f"{minutes:.0f} minutes: {beat.failure}",
        _SEE_LOG,
    )
    holds = None if beat.failing_for < UNKNOWN_GRACE else False
    return Fact(beat.name, holds, f"fails: {beat.failure}", finding)


def _no_sign(name: str, what: str) -> Finding:
    return Finding("thread_stuck", f"the {name} thread, which {_does(name)}, {what}", _SEE_LOG)


def _does(name: str) -> str:
    # Of several threads for one thing each has a number.
    return _WORK.get(name.partition("-")[0], "works for the app")


def _unled(facts: HealthFacts, name: str) -> Fact:
    finding = Finding(
        "not_scheduled",
        "no running process schedules backups on this host",
        "Start the app as this host does: its service, its container, or make run. If cron runs "
        "`./bot backups run` here in place of the app: BACKUP_RUN_BY=cron",
    )
    return Fact(
        name,
        _unknown_since(facts.unled_since, facts.now),
        "no running process schedules backups",
        finding,
    )


def _unknown_since(since: datetime | None, now: datetime) -> bool | None:
    """None while a fact has been unknown for less than the grace, then False."""
    if since is None or since > now or now - since >= UNKNOWN_GRACE:
        return False
    return None
