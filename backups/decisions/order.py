"""Which of two restore points is the newer one, and what lies in the future. Pure.

Clocks step. So each set has a number, its `sequence`, one higher than any before it in its *line*:
the installation that made it and those that it succeeds.

- Two sets of one line with a sequence are ordered by it (equal: by instant, then by id).
- All others are ordered by their instant. One without a sequence stands before the first of a line
  with a later instant.
- What lies in the future is ordered by its instant alone, and moves nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from shared.bounded import HIGHEST_SEQUENCE

# Clocks of hosts that are kept in time differ by less; more lies in the future.
FUTURE_TOLERANCE = timedelta(minutes=5)

_BEGIN = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Placeable(Protocol):
    """What the place of a restore point depends on."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def created_at(self) -> datetime:
        """Its instant."""

    @property
    def instance(self) -> str:
        """Who made it."""

    @property
    def sequence(self) -> int | None:
        """Its number in the line, if it has one."""


P = TypeVar("P", bound=Placeable)


def is_future(instant: datetime, now: datetime) -> bool:
    """Whether an instant lies so far in the future that it counts for nothing."""
    return instant - now > FUTURE_TOLERANCE


def end_of_present(now: datetime) -> datetime:
    """The last instant that does not lie in the future."""
    return now + min(FUTURE_TOLERANCE, _END - now)


def newer(one: P | None, other: P | None) -> P | None:
    """The newer one of two points of one line: by sequence where both have one, else by instant."""
    if one is None or other is None:
        return one or other
    if one.sequence is not None and other.sequence is not None:
        return other if other.sequence > one.sequence else one
    return other if other.created_at > one.created_at else one


def next_sequence(highest: int | None) -> int:
    """The number of a new set, after the `highest` of its line."""
    return min((highest or 0) + 1, HIGHEST_SEQUENCE)


def newest_first(points: Iterable[P], ours: Collection[str], now: datetime) -> list[P]:
    """The restore points in order; `ours` are the instances of one line."""
    listed = list(points)
    found = places(listed, ours, now)
    return [listed[index] for index in sorted(range(len(listed)), key=found.__getitem__)[::-1]]


def places(points: Sequence[Placeable], ours: Collection[str], now: datetime) -> list[str]:
    """A text for each of `points` that sorts as they do, oldest first; no two are the same.

    Of a line, in the order of its sequence, each set stands at the latest instant so far.
    """
    lines: dict[str, list[int]] = {}
    found = [_text(one.created_at, "", 0, one) for one in points]
    numbered = [
        (index, one)
        for index, one in enumerate(points)
        if one.sequence is not None and not is_future(one.created_at, now)
    ]
    line_of = _lines([one for _, one in numbered if one.instance in ours])
    for index, one in numbered:
        lines.setdefault(line_of.get(one.instance, f"+{one.instance}"), []).append(index)
    for line, members in lines.items():
        latest = _BEGIN
        for index in sorted(members, key=lambda member: _number(points[member])):
            one = points[index]
            latest = max(latest, one.created_at)
            found[index] = _text(latest, line, one.sequence or 0, one)
    return found


def _lines(points: Iterable[Placeable]) -> dict[str, str]:
    """The line of each instance of ours.

    One that took over counts on where its predecessor ended. One that was adopted after it had
    counted from 1 did not: its numbers say nothing beside the other's, and it is a line of its own.
    """
    numbers: dict[str, list[tuple[int, datetime]]] = {}
    for one in points:
        numbers.setdefault(one.instance, []).append((one.sequence or 0, one.created_at))
    line_of: dict[str, str] = {}
    highest = 0
    for instance in sorted(numbers, key=lambda each: (min(numbers[each]), each)):
        lowest = min(numbers[instance])[0]
        line_of[instance] = "=" if lowest > highest else f"={instance}"
        if lowest > highest:
            highest = max(numbers[instance])[0]
    return line_of


def microseconds(instant: datetime) -> int:
    """Since the beginning of the year 1, so that it is never negative."""
    return (instant - _BEGIN) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """The instant of `microseconds`."""
    return _BEGIN + count * _MICROSECOND


def _number(one: Placeable) -> tuple[int, datetime, str]:
    return one.sequence or 0, one.created_at, one.id


def _text(at: datetime, line: str, sequence: int, one: Placeable) -> str:
    """At one instant those of a line come first, in their order, then those without a number."""
    group = f"0{line}" if sequence else "1"
    own = microseconds(one.created_at)
    return f"{microseconds(at):018d} {group} {sequence:016d} {own:018d} {one.id}"
