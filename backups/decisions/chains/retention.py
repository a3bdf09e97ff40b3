"""Which objects of chains are kept, and why. Pure.

Points are kept for some days, each second of them; differentials as long as their full. What a kept
point needs stays, and its full with it: an object goes only when no kept point needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backups.decisions.chains.closure import ChainObject, Steps
from backups.format.chain_keys import DOCUMENTS, set_of
from backups.model import Mark

Days = int | None
_MS_A_DAY = 86_400_000
_NOT_OURS: Mapping[Mark, str] = {
    "unsigned": "its head has no mark: never deleted automatically",
    "unknown_key": "its head was marked with a key that is not here: never deleted automatically",
    "wrong": "the mark of its head is wrong: never deleted automatically",
}


@dataclass(frozen=True)
class Chain:
    """A chain as this host knows it; `ended` when nothing follows in it, `mark` is its head's."""

    id: str
    instance: str
    mark: Mark
    ended: bool
    objects: tuple[ChainObject, ...]

    @property
    def full(self) -> str:
        """The id of the set that it hangs on."""
        return set_of(self.id)

    @property
    def bytes(self) -> int:
        """What its objects have in the store."""
        return sum(one.bytes for one in self.objects)

    @property
    def newest_instant(self) -> int:
        """That of its newest point, in milliseconds; 0 where none is known."""
        return max((one.last_instant or 0 for one in self.objects), default=0)


@dataclass(frozen=True)
class ChainFacts:
    """What a plan needs to know beside the chains.

    `own` is this installation, `ours` are those whose chains this host may drop, `busy` those of
    them that may still write. `frozen` is why nothing may be dropped now, or None. `newest_set` is
    the instant of the newest proven set of ours.
    """

    now: datetime
    own: str
    ours: frozenset[str]
    frozen: str | None = None
    busy: frozenset[str] = frozenset()
    newest_set: datetime | None = None


@dataclass(frozen=True)
class KeptObject:
    """An object that stays, and why."""

    chain: str
    object: ChainObject
    reason: str


@dataclass(frozen=True)
class DroppedObject:
    """An object that goes, and why nothing needs it; `with_full`, when its chain's full goes."""

    chain: str
    object: ChainObject
    reason: str
    with_full: bool = False


@dataclass(frozen=True)
class ChainLine:
    """The objects of one chain that are kept, or dropped, for one reason."""

    chain: str
    objects: int
    bytes: int
    reason: str


@dataclass(frozen=True)
class ChainPlan:
    """What to keep and what to drop, chain by chain, the newest first."""

    keep: tuple[KeptObject, ...] = ()
    drop: tuple[DroppedObject, ...] = ()

    @property
    def kept(self) -> list[ChainLine]:
        """What is kept, for a person: a line for each chain and reason."""
        return _lines(self.keep)

    @property
    def dropped(self) -> list[ChainLine]:
        """What is dropped, likewise."""
        return _lines(self.drop)


def _lines(choices: Sequence[KeptObject | DroppedObject]) -> list[ChainLine]:
    found: dict[tuple[str, str], list[ChainObject]] = {}
    for one in choices:
        found.setdefault((one.chain, one.reason), []).append(one.object)
    return [
        ChainLine(chain, len(objects), sum(one.bytes for one in objects), reason)
        for (chain, reason), objects in found.items()
    ]


@dataclass(frozen=True)
class UseOfFull:
    """What the chain of a full means for the retention of sets: why the full is kept (None: for no
    point), whether that beats every other rule, and the bytes that go with it."""

    reason: str | None
    protected: bool
    bytes: int


@dataclass(frozen=True)
class _Standing:
    """How far back the points of one chain are kept: from the number `since`; None keeps none."""

    since: int | None
    why: str = ""
    protected: bool = False


def uses_of_fulls(chains: Sequence[Chain], days: Days, facts: ChainFacts) -> dict[str, UseOfFull]:
    """For each full with a chain of ours, by its id, what the chain means for it.

    What is not ours counts for nothing: a planted chain keeps no set, and pushes none out.
    """
    protected = _protected(chains, facts)
    found = {}
    for chain in chains:
        if _not_ours(chain, facts):
            continue
        standing = _standing(chain, days, facts, protected)
        kept = standing.since is not None
        reason = f"a point of a chain needs it: {standing.why}" if kept else None
        found[chain.full] = UseOfFull(reason, standing.protected and kept, chain.bytes)
    return found


