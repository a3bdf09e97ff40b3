"""The last 24 hours, second by second: what can be restored, what cannot, and why. Pure.

    sets      |            |                 |        each is one second that can be restored
    bars      ###########      ##########==###########   each second of them can be
    gaps                 ......          ..             named, with what comes before them

A second is good when a restore to it gives the data of that second: of a chain from its first
point to its last one, as long as none is missing between. All instants are aware, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from backups.view import units
from backups.view.stretches import (
    NOT_FOLLOWED,
    NOTHING_NEWER,
    Stretch,
    cut_by,
    joined,
)
from backups.vocabulary.following import Outage
from shared.words import counted

LENGTH = timedelta(hours=24)

_SECOND = timedelta(seconds=1)
# A point is on its way to the store for less; that is no gap.
_ON_ITS_WAY = timedelta(seconds=5)
_HOURS_BETWEEN_TICKS = 3


@dataclass(frozen=True)
class Mark:
    """A set that can be restored: a second of its own."""

    at: datetime
    set_id: str


@dataclass(frozen=True)
class Bar:
    """Whole seconds, the first and the last one included, that can all be restored."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Gap:
    """The time between two bars, or beside one; its `start` and `end` themselves are not in it."""

    start: datetime
    end: datetime
    reason: str

    @property
    def words(self) -> str:
        """`no point from 02:10:00 to 02:14:30: the store was away`."""
        return f"no point from {span(self.start, self.end)}: {self.reason}"


@dataclass(frozen=True)
class Tick:
    """A full hour on the axis; `minor` where there is only room on a wide one."""

    at: datetime
    text: str
    minor: bool


@dataclass(frozen=True)
class Timeline:
    """What of the time from `begin` to `end`, 24 hours, can be restored; all of it oldest first.

    `newest` is the instant of the newest point or set, `earlier` that of the newest before `begin`.
    """

    begin: datetime
    end: datetime
    bars: tuple[Bar, ...]
    gaps: tuple[Gap, ...]
    marks: tuple[Mark, ...]
    newest: datetime | None
    earlier: datetime | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing of these hours can be restored."""
        return not self.bars and not self.marks

    @property
    def chosen(self) -> datetime:
        """The second at which pointing begins: the newest that can be restored."""
        seconds = [*(bar.end for bar in self.bars), *(mark.at for mark in self.marks)]
        return max(seconds, default=self.end)

    def place(self, at: datetime) -> float:
        """Where an instant lies, from 0 to 100; what lies outside is at an end."""
        return min(max((at - self.begin) / (self.end - self.begin) * 100, 0.0), 100.0)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Every third hour; midnight has the name of its day."""
        hour = self.begin.replace(minute=0, second=0, microsecond=0)
        hours = (hour + timedelta(hours=number) for number in range(1, 26))
        return tuple(
            Tick(
                at,
                f"{at.day} {at:%b}" if at.hour == 0 else f"{at:%H}:00",
                minor=bool(at.hour % (2 * _HOURS_BETWEEN_TICKS)),
            )
            for at in hours
            if at.hour % _HOURS_BETWEEN_TICKS == 0 and at <= self.end
        )

    @property
    def summary(self) -> str:
        """All of it in a sentence, for those who do not see it."""
        if not self.bars:
            if not self.marks:
                return "Nothing of the last 24 hours can be restored."
            points = counted(len(self.marks), "restore point")
            return f"{points} in the last 24 hours; {NOT_FOLLOWED}."
        first, last = self.bars[0], self.bars[-1]
        text = f"Every second from {span(first.start, last.end)} UTC can be restored"
        inner = [gap for gap in self.gaps if first.start <= gap.start and gap.end <= last.end]
        if inner:
            lost = sum((gap.end - gap.start for gap in inner), timedelta(0))
            count = len(inner)
            text += f", except {count:,} gap{'s' if count > 1 else ''}, {units.age(lost)} in all"
        return f"{text}."


