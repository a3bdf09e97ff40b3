"""Which restore points are kept, and why. Pure.

Every rule is of the form "the last of each period, up to an age", and a set is kept when any
rule keeps it. So a larger count never drops what a smaller one kept, and a prune that comes
late gives the same as one that came in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from backups.model import BackupSet, RestorePoint

# A plan asks no more of a set than a `RestorePoint` knows.
Retainable = BackupSet | RestorePoint

# A count of periods, or None for ever.
Count = int | None

PRE_RESTORE_DAYS = 7
_HOUR_OF_CHANGES = timedelta(hours=1)


@dataclass(frozen=True)
class RetentionPolicy:
    """How much is kept of each kind; periods follow one upon the other.

    Change sets: all for an hour, then the last of each hour for `changes_hours`. Other sets:
    all for `all_days`, then the last of each day for `daily` more days, of each ISO week for
    `weekly` more weeks, of each month for `monthly` more, of each year for `yearly` more.
    None means for ever. `max_bytes` is how much all kept sets may have together.
    """

    changes_hours: Count = 24
    all_days: Count = 7
    daily: Count = 16
    weekly: Count = 8
    monthly: Count = 4
    yearly: Count = 2
    max_bytes: Count = None


@dataclass(frozen=True)
class RetentionFacts:
    """What a plan needs to know beside the sets.

    `ours` are the instances whose sets this host may drop: its own, and those it succeeds.
    `frozen` is why nothing may be dropped now, or None. `drilled` passed the newest drill.
    """

    now: datetime
    ours: frozenset[str]
    drilled: str | None = None
    frozen: str | None = None


@dataclass(frozen=True)
class Kept:
    """A set that stays, and all reasons for it."""

    backup_set: Retainable
    reasons: tuple[str, ...]
    protected: bool


@dataclass(frozen=True)
class Dropped:
    """A set that goes, and why no rule keeps it."""

    backup_set: Retainable
    reason: str


@dataclass(frozen=True)
class RetentionPlan:
    """What to keep and what to drop, newest first; `warning` when protection beats `max_bytes`."""

    keep: tuple[Kept, ...]
    drop: tuple[Dropped, ...]
    warning: str | None = None


_Kind = Literal["change", "other"]


@dataclass(frozen=True)
class _Rule:
    """Keep the last set of each period, up to an age (None: for ever)."""

    name: str
    kind: _Kind
    period: Callable[[datetime], object]
    horizon: timedelta | None


def plan_retention(
    sets: Sequence[Retainable], policy: RetentionPolicy, facts: RetentionFacts
) -> RetentionPlan:
    """Decide about all `sets`, in whatever order they come."""
    ordered = sorted(sets, key=lambda one: (one.created_at, one.id), reverse=True)
    reasons: dict[str, list[str]] = {one.id: [] for one in ordered}
    protected = _protections(ordered, facts)
    for rule in _rules(policy):
        for one in _last_of_each(ordered, rule, facts.now):
            reasons[one.id].append(rule.name)
    keep = [
        Kept(one, (*protected.get(one.id, ()), *reasons[one.id]), one.id in protected)
        for one in ordered
        if one.id in protected or reasons[one.id]
    ]
    kept_ids = {one.backup_set.id for one in keep}
    drop = [
        Dropped(one, "no rule keeps it any longer") for one in ordered if one.id not in kept_ids
    ]
    return _fit(keep, drop, policy.max_bytes)


def _protections(ordered: Sequence[Retainable], facts: RetentionFacts) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    def protect(one: Retainable, reason: str) -> None:
        found.setdefault(one.id, []).append(reason)

    newest = next((one for one in ordered if one.protects), None)
    if newest is None and ordered:
        protect(ordered[0], "newest, and nothing is proven")
    ours = next((one for one in ordered if one.protects and one.instance in facts.ours), None)
    for one in {one.id: one for one in (newest, ours) if one is not None}.values():
        protect(one, "newest proven")
    for one in ordered:
        if facts.frozen is not None:
            protect(one, f"frozen: {facts.frozen}")
        if one.id == facts.drilled:
            protect(one, "newest that passed a drill")
        if one.kind == "legacy":
            protect(one, "legacy: only a person deletes it")
        elif one.instance not in facts.ours:
            protect(one, "made by another installation")
        young = facts.now - one.created_at < timedelta(days=PRE_RESTORE_DAYS)
        if one.kind == "pre-restore" and young:
            protect(one, f"replaced by a restore within {PRE_RESTORE_DAYS} days")
    return found


def _rules(policy: RetentionPolicy) -> list[_Rule]:
    all_days = _days(policy.all_days, 1)
    daily = _plus(all_days, _days(policy.daily, 1))
    weekly = _plus(daily, _days(policy.weekly, 7))
    monthly = _plus(weekly, _days(policy.monthly, 31))
    yearly = _plus(monthly, _days(policy.yearly, 366))
    hours = None if policy.changes_hours is None else timedelta(hours=policy.changes_hours)
    return [
        _Rule("change of the last hour", "change", _itself, _HOUR_OF_CHANGES),
        _Rule("last change of its hour", "change", _hour, hours),
        _Rule("all", "other", _itself, all_days),
        _Rule("last of its day", "other", _day, daily),
        _Rule("last of its week", "other", _week, weekly),
        _Rule("last of its month", "other", _month, monthly),
        _Rule("last of its year", "other", _year, yearly),
    ]


def _last_of_each(ordered: Sequence[Retainable], rule: _Rule, now: datetime) -> list[Retainable]:
    """Newest first, the first set of a period is its last in time.

    Only what protects may stand for a period longer than itself: a set of one source, or a
    suspect one, must not push out a good one of the same day.
    """
    seen: set[object] = set()
    found = []
    for one in ordered:
        if rule.horizon is not None and now - one.created_at > rule.horizon:
            break  # all that follow are older
        if one.kind != "set" or (one.trigger == "change") != (rule.kind == "change"):
            continue
        if rule.period is not _itself and not one.protects:
            continue
        period = (one.instance, rule.period(one.created_at.astimezone(UTC)))
        if period in seen:
            continue
        seen.add(period)
        found.append(one)
    return found


def _fit(keep: list[Kept], drop: list[Dropped], max_bytes: Count) -> RetentionPlan:
    """Drop the oldest unprotected sets until the rest fits into `max_bytes`."""
    if max_bytes is None:
        return RetentionPlan(tuple(keep), tuple(drop))
    total = sum(one.backup_set.bytes for one in keep)
    for one in list(reversed(keep)):
        if total <= max_bytes:
            break
        if not one.protected:
            keep.remove(one)
            drop.append(Dropped(one.backup_set, f"all together have more than {max_bytes:,} bytes"))
            total -= one.backup_set.bytes
    warning = None
    if total > max_bytes:
        warning = (
            f"what may not be dropped has {total:,} bytes, more than the {max_bytes:,} of "
            "BACKUP_KEEP_MAX_BYTES"
        )
    drop.sort(key=lambda one: (one.backup_set.created_at, one.backup_set.id), reverse=True)
    return RetentionPlan(tuple(keep), tuple(drop), warning)


def _days(count: Count, days: int) -> timedelta | None:
    return None if count is None else timedelta(days=count * days)


def _plus(first: timedelta | None, second: timedelta | None) -> timedelta | None:
    return None if first is None or second is None else first + second


def _itself(instant: datetime) -> object:
    return instant


def _hour(instant: datetime) -> object:
    return instant.strftime("%Y-%m-%dT%H")


def _day(instant: datetime) -> object:
    return instant.date()


def _week(instant: datetime) -> object:
    return instant.isocalendar()[:2]


def _month(instant: datetime) -> object:
    return instant.year, instant.month


def _year(instant: datetime) -> object:
    return instant.year
