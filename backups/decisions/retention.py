"""Which restore points are kept, and why. Pure.

Every rule is of the form "the last of each period, up to an age", and a set is kept when any
rule keeps it. So a larger count never drops what a smaller one kept, and a prune that comes
late gives the same as one that came in time.

One file, because a rule, and what stands above it, are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Literal

from backups.decisions.chains.retention import (
    Chain,
    ChainFacts,
    ChainPlan,
    UseOfFull,
    plan_chains,
    uses_of_fulls,
)
from backups.decisions.keeping.pins import pins_in_the_way
from backups.decisions.order import is_future, newest_first
from backups.model import BackupSet, Mark, RestorePoint
from shared.words import counted

# A plan asks no more of a set than a `RestorePoint` knows.
Retainable = BackupSet | RestorePoint

# A count of periods, or None for ever.
Count = int | None

PRE_RESTORE_DAYS = 7
_HOUR_OF_CHANGES = timedelta(hours=1)
_NOT_OURS: Mapping[Mark, str] = {
    "unsigned": "it has no mark",
    "unknown_key": "its mark was made with a key that is not here",
    "wrong": "its mark is wrong",
}


@dataclass(frozen=True)
class RetentionPolicy:
    """How much is kept of each kind; periods follow one upon the other.

    Change sets: all for an hour, then the last of each hour for `changes_hours`. Other sets:
    all for `all_days`, then the last of each day for `daily` more days, of each ISO week for
    `weekly` more weeks, of each month for `monthly` more, of each year for `yearly` more.
    None means for ever. `max_bytes` is how much all kept sets may have together, with the chains
    that hang on them; the points of these are kept for `points_days`.
    """

    changes_hours: Count = 24
    all_days: Count = 7
    daily: Count = 16
    weekly: Count = 8
    monthly: Count = 4
    yearly: Count = 2
    max_bytes: Count = None
    points_days: Count = 7


@dataclass(frozen=True)
class RetentionFacts:
    """What a plan needs to know beside the sets.

    `ours` are the instances whose sets this host may drop: its own, and those it succeeds.
    `frozen` is why nothing may be dropped now, or None. `drilled` passed the newest drill.
    `hollow` are sets whose objects are missing, and whose loss nobody has accepted; `unread`
    are those with a verdict that nobody can read: it may say that they are good, or that they
    are not. `busy` are those of `ours` that were taken over, and made a set a short while ago:
    they may live. `pinned` has the labels of those that a person keeps, by their ids. `chains`
    says, by the id of a full, what the chain that hangs on it means for it.
    """

    now: datetime
    ours: frozenset[str]
    drilled: str | None = None
    frozen: str | None = None
    hollow: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    pinned: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, UseOfFull] = field(default_factory=dict)


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
    """What to keep and what to drop, newest first; `warning` when protection beats `max_bytes`.

    `chains` is the plan for the objects of chains, which follows from what is kept of the sets.
    """

    keep: tuple[Kept, ...]
    drop: tuple[Dropped, ...]
    warning: str | None = None
    chains: ChainPlan = field(default_factory=ChainPlan)


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
    ordered = newest_first(sets, facts.ours, facts.now)
    present = [one for one in ordered if not is_future(one.created_at, facts.now)]
    # Only what is kept has an entry: of thousands of sets most have no reason to stay.
    reasons = _protections(ordered, facts)
    protected = frozenset(reasons)
    by_kind = _by_kind(present)
    for rule in _rules(policy):
        for one in _last_of_each(by_kind[rule.kind], rule, facts.now):
            reasons.setdefault(one.id, []).append(rule.name)
    for one in ordered:
        use = facts.chains.get(one.id)
        if use is not None and use.reason and not use.protected:
            reasons.setdefault(one.id, []).append(use.reason)
    keep = [
        Kept(one, tuple(reasons[one.id]), one.id in protected)
        for one in ordered
        if one.id in reasons
    ]
    drop = [Dropped(one, "no rule keeps it any longer") for one in ordered if one.id not in reasons]
    return _fit(ordered, keep, drop, policy.max_bytes, facts)


def plan_with_chains(
    sets: Sequence[Retainable],
    chains: Sequence[Chain],
    policy: RetentionPolicy,
    facts: RetentionFacts,
    *,
    own: str,
) -> RetentionPlan:
    """The same, and what becomes of the `chains` that hang on sets; `own` is this installation.

    A full stays as long as a point that is kept needs it, and a chain goes with its full.
    """
    of_chains = chain_facts(sets, facts, own)
    days = policy.points_days
    uses = uses_of_fulls(chains, days, of_chains)
    plan = plan_retention(sets, policy, replace(facts, chains=uses))
    fulls = {one.backup_set.id for one in plan.keep}
    return replace(plan, chains=plan_chains(chains, fulls, days, of_chains))


def chain_facts(sets: Sequence[Retainable], facts: RetentionFacts, own: str) -> ChainFacts:
    """What a plan for chains needs to know beside them."""
    proven = [
        one.created_at
        for one in sets
        if one.protects and one.instance in facts.ours and not is_future(one.created_at, facts.now)
    ]
    return ChainFacts(
        now=facts.now,
        own=own,
        ours=facts.ours,
        frozen=facts.frozen,
        busy=facts.busy,
        newest_set=max(proven, default=None),
    )


def _by_kind(ordered: Iterable[Retainable]) -> dict[_Kind, list[Retainable]]:
    """The sets that rules are about: a planted one stands for no period."""
    found: dict[_Kind, list[Retainable]] = {"change": [], "other": []}
    for one in ordered:
        if one.kind == "set" and one.mark == "valid":
            found["change" if one.trigger == "change" else "other"].append(one)
    return found


def _protections(ordered: Sequence[Retainable], facts: RetentionFacts) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    def protect(one: Retainable, reason: str) -> None:
        found.setdefault(one.id, []).append(reason)

    for one, why in newest_good(ordered, facts):
        protect(one, why)
    pre_restore_age = timedelta(days=PRE_RESTORE_DAYS)
    for one in ordered:
        if is_future(one.created_at, facts.now):
            protect(one, "its time lies in the future")
        if facts.frozen is not None:
            protect(one, f"frozen: {facts.frozen}")
        if one.id == facts.drilled:
            protect(one, "newest that passed a drill")
        if (label := facts.pinned.get(one.id)) is not None:
            protect(one, f"pinned: {label}" if label else "pinned")
        if one.id in facts.hollow:
            protect(one, "hollow: objects are missing")
        if one.id in facts.unread:
            protect(one, "unread: a verdict on it cannot be read")
        if reason := _not_ours_to_drop(one, facts):
            protect(one, reason)
        use = facts.chains.get(one.id)
        if use is not None and use.reason and use.protected:
            protect(one, use.reason)
        if one.kind == "pre-restore" and facts.now - one.created_at < pre_restore_age:
            protect(one, f"replaced by a restore within {PRE_RESTORE_DAYS} days")
    return found


def newest_good(
    ordered: Sequence[Retainable], facts: RetentionFacts
) -> list[tuple[Retainable, str]]:
    """What must not be lost, with the reason, of sets in their order: the newest proven one, that
    of ours, and that of which every verdict was read; the newest of all where nothing is proven."""
    present = [one for one in ordered if not is_future(one.created_at, facts.now)]
    # What a restore has passed over must not be all that is left.
    proven = [one for one in present if one.protects and not one.set_aside]
    newest = next(iter(proven), None) or next((one for one in present if one.protects), None)
    if newest is None and present:
        believed = [one for one in present if one.mark == "valid"]
        return [((believed or present)[0], "newest, and nothing is proven")]
    ours = next((one for one in proven if one.instance in facts.ours), None)
    sure = next((one for one in proven if one.id not in facts.unread), None)
    found = {one.id: one for one in (newest, ours, sure) if one is not None}
    return [(one, "newest proven") for one in found.values()]


def _not_ours_to_drop(one: Retainable, facts: RetentionFacts) -> str | None:
    """Why no prune of this installation may drop a set, whatever the rules say."""
    if one.kind == "legacy":
        return "from the old scripts: never deleted automatically"
    if one.mark != "valid":
        return f"{_NOT_OURS[one.mark]}: never deleted automatically"
    if one.instance not in facts.ours:
        return "made by another installation"
    if one.instance in facts.busy:
        return "its installation was taken over, and may still make sets"
    return None


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
        _Rule(_young(policy.all_days), "other", _itself, all_days),
        _Rule("last of its day", "other", _day, daily),
        _Rule("last of its week", "other", _week, weekly),
        _Rule("last of its month", "other", _month, monthly),
        _Rule("last of its year", "other", _year, yearly),
    ]


def _last_of_each(ordered: Sequence[Retainable], rule: _Rule, now: datetime) -> list[Retainable]:
    """Of sets of the rule's kind, newest first; the first of a period is its last.

    Only what protects may stand for a period longer than itself: a set of one source, or a
    suspect one, must not push out a good one of the same day. Nor must one that a restore has
    passed over: of those, each period has a last one of its own.
    """
    seen: set[object] = set()
    found = []
    latest_of_rest = list(accumulate((one.created_at for one in reversed(ordered)), max))[::-1]
    for one, latest in zip(ordered, latest_of_rest, strict=True):
        if rule.horizon is not None and now - latest > rule.horizon:
            break  # all that follow are older, too
        if rule.period is not _itself and not one.protects:
            continue
        aside = bool(one.set_aside)
        period = (one.instance, aside, rule.period(one.created_at.astimezone(UTC)))
        if period in seen:
            continue
        seen.add(period)
        if rule.horizon is None or now - one.created_at <= rule.horizon:
            found.append(one)
    return found


def _fit(
    ordered: Sequence[Retainable],
    keep: list[Kept],
    drop: list[Dropped],
    max_bytes: Count,
    facts: RetentionFacts,
) -> RetentionPlan:
    """Drop the oldest unprotected sets, each with its chain, until the rest fits into
    `max_bytes`."""
    if max_bytes is None:
        return RetentionPlan(tuple(keep), tuple(drop))
    # What a manifest without a mark says of its size must not push out a set of ours.
    chains = facts.chains
    total = sum(_bytes(one.backup_set, chains) for one in keep if _counts(one.backup_set))
    too_much: set[str] = set()
    for one in reversed(keep):
        if total <= max_bytes:
            break
        if not one.protected:
            too_much.add(one.backup_set.id)
            total -= _bytes(one.backup_set, chains)
    reason = f"the total is above BACKUP_KEEP_MAX_BYTES ({max_bytes:,} bytes)"
    drop += [Dropped(one.backup_set, reason) for one in keep if one.backup_set.id in too_much]
    keep = [one for one in keep if one.backup_set.id not in too_much]
    warning = None
    if total > max_bytes:
        warning = (
            f"the restore points that may not be dropped have {total:,} bytes in total, which is "
            f"above BACKUP_KEEP_MAX_BYTES ({max_bytes:,} bytes)"
        )
        others = _protections(ordered, replace(facts, pinned={}))
        kept = (one.backup_set for one in keep if one.backup_set.id in facts.pinned)
        only = {one.id: _bytes(one, chains) for one in kept if one.id not in others}
        warning += pins_in_the_way(total - max_bytes, only, facts.pinned)
    if too_much:
        places = {one.id: place for place, one in enumerate(ordered)}
        drop.sort(key=lambda one: places[one.backup_set.id])
    return RetentionPlan(tuple(keep), tuple(drop), warning)


def _bytes(one: Retainable, chains: Mapping[str, UseOfFull]) -> int:
    return one.bytes + (chains[one.id].bytes if one.id in chains else 0)


def _counts(one: Retainable) -> bool:
    return one.kind == "legacy" or one.mark == "valid"


def _young(days: Count) -> str:
    """Why all sets of the first days are kept."""
    return "every one is kept" if days is None else f"younger than {counted(days, 'day')}"


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
