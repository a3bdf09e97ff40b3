"""What the overview shows, gathered from this host's records without the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from backups.decisions.health import Status
from backups.model import BackupSet, Refusal, Run
from backups.page.last_day import last_day
from backups.service import BackupService
from backups.view import calendar, chart
from backups.view.calendar import Day, History
from backups.view.chart import Point
from backups.view.headline import Headline, change_delay_note, headline
from backups.view.timeline import Timeline, timeline
from shared.errors import DatabaseError

SHOWN = 10
PAGE = 50


@dataclass(frozen=True)
class Keys:
    """Where the keys are: fingerprints and public halves, never a key."""

    token_keys: tuple[str, ...]
    newest_uses: str | None
    recipients: tuple[str, ...]
    identity_file: Path | None


@dataclass(frozen=True)
class Asked:
    """What the store said when it was asked last: when it was listed, and why not since then."""

    listed_at: datetime | None
    refusal: Refusal | None


@dataclass(frozen=True)
class Overview:
    """Everything on the overview.

    `reasons` says for a set id what keeps it, or why it goes; `drills`, whether they are scheduled;
    `missing`, how many restore points the store lost.
    """

    status: Status
    headline: Headline
    days: tuple[Day, ...]
    points: tuple[Point, ...]
    sets: tuple[BackupSet, ...]
    more_sets: bool
    reasons: Mapping[str, str]
    runs: tuple[Run, ...]
    more_runs: bool
    keys: Keys
    suspect_set: str | None
    drills: bool
    missing: int
    asked: Asked
    timeline: Timeline
    change_delay: str | None


def gather(service: BackupService, now: datetime) -> Overview:
    """Look at the records once."""
    status = service.status()
    try:
        return _gather(service, status, now)
    except DatabaseError:
        if status.health.healthy:  # else status says that the records cannot be read
            raise
        return _without_records(service, status, now)


def _without_records(service: BackupService, status: Status, now: datetime) -> Overview:
    """What can be shown while this host's records cannot be read."""
    return Overview(
        status=status,
        headline=headline(status, now),
        days=calendar.last_days(History((), (), None), service.config.schedule, now),
        points=(),
        sets=(),
        more_sets=False,
        reasons={},
        runs=(),
        more_runs=False,
        keys=keys(service, None),
        suspect_set=None,
        drills=service.drill_is_possible(),
        missing=0,
        asked=Asked(None, None),
        timeline=timeline((), (), now),
        change_delay=_change_delay(service),
    )


def _gather(service: BackupService, status: Status, now: datetime) -> Overview:
    since = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    since -= timedelta(days=calendar.DAYS - 1)
    recent = tuple(
        one
        for one in service.catalogue.sets_since(since)
        if one.kind == "legacy" or one.mark == "valid"
    )
    sets, more_sets = service.list_sets(SHOWN)
    runs, more_runs = service.list_runs(SHOWN)
    newest = next(
        (one for one in recent if one.kind == "set" and one.complete and one.set_aside is None),
        None,
    )
    return Overview(
        status=status,
        headline=headline(status, now),
        days=calendar.last_days(_history(service, recent, since), service.config.schedule, now),
        points=chart.points(recent, service.run_log.backups_since(since, chart.MOST_POINTS)),
        sets=tuple(sets),
        more_sets=more_sets,
        reasons=short_reasons(service),
        runs=tuple(runs),
        more_runs=more_runs,
        keys=keys(service, status.newest_restore_point),
        suspect_set=newest.id if newest is not None and newest.suspect else None,
        drills=service.drill_is_possible(),
        missing=len(service.own_sets.missing_points()),
        asked=last_asked(service),
        timeline=last_day(service, status, recent, now),
        change_delay=_change_delay(service),
    )


def last_asked(service: BackupService) -> Asked:
    """What is known of the store, without asking it: an empty list alone would say too much."""
    return Asked(service.catalogue.listed_at(), service.catalogue.refusal())


def reasons(service: BackupService) -> Mapping[str, str]:
    """What keeps each set, or why retention drops it next."""
    plan = service.own_sets.plan_prune()
    found = {one.backup_set.id: ", ".join(one.reasons) for one in plan.keep}
    found.update((one.backup_set.id, f"the next prune drops it: {one.reason}") for one in plan.drop)
    return found


def short_reasons(service: BackupService) -> Mapping[str, str]:
    """The same for a table, in a few words: the page of a set has the whole of it."""
    plan = service.own_sets.plan_prune()
    found = {
        one.backup_set.id: ", ".join(reason.partition(":")[0] for reason in one.reasons[:2])
        for one in plan.keep
    }
    found.update((one.backup_set.id, "the next prune drops it") for one in plan.drop)
    return found


def keys(service: BackupService, newest: BackupSet | None) -> Keys:
    """What opens the backups, and where it is."""
    return Keys(
        token_keys=service.config.token_keys,
        newest_uses=newest.token_key if newest else None,
        recipients=service.config.seal.recipients,
        identity_file=service.config.identity_file,
    )


def _change_delay(service: BackupService) -> str | None:
    config = service.config
    return change_delay_note(config.change_delay, config.stores_changes_within)


def _history(service: BackupService, recent: tuple[BackupSet, ...], since: datetime) -> History:
    runs = service.run_log.backups_by_day(since.date())
    began = service.run_log.began_at()
    oldest = min((one.created_at for one in recent), default=None)
    starts = [one for one in (began, oldest) if one is not None]
    return History(recent, runs, min(starts) if starts else None)
