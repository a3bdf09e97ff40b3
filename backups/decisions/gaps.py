"""How much data could have been lost, and when: the time between proven points. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

from backups.decisions.protection import GRACE
from backups.model import MissingPoint, RestorePoint, Trigger
from shared.crontab import Crontab

# How far ahead of this host's clock the time of a set may be, as clocks differ.
AHEAD = timedelta(minutes=5)

# Why a backup that succeeded is no point: it `vanished` or is `hollow`, it is there and does not
# protect (not all sources, or the data looks damaged), or it is gone and nobody knows if it did.
Doubt = Literal["vanished", "hollow", "does_not_protect", "not_known"]


@dataclass(frozen=True)
class MadeSet:
    """What a backup run that succeeded left in the run log."""

    set_id: str
    trigger: Trigger


@dataclass(frozen=True)
class Doubtful:
    """A set that was read back and proven when it was made, and is not taken for a point."""

    set_id: str
    at: datetime
    doubt: Doubt


@dataclass(frozen=True)
class Points:
    """`proven`: when the complete, proven points were taken, oldest first; `future`: their ids."""

    proven: tuple[datetime, ...]
    doubtful: tuple[Doubtful, ...] = ()
    future: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gap:
    """The time between two consecutive points.

    `due_at` is when the schedule wanted the next one; None when it is too short to be late. The
    gap is `open` if it lasts until now; without `after_point` it begins with the records, before
    which nothing is known.
    """

    start: datetime
    end: datetime
    due_at: datetime | None
    until_now: bool = False
    after_point: bool = True

    @property
    def length(self) -> timedelta:
        """How much data a loss at its end would have cost."""
        return self.end - self.start

    @property
    def late(self) -> bool:
        """Whether it was longer than the schedule promises: status then says `overdue`."""
        return self.due_at is not None and self.end > self.due_at + GRACE


def points_of(
    kept: Iterable[RestorePoint],
    made: Iterable[MadeSet],
    missing: Sequence[MissingPoint],
    ours: frozenset[str],
    now: datetime,
) -> Points:
    """When there was a complete, proven point of this installation, kept or removed since.

    Of a set that is kept, its documents say what it is. Of one that retention removed, only its
    run is known: it was read back and proven; one that a person began may have had one source.
    """
    known = {one.id: one for one in kept}
    lost: Mapping[str, MissingPoint] = {one.id: one for one in missing}
    proven: set[datetime] = set()
    doubtful: list[Doubtful] = []
    future: set[str] = set()

    def enter(point_id: str, at: datetime, doubt: Doubt | None) -> None:
        if at > now + AHEAD:
            future.add(point_id)
        elif doubt is not None:
            doubtful.append(Doubtful(point_id, at, doubt))
        else:
            proven.add(min(at, now))

    for one in known.values():
        if one.protects and one.instance in ours and one.id not in lost:
            enter(one.id, one.created_at, None)
    for run in made:
        at = _instant_of(run.set_id)
        if at is None:
            continue
        if run.set_id in lost:
            enter(run.set_id, at, lost[run.set_id].kind)
        elif run.set_id not in known:
            enter(run.set_id, at, "not_known" if run.trigger == "manual" else None)
        elif not known[run.set_id].protects:
            enter(run.set_id, at, "does_not_protect")
    return Points(
        tuple(sorted(proven)),
        tuple(sorted(doubtful, key=lambda one: (one.at, one.set_id))),
        tuple(sorted(future)),
    )


def gaps_of(
    proven: Sequence[datetime], start: datetime, end: datetime, schedule: Crontab
) -> tuple[Gap, ...]:
    """The gaps between `proven` (sorted) that reach into the period, the last one until now.

    The first begins with the newest point before the period, if there is one.
    """
    first = bisect_right(proven, start)
    last = bisect_right(proven, end)
    before = first > 0
    edges = [proven[first - 1] if before else start, *proven[first:last], end]
    found = []
    for number, (here, there) in enumerate(pairwise(edges)):
        if there > here:
            due = schedule.next_after(here) if there - here > GRACE else None
            found.append(Gap(here, there, due, number == len(edges) - 2, before or number > 0))
    return tuple(found)


def largest(gaps: Iterable[Gap]) -> Gap | None:
    """The longest gap, the newest of equals; None when there is none."""
    return max(gaps, key=lambda one: (one.length, one.start), default=None)


def within(gap: Gap, times: Sequence[datetime]) -> slice:
    """Which of `times` (sorted) lie in a gap."""
    return slice(bisect_left(times, gap.start), bisect_right(times, gap.end))


def longest_interval(schedule: Crontab, start: datetime, end: datetime) -> timedelta:
    """The longest time between two consecutive due instants that reaches into a period.

    All days on which something is due are alike: one is gone through, of the others the nights.
    """
    longest = timedelta(0)
    due = schedule.last_until(start)
    whole_day = schedule.next_after(_end_of_day(due)).date()
    while due < end:
        if due.date() > whole_day:
            due = max(due, schedule.last_until(_end_of_day(due)))
            if due >= end:
                break
        following = schedule.next_after(due)
        longest = max(longest, following - due)
        due = following
    return longest


def _end_of_day(instant: datetime) -> datetime:
    midnight = datetime(instant.year, instant.month, instant.day, tzinfo=UTC)
    return midnight + timedelta(days=1) - timedelta(microseconds=1)


def _instant_of(set_id: str) -> datetime | None:
    """The instant that an id names; None for one that names none."""
    try:
        return datetime.fromisoformat(set_id.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        return None
