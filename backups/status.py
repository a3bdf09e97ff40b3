"""The status of an installation, put together from its records.

One file, because all that a person is told at once is found in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backups.config import BackupConfig
from backups.decisions.alarms import alerts_that_fail, broken_receivers
from backups.decisions.bot.findings import bot_problems, bot_warnings
from backups.decisions.chains.findings import finding_of
from backups.decisions.health import Health, Status, assess
from backups.decisions.marks import unchecked, unmarked_warnings
from backups.decisions.protection import Fact, HealthFacts
from backups.decisions.second.findings import relieved, second_facts, second_warnings
from backups.errors import DirectoryUnusable
from backups.host.heartbeats import Heartbeat
from backups.host.lease_faults import read_leading
from backups.host.records import find_damaged
from backups.host.state import HostState
from backups.increments.follow_folder import FollowFolder
from backups.model import BackupSet, FailedBeginning, Finding, Run, Source
from backups.operations.adopt import Adopt
from backups.operations.installation import Installation
from backups.operations.marking.later_marks import LaterMarks
from backups.operations.own_sets import OwnSets
from backups.sources.faults import damage_seen, source_faults
from backups.vocabulary.following import GRACE
from backups.vocabulary.kit import fingerprint_of
from backups.vocabulary.second import SecondFacts
from shared.clock import format_utc
from shared.errors import DatabaseError
from shared.words import counted


def drill_is_possible(config: BackupConfig) -> bool:
    """Whether this host can open what it seals, and so can rehearse by itself."""
    return not config.seal.recipients or config.identity_file is not None


def kit_kept_at(config: BackupConfig, state: HostState) -> datetime | None:
    """When a person confirmed that the kit of today's keys is kept elsewhere; None for never."""
    kept = state.kit.kept()
    mine = fingerprint_of(config.token_keys, config.seal.recipients)
    return kept.at if kept is not None and kept.fingerprint == mine else None