@dataclass(frozen=True)
class Choice:
    """A second that was asked for, and what a restore can give.

    `good` is the nearest second at or before it that can be restored, None where none is known;
    `after` the next one after it, where it is not good itself; `reason` why it is not.
    """

    at: datetime
    good: datetime | None
    after: datetime | None = None
    reason: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether that very second can be restored."""
        return self.good == self.at

    def words(self, now: datetime) -> str:
        """What it is, in a sentence or two; `static/timeline.js` says the same."""
        asked = units.clock(self.at, now)
        if self.reason is None:
            return f"{asked} can be restored."
        text = f"{asked}: no point, {self.reason}."
        return (
            f"{text} The nearest before it is {units.clock(self.good, now)}." if self.good else text
        )


def timeline(
    stretches: Iterable[Stretch],
    sets: Iterable[Mark],
    now: datetime,
    *,
    followed_until: datetime | None = None,
    outages: Iterable[Outage] = (),
) -> Timeline:
    """Put together what is known, in any order; also of earlier days.

    `followed_until` is up to when the follower knows that all changes are stored: since the newest
    point nothing has changed. What lies after `now` counts for nothing.
    """
    end = now.astimezone(UTC).replace(microsecond=0)
    begin = end - LENGTH
    known = [one for one in stretches if one.start <= now]
    runs = list(cut_by(joined(known, followed_until), outages))
    bars, reasons = [], []
    for run in runs:
        start, last = max(_ceiling(run.start), begin), min(_floor(run.end), end)
        if start <= last:
            bars.append(Bar(start, last))
            reasons.append(run.reason)
    marks = sorted((replace(one, at=_ceiling(one.at)) for one in sets), key=lambda one: one.at)
    points = [min(one.end, now) for one in known if one.proven]
    instants = [*points, *(one.at for one in marks if one.at <= now)]
    earlier = [_floor(run.end) for run in runs if run.end < begin]
    earlier += [one.at for one in marks if one.at < begin]
    return Timeline(
        begin=begin,
        end=end,
        bars=tuple(bars),
        gaps=tuple(_gaps(bars, reasons, begin, end)),
        marks=tuple(one for one in marks if begin <= one.at <= end),
        newest=max(instants, default=None),
        earlier=max(earlier, default=None),
    )


def pick(shown: Timeline, at: datetime) -> Choice:
    """What a second is, and the nearest good one at or before it; for one in the last 24 hours."""
    at = _floor(at.astimezone(UTC))
    for bar in shown.bars:
        if bar.start <= at <= bar.end:
            return Choice(at, at)
    seconds = [second for bar in shown.bars for second in (bar.start, bar.end)]
    seconds += [one.at for one in shown.marks]
    seconds += [shown.earlier] if shown.earlier else []
    good = max((one for one in seconds if one <= at), default=None)
    if good == at:
        return Choice(at, at)
    return Choice(
        at, good, min((one for one in seconds if one > at), default=None), _why(shown, at)
    )


def _why(shown: Timeline, at: datetime) -> str:
    if at > shown.end:
        return "it lies in the future"
    for gap in shown.gaps:
        if gap.start <= at <= gap.end:
            return gap.reason
    return NOTHING_NEWER if shown.bars and at > shown.bars[-1].end else NOT_FOLLOWED


def read_second(text: str, now: datetime) -> datetime | None:
    """The instant that a person typed, in UTC: `2026-11-27T13:42:07`, or a time of day alone.

    The latter is the newest such time at or before `now`. None for what is neither.
    """
    text = text.strip().upper().removesuffix("Z")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(f"{now.astimezone(UTC):%Y-%m-%d}T{text}")
        except ValueError:
            return None
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
        return found if found <= now else found - timedelta(days=1)
    if len(text) <= len("2026-11-27"):
        return None  # a day is no second
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def span(start: datetime, end: datetime) -> str:
    """`02:10:00 to 02:14:30`; with the day of each where they are not on one."""
    if start.date() == end.date():
        return f"{start:%H:%M:%S} to {end:%H:%M:%S}"
    return f"{units.second(start)} to {units.second(end)}"


def _gaps(
    bars: Sequence[Bar], reasons: Sequence[str], begin: datetime, end: datetime
) -> Iterator[Gap]:
    if not bars:
        return
    if bars[0].start > begin:
        yield Gap(begin, bars[0].start, NOT_FOLLOWED)
    for (before, after), reason in zip(pairwise(bars), reasons, strict=False):
        if after.start - before.end > _SECOND:
            yield Gap(before.end, after.start, reason)
    if end - bars[-1].end > _ON_ITS_WAY:
        yield Gap(bars[-1].end, end, reasons[-1])


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)


def _ceiling(at: datetime) -> datetime:
    floor = _floor(at)
    return floor if floor == at else floor + _SECOND
