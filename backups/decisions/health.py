"""From what the records say to what a person must know: problems and warnings. Pure.

One file, because a person reads all of them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.decisions.marks import adopting
from backups.decisions.protection import Fact, HealthFacts, beat_fact, protection
from backups.model import BackupSet, DrillReport, Finding, Light, Run, RunBy
from backups.vocabulary.bot import NO_BOT, BotFacts
from backups.vocabulary.following import FollowState
from backups.vocabulary.receivers import SentMessage
from backups.vocabulary.second import SecondFacts
from shared.clock import format_utc
from shared.store.object_store import StoreKind
from shared.words import counted

# Every problem there can be, in the order of status.
PROBLEM_CODES = (
    "records_unusable",
    "cannot_begin",
    "host_is_empty",
    *("database_unreachable", "source_missing", "source_unreadable", "lease_stuck"),
    "last_run_failed",
    "points_missing",
    "not_seen",
    "changes_not_stored",
    "token_key_lost",
    "started_empty",
    *("suspect", "points_suspect", "chain_differs"),
    "two_writers",
    "future_set",
    "thread_stuck",
    "thread_failing",
    "not_scheduled",
    "alerts_fail",
    "drill_failed",
    "drill_overdue",
    "overdue",
    "no_restore_point",
    "copy_behind",
    *("inbox_stuck", "updates_set_aside"),
)

# What helps where values cannot be decrypted; every other advice would lose the key, or the data.
PUT_KEY_BACK = (
    "First put the key that encrypted the values back into .env, after the current one: "
    "TOKEN_ENCRYPTION_KEYS=new,old, and restart"
)

# What else is said on a host that is empty: why its cure would fail.
_OF_THIS_HOST = frozenset(
    {"records_unusable", "cannot_begin", "database_unreachable", "lease_stuck"}
)

# Warnings that others find: see `HealthFacts.found_warnings`.
FOUND_WARNING_CODES = (
    "records_damaged",
    "document_unread",
    "prune_failed",
    "source_finding",
    "earlier_installation",
    *("marks_unchecked", "sets_unsigned", "verdicts_unsigned", "mark_key_unknown", "mark_wrong"),
    *("local_sets_left", "unknown_setting"),
    *("documents_gone", "copy_deletable", "copy_disturbed", "copy_refused", "copy_failed"),
    "inbox_unreadable",
)

# Warnings with which the light is amber; the others leave it green.
AMBER_CODES = (
    "attempts_unknown",
    "not_seen",
    "changes_not_stored",
    "keys_unknown",
    "not_scheduled",
    "thread_stuck",
    "thread_failing",
    "not_offsite",
    "nobody_told",
    "kit_not_kept",
    "drill_overdue",
    *("first_place_away", "copy_behind", "documents_gone", "copy_deletable", "copy_disturbed"),
)

_DRILLS_MISSED_FOR_AMBER = 2
_DRILLS_MISSED_FOR_RED = 4


@dataclass(frozen=True)
class Health:
    """What green rests on, what is wrong, and what is not urgent."""

    facts: tuple[Fact, ...]
    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def light(self) -> Light:
        """Green only while every fact is known to hold, and nothing weakens the protection."""
        if self.problems or any(fact.holds is False for fact in self.facts):
            return "red"
        if self.amber or any(fact.holds is None for fact in self.facts):
            return "amber"
        return "green"

    @property
    def amber(self) -> tuple[Finding, ...]:
        """The warnings that weaken the protection."""
        return tuple(found for found in self.warnings if found.code in AMBER_CODES)


@dataclass(frozen=True)
class Status:
    """The state of the backups, from this host's records alone."""

    health: Health
    cron: str
    next_run_at: datetime
    retry_at: datetime | None
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
    newest_point_at: datetime | None
    follow: FollowState
    run_by: RunBy
    receivers: int = 0
    has_heartbeat: bool = False
    last_message: SentMessage | None = None
    kit_kept_at: datetime | None = None  # of the kit of today's keys
    marks: tuple[int, int] = (0, 0)  # how many sets have a valid mark; how many the store lacks
    # What is promised of a change while changes are followed; None: nothing.
    stored_within: timedelta | None = None
    bot: BotFacts = NO_BOT
    second: SecondFacts | None = None