def read_status(
    installation: Installation,
    state: HostState,
    own_sets: OwnSets,
    adoption: Adopt,
    later_marks: LaterMarks,
    *,
    faults: tuple[Finding, ...] = (),
) -> Status:
    """The state of the backups, without the network; changes nothing. Raises `DatabaseError`.

    `faults` are problems that were found elsewhere.
    """
    config, store, run_log = installation.config, installation.store, installation.run_log
    now = installation.clock.now()
    last_run = run_log.last("backup", "succeeded", "failed", "interrupted")
    leading = read_leading(installation.directory, config.timeout, now)
    owner, heartbeat = leading.owner, leading.heartbeat
    follows = config.follows and owner is not None
    following = FollowFolder(installation.directory).following() if follows else None
    latest = own_sets.latest()
    # Before the first start there are no databases yet, and nothing is lost.
    expected = config.sources if owner is not None or latest is not None else ()
    last_drill = state.last_drill()
    newest = installation.catalogue.newest_protecting(own_sets.ours())
    # A scheduler says when it begins; on a host with cron alone the first run says it.
    begun = [at for at in (state.begun_at(), run_log.began_at()) if at is not None and at <= now]
    has_budget = config.retention.max_bytes is not None
    receivers = state.messages.states([receiver.id for receiver in config.receivers])
    unmarked = installation.catalogue.unmarked_sets()
    absent = {one.key for one in unmarked if one.mark == "unknown_key" and one.key is not None}
    doubt = own_sets.doubt()
    missing_keys = tuple(sorted(absent)) if newest is None else ()
    waits_for_restore = (
        newest is None and not missing_keys and _is_empty(installation, own_sets, state)
    )
    kept_at = kit_kept_at(config, state)
    bot, second = installation.bot(), _second(config, state)
    damaged = following.damaged if following else {}
    # While nobody knows who leads, what is owed is owed all the same.
    retries = owner is not None or not leading.is_known
    retry_at = own_sets.retry_at() if retries else None
    failure = own_sets.attempts.unresolved_failure()
    health = assess(
        HealthFacts(
            now=now,
            schedule=config.schedule,
            offsite=store.offsite,
            location=store.location,
            newest=newest,
            run_by=config.run_by,
            follows=bool(config.change_delay),
            following=following,
            failure=failure,
            retry_at=retry_at,
            attempts_are_known=newest is None or own_sets.attempts.are_known(),
            seen_at=installation.catalogue.seen_at(newest.id) if newest else None,
            future=installation.catalogue.future(),
            restored_at=own_sets.restored_at(newest),
            last_run=last_run,
            begun_at=min(begun, default=None),
            latest=latest,
            token_keys=config.token_keys,
            last_drill=last_drill,
            drill_schedule=config.drill_schedule,
            drill_possible=drill_is_possible(config),
            started_empty=tuple(own_sets.started_empty()) if latest else (),
            newest_made=own_sets.newest_made(),
            other_writer=own_sets.other_writer(now),
            future_is_over=own_sets.future_is_over(newest),
            found_faults=(
                *faults,
                *_of_sources(installation, expected, damaged, now),
                *leading.faults,
                *_of_the_leader(heartbeat, faults),
                *alerts_that_fail(config.receivers, receivers, now),
                *((finding_of(doubt),) if doubt else ()),
                *bot_problems(bot),
            ),
            found_warnings=(
                *find_damaged(installation.directory.path),
                *installation.catalogue.unread.warnings(),
                *installation.catalogue.chains.warnings(),
                *_prune_failed(run_log.last("prune", "succeeded", "failed")),
                *_not_wholly_checked(newest),
                *adoption.warnings(),
                *(() if config.mark_keys else (unchecked(),)),
                *unmarked_warnings(unmarked, installation.catalogue.unmarked_verdicts()),
                *_left_behind(config),
                *(bot_warnings(bot) if leading.is_known else ()),
                *second_warnings(second),
                *config.warnings,
            ),
            missing_points=own_sets.missing_points(),
            retention_warning=own_sets.plan_prune().warning if has_budget else None,
            somebody_is_told=bool(config.receivers) or config.has_heartbeat,
            kit_is_kept=not config.token_keys or kept_at is not None,
            broken_receivers=broken_receivers(config.receivers, receivers, now),
            beats=heartbeat.beats if heartbeat is not None else (),
            unled_since=leading.unled_since,
            refusal=installation.catalogue.refusal(),
            in_other_places="" if newest else own_sets.in_other_places(),
            missing_keys=missing_keys,
            found_facts=second_facts(second, now),
            points_for_empty_host=installation.catalogue.count() if waits_for_restore else 0,
        )
    )
    return Status(
        health=relieved(health, second, failure, now),
        cron=config.schedule.expression,
        next_run_at=config.schedule.next_after(now).astimezone(UTC),
        retry_at=retry_at,
        owner=owner,
        kind=store.kind,
        offsite=store.offsite,
        location=store.location,
        last_contact_at=installation.catalogue.last_contact_at(),
        running=run_log.running(),
        last_run=last_run,
        last_success=run_log.last("backup", "succeeded"),
        newest_restore_point=latest,
        restore_points=installation.catalogue.count(),
        last_drill=last_drill,
        newest_point_at=_newest_point_at(latest, newest),
        follow=following.mode if following else "sets" if config.change_delay else "off",
        run_by=config.run_by,
        receivers=len(config.receivers),
        has_heartbeat=config.has_heartbeat,
        last_message=state.messages.newest(),
        kit_kept_at=kept_at,
        marks=(later_marks.count(*own_sets.ours()), len(later_marks.owed())),
        # What is later than that is no fact that green rests on: see `Follower.following`.
        stored_within=config.change_delay + timedelta(seconds=GRACE) if follows else None,
        bot=bot,
        second=second,
    )


