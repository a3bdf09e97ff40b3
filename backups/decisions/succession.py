"""Which earlier installation this one could follow, and whether it does so by itself. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from backups.format.instance import InstanceDocument
from backups.model import Finding
from shared.clock import format_utc


@dataclass(frozen=True)
class InstanceSets:
    """What the store has of one installation: how many sets, the first and the newest."""

    instance: str
    count: int
    first_at: datetime
    newest_at: datetime


@dataclass(frozen=True)
class EarlierInstallation:
    """Another installation, whose sets could count as this one's.

    `host` is what it called itself, if it did; `here` whether it had this folder of this machine.
    """

    instance: str
    host: str | None
    sets: int
    newest_at: datetime
    here: bool


@dataclass(frozen=True)
class SuccessionFacts:
    """What is known here of who writes to the store.

    `me` is this installation, `ours` the ids whose sets are its own, `sets` what the store has of
    each installation, `others` their newest documents by id. An installation without a set since
    `quiet_since` is not working any more.
    """

    me: InstanceDocument
    ours: Collection[str]
    sets: Collection[InstanceSets]
    others: Mapping[str, InstanceDocument]
    quiet_since: datetime


def ended_before(facts: SuccessionFacts, instance: str) -> bool:
    """Whether the sets of an installation ended long enough ago, and before ours began."""
    own = [found.first_at for found in facts.sets if found.instance in facts.ours]
    end = min([*own, facts.quiet_since])
    return all(found.newest_at < end for found in facts.sets if found.instance == instance)


def to_adopt(facts: SuccessionFacts) -> list[str]:
    """The earlier installations of this very folder that have ended: they are this one."""
    return sorted(
        found.instance
        for found in facts.sets
        if found.instance not in facts.ours
        and _is_here(facts, found.instance)
        and ended_before(facts, found.instance)
    )


def with_predecessors(facts: SuccessionFacts, instance: str) -> list[str]:
    """An installation, and those it succeeds that have ended: a document may name others."""
    document = facts.others.get(instance)
    former = document.succeeds if document else ()
    return [instance, *(one for one in former if one != instance and ended_before(facts, one))]


def earlier_installation(facts: SuccessionFacts) -> EarlierInstallation | None:
    """The newest one that a person may want to adopt.

    One of this very folder, or one that has ended: what goes on to write elsewhere is another.
    """
    found = [
        one
        for one in facts.sets
        if one.instance not in facts.ours
        and (_is_here(facts, one.instance) or ended_before(facts, one.instance))
    ]
    if not found:
        return None
    newest = max(found, key=lambda one: (one.newest_at, one.instance))
    return describe(facts, newest)


def describe(facts: SuccessionFacts, found: InstanceSets) -> EarlierInstallation:
    """An installation with what its document adds."""
    document = facts.others.get(found.instance)
    return EarlierInstallation(
        instance=found.instance,
        host=document.host if document else None,
        sets=found.count,
        newest_at=found.newest_at,
        here=_is_here(facts, found.instance),
    )


def earlier_finding(found: EarlierInstallation) -> Finding:
    """The warning that names it, with the command."""
    what = "this host's earlier installation" if found.here else "an earlier installation,"
    host = f"host {found.host}, " if found.host else ""
    return Finding(
        "earlier_installation",
        f"{what} {found.instance} ({host}last set {format_utc(found.newest_at)}), has "
        f"{found.sets} set(s) in the store, which are not counted as this one's",
        f"To count them as this one's: python -m backups adopt {found.instance}",
    )


def _is_here(facts: SuccessionFacts, instance: str) -> bool:
    document = facts.others.get(instance)
    return document is not None and document.is_same_place(facts.me)