def assess(facts: HealthFacts) -> Health:
    """Judge the facts."""
    known = protection(facts)
    if facts.points_for_empty_host:
        here = [one for one in facts.found_faults if one.code in _OF_THIS_HOST]
        return Health(known, _in_order([*here, _host_is_empty(facts)]), ())
    failing = [fact.finding for fact in known if fact.holds is False and fact.finding]
    unknown = [fact.finding for fact in known if fact.holds is None and fact.finding]
    others = [beat_fact(beat) for beat in facts.beats if beat.name not in _names(known)]
    failing += [fact.finding for fact in others if fact.holds is False and fact.finding]
    problems = [*failing, *_problems(facts)]
    return Health(known, _in_order(problems), _once([*unknown, *_warnings(facts)]))


def _host_is_empty(facts: HealthFacts) -> Finding:
    """Before the restore on a host that replaces another one any other advice would mislead."""
    points = counted(facts.points_for_empty_host, "restore point")
    return Finding(
        "host_is_empty",
        f"This host is empty, and the store has {points}",
        "./bot backups restore --in-place --yes" if facts.latest else "./bot backups restore",
    )


def _names(known: tuple[Fact, ...]) -> set[str]:
    return {fact.name for fact in known}


def _once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(findings))


def _in_order(problems: Iterable[Finding]) -> tuple[Finding, ...]:
    """A cause before what follows from it: in the order of `PROBLEM_CODES`."""
    place = {code: number for number, code in enumerate(PROBLEM_CODES)}
    return tuple(sorted(_once(problems), key=lambda found: place.get(found.code, -1)))


def _problems(facts: HealthFacts) -> Iterator[Finding]:
    yield from facts.found_faults
    for source in facts.started_empty:
        yield Finding(
            "started_empty",
            f"{source} was missing when the app started, and an empty database was created "
            "although backups exist",
            f"Restore it: ./bot backups restore --only {source} --in-place --yes",
        )
    made = facts.newest_made
    if made is not None and made.suspect:
        yield Finding(
            "suspect",
            f"set {made.id} is suspect (the data looks damaged): "
            f"{'; '.join(made.suspect)}. Nothing is pruned meanwhile",
            (f"{PUT_KEY_BACK}. " if any(one.unreadable for one in made.objects) else "")
            + "If data is lost: ./bot backups restore --in-place --yes. If the data is fine, mark "
            f"the backup as good: ./bot backups accept {made.id}",
        )
    if facts.other_writer is not None:
        yield Finding(
            "two_writers",
            f"installation {facts.other_writer.instance} stores its backups in the same place "
            f"({facts.other_writer.id})",
            "If its sets are of this host, from before BACKUP_DIR was lost, or of a host that is "
            f"gone: {adopting(facts.other_writer)}. If both work: set a "
            "BACKUP_PREFIX of its own in the .env of the one that is new here, and restart it.",
        )
    yield from _missing(facts)
    yield from _of_the_future(facts)
    yield from _drills(facts)


_WITH_WHAT_FOLLOWS = ", and with a point (its id has a dot) those that follow it in its chain"


def _missing(facts: HealthFacts) -> Iterator[Finding]:
    """Points that the store lost: red until a person has said that it is known."""
    if not facts.missing_points:
        return
    ids = ", ".join(point.id for point in facts.missing_points[:3])
    more = ", …" if len(facts.missing_points) > 3 else ""
    vanished = sum(point.kind == "vanished" for point in facts.missing_points)
    hollow = len(facts.missing_points) - vanished
    objects = f"objects or {'has' if hollow == 1 else 'have'} objects of another size"
    lost = [
        *([f"{counted(vanished, 'is', 'are')} gone"] if vanished else []),
        *([f"{counted(hollow, 'lacks', 'lack')} {objects}"] if hollow else []),
    ]
    yield Finding(
        "points_missing",
        f"the store lost restore points without a prune ({ids}{more}): {', and '.join(lost)}"
        f"{_WITH_WHAT_FOLLOWS if any('.' in one.id for one in facts.missing_points) else ''}",
        "Find out who deletes in the bucket, and make a new backup: ./bot backups run. Then: "
        "./bot backups accept --missing",
    )


def _of_the_future(facts: HealthFacts, *, problem: bool = True) -> Iterator[Finding]:
    """A problem until a right set is proven after the set of the future was first seen."""
    if not facts.future or problem == facts.future_is_over:
        return
    ids = ", ".join(facts.future[:3]) + (", …" if len(facts.future) > 3 else "")
    check = "Check the clock (timedatectl) and who can write to the bucket"
    yield Finding(
        "future_set",
        f"the time of {ids} lies in the future, so it counts for nothing: the clock of a host was "
        "wrong, or somebody put it into the bucket",
        f"{check}, then make a new backup: ./bot backups run"
        if problem
        else f"{check}. A newer right backup is there: nothing else is to do",
    )