def _of_the_leader(heartbeat: Heartbeat | None, known: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What a leader on another host says of itself, as far as this host does not."""
    if heartbeat is None:
        return ()
    codes = {one.code for one in known}
    return tuple(
        replace(one, message=f"{one.message} (on the host {heartbeat.host})")
        for one in heartbeat.findings
        if one.code not in codes
    )


def _of_sources(
    installation: Installation,
    expected: Sequence[Source],
    damaged: Mapping[str, str],
    now: datetime,
) -> tuple[Finding, ...]:
    """What is wrong with the live databases; of several hosts, the files are copies."""
    if installation.live.is_shared:
        return ()
    return source_faults(expected, now) or damage_seen(damaged)


def _second(config: BackupConfig, state: HostState) -> SecondFacts | None:
    if (second := config.second) is None:
        return None
    place = second.location
    record = state.second
    return SecondFacts(
        second,
        record.state(place),
        record.begun_at(place),
        record.stand_in(place),
        record.documents(place),
    )


def _is_empty(installation: Installation, own_sets: OwnSets, state: HostState) -> bool:
    """Whether this host has no data, and has made no set: it waits for a restore."""
    begun = {*own_sets.missing_sources(), *state.started_empty()}
    names = {source.name for source in installation.config.sources}
    return names <= begun and own_sets.newest_made() is None


def _newest_point_at(latest: BackupSet | None, newest: BackupSet | None) -> datetime | None:
    """The instant of the newest point that protects: an increment, or a set.

    It is one that can be restored: a point after a gap in its chain is none.
    """
    return max(
        (one.holds_until for one in (latest, newest) if one is not None and one.protects),
        default=None,
    )


def _prune_failed(last: Run | None) -> tuple[Finding, ...]:
    """The warning that the last prune failed: what it should have removed stays, and costs."""
    if last is None or last.error is None:
        return ()
    return (
        Finding(
            "prune_failed",
            f"the last prune, run {last.id}, failed: {last.error.message}",
            last.error.hint or "Find out why: ./bot backups prune",
        ),
    )


def _left_behind(config: BackupConfig) -> tuple[Finding, ...]:
    """The warning that the local folder has sets of before the move to a bucket."""
    if config.former_store is None:
        return ()
    folder = config.former_store / config.prefix
    try:
        count = sum(1 for _ in (folder / "sets").iterdir())
    except OSError:  # most hosts have none
        return ()
    if not count:
        return ()
    return (
        Finding(
            "local_sets_left",
            f"{counted(count, 'set is', 'sets are')} still in {folder}, from before the move to "
            "the bucket: not listed, not pruned, and not counted as protection",
            "To restore one, make the SPACES_ settings in .env blank for as long as that takes: "
            f"./bot backups list. When nobody needs them any more: rm -r {folder}",
        ),
    )


def _not_wholly_checked(newest: BackupSet | None) -> tuple[Finding, ...]:
    """A warning for each source of the newest set that SQLite here could not check whole."""
    return tuple(
        Finding(
            "source_finding",
            f"source {stored.source} could not be checked whole: {stored.finding}. Its copy in set "
            f"{newest.id} has the bytes of the source",
            "If its own program can read the database, nothing is to do. To try it with what a "
            f"restore gives: ./bot backups restore {newest.id} --to DIR",
        )
        for stored in (newest.objects if newest else ())
        if newest and stored.finding
    )


def status_without_records(installation: Installation, faults: tuple[Finding, ...]) -> Status:
    """The state of the backups while this host's records cannot be read: nothing else is known."""
    config, store = installation.config, installation.store
    now, bot = installation.clock.now(), installation.bot()
    try:
        owner = installation.directory.scheduler_lease.holder()
    except (DirectoryUnusable, DatabaseError):
        owner = None
    return Status(
        health=Health(
            (Fact("records", None, "this host's records cannot be read"),),
            (*faults, *bot_problems(bot)),
            bot_warnings(bot),
        ),
        cron=config.schedule.expression,
        next_run_at=config.schedule.next_after(now).astimezone(UTC),
        retry_at=None,
        owner=owner,
        kind=store.kind,
        offsite=store.offsite,
        location=store.location,
        last_contact_at=None,
        running=None,
        last_run=None,
        last_success=None,
        newest_restore_point=None,
        restore_points=0,
        last_drill=None,
        newest_point_at=None,
        follow="sets" if config.change_delay else "off",
        run_by=config.run_by,
        receivers=len(config.receivers),
        has_heartbeat=config.has_heartbeat,
        bot=bot,
    )


def cannot_begin(failed: FailedBeginning | None) -> tuple[Finding, ...]:
    """The problem that no run can begin, of the last attempt that could not."""
    if failed is None:
        return ()
    return (
        Finding(
            "cannot_begin",
            f"a {failed.operation} could not begin at {format_utc(failed.at)}: "
            f"{failed.error.message}",
            failed.error.hint,
        ),
    )