def plan_chains(
    chains: Sequence[Chain], fulls: Collection[str], days: Days, facts: ChainFacts
) -> ChainPlan:
    """Decide about all objects of all `chains`; `fulls` are the ids of the sets that stay."""
    protected = _protected(chains, facts)
    keep: list[KeptObject] = []
    drop: list[DroppedObject] = []
    for chain in sorted(chains, key=lambda one: one.id, reverse=True):
        stays = _not_ours(chain, facts) or (f"frozen: {facts.frozen}" if facts.frozen else None)
        if stays is None and chain.full not in fulls:
            reason = f"it hangs on set {chain.full}, which is not kept"
            drop += [DroppedObject(chain.id, one, reason, True) for one in chain.objects]
            continue
        if stays is not None:
            keep += [KeptObject(chain.id, one, stays) for one in chain.objects]
            continue
        kept, dropped = _divide(chain, _standing(chain, days, facts, protected), days)
        keep += kept
        drop += dropped
    return ChainPlan(tuple(keep), tuple(drop))


def _divide(
    chain: Chain, standing: _Standing, days: Days
) -> tuple[list[KeptObject], list[DroppedObject]]:
    reasons: dict[str, str] = {}
    if standing.since is not None:
        needed = _needed(chain, standing.since)
        for one in chain.objects:
            if one.last >= standing.since and one.last:
                reasons[one.key] = standing.why
            elif one.key in needed:
                reasons[one.key] = f"point {standing.since} needs it"
    for one in chain.objects:
        if one.kind == "differential" and days != 0:
            reasons.setdefault(one.key, "a differential is kept with its full")
    documents = standing.why or next(iter(reasons.values()), "")
    for one in chain.objects:
        if one.kind in DOCUMENTS and documents:
            reasons[one.key] = documents
    gone = f"it is older than BACKUP_KEEP_POINTS_DAYS ({days}), and no kept point needs it"
    if days == 0:
        gone = "BACKUP_KEEP_POINTS_DAYS is 0"
    elif not chain.newest_instant:
        gone = "the chain ended before its first point"
    kept = [
        KeptObject(chain.id, one, reasons[one.key]) for one in chain.objects if one.key in reasons
    ]
    dropped = [
        DroppedObject(chain.id, one, gone) for one in chain.objects if one.key not in reasons
    ]
    return kept, dropped


def _needed(chain: Chain, since: int) -> set[str]:
    """The keys of what the point `since` is made from; of what may be it, where there is a gap."""
    found = Steps(chain.objects).to(since)
    if found is None:  # a person may still close it
        found = tuple(one for one in chain.objects if one.last and one.last <= since)
    return {one.key for one in found}


def _standing(
    chain: Chain, days: Days, facts: ChainFacts, protected: Mapping[str, str]
) -> _Standing:
    steps = [one for one in chain.objects if one.kind in ("increment", "pack")]
    points = [*steps, *(one for one in chain.objects if one.kind == "differential")]
    newest = max((one.last for one in points), default=0)
    why = protected.get(chain.id, "")
    if days is None:
        kept = [one.first for one in points]
        text = "points are kept for ever"
    else:
        oldest = facts.now.timestamp() * 1000 - days * _MS_A_DAY
        kept = [
            one.first
            for one in points
            if days and (one.last_instant is None or one.last_instant >= oldest)
        ]
        text = f"points of the last {days} days are kept"
    if kept:
        return _Standing(min(kept), text, protected=bool(why))
    if why:
        return _Standing(newest, why, protected=True)
    return _Standing(None)


def _protected(chains: Sequence[Chain], facts: ChainFacts) -> dict[str, str]:
    """The chains whose newest point no rule may drop, and why."""
    found: dict[str, str] = {}
    ours = [one for one in chains if not _not_ours(one, facts)]
    own = [one for one in ours if one.instance == facts.own and not one.ended]
    if own:
        found[max(own, key=lambda one: one.id).id] = "the chain goes on"
    newest = max(ours, key=lambda one: one.newest_instant, default=None)
    if newest is not None and (
        facts.newest_set is None or newest.newest_instant > facts.newest_set.timestamp() * 1000
    ):
        found.setdefault(newest.id, "newest point")
    return found


def _not_ours(chain: Chain, facts: ChainFacts) -> str | None:
    """Why no prune of this installation may touch a chain."""
    if chain.mark != "valid":
        return _NOT_OURS[chain.mark]
    if chain.instance not in facts.ours:
        return "made by another installation"
    if chain.instance in facts.busy:
        return "its installation was taken over, and may still make points"
    return None
