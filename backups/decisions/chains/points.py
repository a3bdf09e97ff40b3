"""Which points of a chain can be restored, and which of all is the newest at a time. Pure.

A point is a number of a chain; 0 is its full. It can be restored while what it needs is there
(`closure.py`): so a chain is divided into stretches, and a gap between two of them is never bridged
by what is near enough. The newest point at a time is the one with the highest `sequence` among
those whose instant is not later: clocks step, numbers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from backups.decisions.chains.closure import ChainObject


@dataclass(frozen=True, order=True)
class Stretch:
    """Points of a chain without a gap, from `first` to `last`, each of which can be restored."""

    first: int
    last: int


@dataclass(frozen=True)
class PointFacts:
    """What decides about a point; `instant` is in milliseconds since 1970.

    `good` is whether it is proven, marked, and not suspect.
    """

    number: int
    sequence: int
    instant: int
    good: bool


@dataclass(frozen=True)
class SetAside:
    """What a restore passed over: all points after `after`, up to `last`, by their sequence."""

    after: int
    last: int


def stretches(objects: Iterable[ChainObject]) -> list[Stretch]:
    """The points of a chain that can be restored while its full is there, in order; without 0."""
    found = list(objects)
    starts = sorted({0, *(one.last for one in found if one.kind == "differential")})
    steps: dict[int, int] = {}
    for one in found:
        if one.kind in ("increment", "pack"):
            for number in range(one.first, one.last + 1):
                steps[number] = max(steps.get(number, 0), one.last)
    stretches_: list[Stretch] = []
    for start in starts:
        if stretches_ and start <= stretches_[-1].last:
            continue
        last = start
        while (then := steps.get(last + 1)) is not None:
            last = then
        first = max(start, 1)
        if last < first:
            continue
        if stretches_ and stretches_[-1].last + 1 == first:
            stretches_[-1] = Stretch(stretches_[-1].first, last)
        else:
            stretches_.append(Stretch(first, last))
    return stretches_


def is_usable(number: int, usable: Iterable[Stretch]) -> bool:
    """Whether a point lies in one of the stretches."""
    return any(one.first <= number <= one.last for one in usable)


def newest_before(
    usable: Sequence[Stretch],
    at: int | None,
    instant_of: Callable[[int], int | None],
    facts_of: Callable[[int], PointFacts | None],
) -> PointFacts | None:
    """The newest good point of a chain with an instant up to `at` (None: of all).

    Asks for few of the numbers, because instants never go back in a chain: each may be an object to
    be fetched. One of which nothing is known (None) counts as later, and as not good.
    """
    numbers = _Numbers(usable)
    low, high = 0, len(numbers)
    newest = instant_of(numbers[high - 1]) if high and at is not None else None
    if at is None or (newest is not None and newest <= at):
        low = high
    else:
        while low < high:
            middle = (low + high) // 2
            instant = instant_of(numbers[middle])
            if instant is None or instant > at:
                high = middle
            else:
                low = middle + 1
    for place in range(low - 1, -1, -1):
        facts = facts_of(numbers[place])
        if facts is not None and facts.good:
            return facts
    return None


class _Numbers:
    """The numbers of some stretches, by their place; there may be many."""

    def __init__(self, usable: Sequence[Stretch]) -> None:
        self._ranges = [range(one.first, one.last + 1) for one in usable]

    def __len__(self) -> int:
        return sum(len(one) for one in self._ranges)

    def __getitem__(self, place: int) -> int:
        for one in self._ranges:
            if place < len(one):
                return one[place]
            place -= len(one)
        raise IndexError(place)


def is_set_aside(sequence: int, asides: Collection[SetAside]) -> bool:
    """Whether a restore has passed over the point with this sequence."""
    return any(one.after < sequence <= one.last for one in asides)
