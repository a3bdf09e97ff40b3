"""Whose sets are ours, and which lines of succession the store has. Pure.

An installation succeeds another one when a restore of it or `adopt` says so, until the other one
publishes again. Of an installation that says nothing of itself (an older version), those are the
predecessors whose newest set is older than its own first one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from backups.decisions.order import is_future
from backups.format.instance import InstanceDocument, LastSet
from backups.model import BackupSet, Finding
from shared.clock import format_utc
from shared.words import counted


@dataclass(frozen=True)
class InstanceSets:
    """What the store has of one installation: how many sets, the first and the newest.

    `first_good_at` is the first one that protects (None: there is none), `sequence` the highest
    number. What lies in the future is not among them.
    """

    instance: str
    count: int
    first_at: datetime
    newest_at: datetime
    first_good_at: datetime | None = None
    sequence: int | None = None

    @property
    def last_set(self) -> LastSet:
        """How far it has come: what it publishes from now on is newer."""
        return LastSet(self.newest_at, self.sequence)


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


@dataclass(frozen=True)
class Line:
    """An installation, and all that it succeeds."""

    head: str
    instances: frozenset[str]


@dataclass(frozen=True)
class Choice:
    """A line that a person may choose: its host, and its newest restore point, if `latest` may
    mean one."""

    line: Line
    host: str | None
    newest: BackupSet | None


# --- ours -------------------------------------------------------------------------------------


def ours_of(
    me: str, former: Mapping[str, LastSet | None], sets: Collection[InstanceSets]
) -> frozenset[str]:
    """The installations whose sets are those of `me`: itself, and `former` ones that still are.

    `former` has how far each had come when it was taken over; None where nobody noted it.
    """
    by_instance = {one.instance: one for one in sets}
    own = by_instance.get(me)
    return frozenset({me}) | {
        instance
        for instance, last in former.items()
        if not _publishes_again(by_instance.get(instance), last, own)
    }


def _publishes_again(
    former: InstanceSets | None, last: LastSet | None, successor: InstanceSets | None
) -> bool:
    """Whether an installation made sets after it was taken over."""
    if former is None:
        return False
    if last is None:
        first = successor.first_good_at if successor else None
        return first is not None and former.newest_at >= first
    # Its clock may have been set back since: then its numbers go on.
    counted_on = last.sequence is not None and (former.sequence or 0) > last.sequence
    return former.newest_at > last.at or counted_on


def busy_ones(
    me: str, ours: Collection[str], sets: Collection[InstanceSets], quiet_since: datetime
) -> frozenset[str]:
    """Those that `me` took over and that made a set since: they may live, and show it soon."""
    return frozenset(
        one.instance
        for one in sets
        if one.instance in ours and one.instance != me and one.newest_at >= quiet_since
    )


# --- lines ------------------------------------------------------------------------------------


def lines_of(
    sets: Collection[InstanceSets], documents: Mapping[str, InstanceDocument], now: datetime
) -> list[Line]:
    """The lines that have a set to restore, the one with the newest set first."""
    good = {one.instance for one in sets if one.first_good_at is not None}
    closed = {one: line_of(one, sets, documents, now) for one in good}
    ordered = sorted(
        (one for one in sets if one.instance in good),
        key=lambda one: (one.newest_at, one.instance),
        reverse=True,
    )
    succeeded = {former for one, line in closed.items() for former in line if former != one}
    heads = [one.instance for one in ordered if one.instance not in succeeded]
    lines = [Line(head, closed[head]) for head in heads]
    for one in ordered:  # two may say of each other that they succeed it
        if not any(one.instance in line.instances for line in lines):
            lines.append(Line(one.instance, closed[one.instance]))
    return lines


def line_of(
    instance: str,
    sets: Collection[InstanceSets],
    documents: Mapping[str, InstanceDocument],
    now: datetime,
) -> frozenset[str]:
    """An installation, and all that it succeeds, and so on."""
    by_instance = {one.instance: one for one in sets}
    found: set[str] = set()
    waiting = [instance]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += _predecessors(one, by_instance, documents.get(one), now)
    return frozenset(found)


def _predecessors(
    instance: str,
    sets: Mapping[str, InstanceSets],
    document: InstanceDocument | None,
    now: datetime,
) -> list[str]:
    own = sets.get(instance)
    if document is None:
        first = own.first_good_at if own else None
        return [one for one, of in sets.items() if first is not None and of.newest_at < first]
    return [
        one
        for one in document.succeeds
        if not _publishes_again(sets.get(one), _last_set(document, one, now), own)
    ]


def _last_set(document: InstanceDocument, instance: str, now: datetime) -> LastSet | None:
    last = document.last_sets.get(instance)
    return None if last is None or is_future(last.at, now) else last


def several_installations(choices: Collection[Choice]) -> tuple[str, str]:
    """What to say when there are several lines: who they are, and the commands for each."""
    named = "; ".join(
        f"{_name(one)}, whose newest set is of {format_utc(one.newest.created_at)}"
        if one.newest
        else f"{_name(one)}, whose sets were set aside"
        for one in choices
    )
    commands = "; ".join(
        f"{_name(one)}: "
        + (f"./bot backups restore {one.newest.id} --in-place --yes or " if one.newest else "")
        + f"./bot backups adopt {one.line.head}"
        for one in choices
    )
    return (
        f"nothing was chosen: the store has the sets of {len(choices)} installations, and this one "
        f"has none of its own: {named}",
        f"Restore a set of the right one, or count its sets as this one's without a restore. "
        f"{commands}",
    )


def _name(choice: Choice) -> str:
    host = f"host {choice.host}" if choice.host else "an unnamed host"
    return f"{host} (installation {choice.line.head})"


# --- earlier installations --------------------------------------------------------------------


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
        f"{counted(found.sets, 'set')} in the store, which "
        f"{'is' if found.sets == 1 else 'are'} not counted as this one's",
        f"To count them as this one's: ./bot backups adopt {found.instance}",
    )


def _is_here(facts: SuccessionFacts, instance: str) -> bool:
    document = facts.others.get(instance)
    return document is not None and document.is_same_place(facts.me)