def _drills(facts: HealthFacts) -> Iterator[Finding]:
    last = facts.last_drill
    if last is not None and last.failure is not None:
        yield Finding(
            "drill_failed",
            f"the last rehearsal of a restore failed: {last.failure}",
            "Find out why before a restore is needed: ./bot backups drill",
        )
    if _missed_drills(facts) >= _DRILLS_MISSED_FOR_RED:
        yield _drill_overdue(facts)


def _missed_drills(facts: HealthFacts) -> int:
    """How many due instants have passed since the last drill; counted to the limit for red."""
    last = facts.last_drill.at if facts.last_drill else facts.begun_at
    if facts.drill_schedule is None or last is None:
        return 0
    missed = 0
    while missed < _DRILLS_MISSED_FOR_RED and (last := facts.drill_schedule.next_after(last)) <= (
        facts.now
    ):
        missed += 1
    return missed


def _drill_overdue(facts: HealthFacts) -> Finding:
    last = facts.last_drill
    when = f"since {format_utc(last.at)}" if last else "on this host yet"
    return Finding(
        "drill_overdue",
        f"no restore has been rehearsed {when}, although drills are scheduled",
        "Run one: ./bot backups drill" + ("" if facts.drill_possible else " --identity FILE"),
    )


def _warnings(facts: HealthFacts) -> Iterator[Finding]:
    yield from facts.found_warnings
    if not facts.offsite:
        yield Finding(
            "not_offsite",
            f"not offsite: backups are kept on this host's own disk ({facts.location})",
            "Set the five SPACES_ settings in .env, and restart; README.md has the steps.",
        )
    if not facts.somebody_is_told and facts.run_by == "app":
        yield Finding(
            "nobody_told",
            "nobody is notified of a problem",
            "Set BACKUP_NOTIFY_URLS or BACKUP_HEARTBEAT_URL in .env, and restart. Try it: "
            "./bot backups doctor --notify",
        )
    if not facts.kit_is_kept:
        yield Finding(
            "kit_not_kept",
            "nobody has confirmed that the emergency kit (the token keys, and where the backups "
            "are) is kept elsewhere",
            "Print it: ./bot backups kit. Keep it away from this host and from the bucket, then "
            "confirm that: ./bot backups kit --kept",
        )
    if _DRILLS_MISSED_FOR_AMBER <= _missed_drills(facts) < _DRILLS_MISSED_FOR_RED:
        yield _drill_overdue(facts)
    yield from _of_the_future(facts, problem=False)
    if facts.following is not None and facts.following.mode == "stopped":
        yield Finding(
            "follow_stopped",
            f"changes are not followed, and each starts a whole backup: {facts.following.reason}",
            "Find out why: ./bot backups doctor",
        )
    if not facts.drill_possible:
        yield Finding(
            "drill_not_possible",
            "backups are encrypted and the age identity is not on this host, so the "
            "scheduled drill (test restore) cannot run",
            "Run it yourself, with the identity: ./bot backups drill --identity FILE",
        )
    if facts.last_run is not None and facts.last_run.status == "interrupted":
        yield Finding(
            "last_run_interrupted",
            f"the last backup, run {facts.last_run.id}, was interrupted",
            "Nothing to do: the scheduler will run it again."
            if facts.run_by == "app"
            else "Make one: ./bot backups run",
        )
    if facts.retention_warning is not None:
        yield Finding(
            "over_budget",
            facts.retention_warning,
            "Raise BACKUP_KEEP_MAX_BYTES, or lower the other BACKUP_KEEP_ settings.",
        )
    if facts.broken_receivers:
        yield Finding(
            "receiver_broken",
            f"messages do not reach {', '.join(facts.broken_receivers)} of BACKUP_NOTIFY_URLS",
            "Test them: ./bot backups doctor --notify. Correct BACKUP_NOTIFY_URLS in .env, "
            "and restart.",
        )
    for stored in facts.newest.objects if facts.newest else ():
        if stored.journal_mode != "wal":
            yield Finding(
                "not_wal",
                f"source {stored.source} is in journal mode {stored.journal_mode}: its "
                "writers wait while it is copied, and its copy is taken at another instant "
                "than the others",
                f"Switch it: sqlite3 FILE 'PRAGMA journal_mode=WAL' (source {stored.source})",
            )
        elif not stored.same_instant:
            yield Finding(
                "not_same_instant",
                f"this user may only read source {stored.source}, so its copy is taken at "
                "another instant than the others",
                "Give the user of the app write access to the file and its directory.",
            )
