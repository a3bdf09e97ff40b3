"""What a point of a chain needs: full, newest differential before it, what is between. Pure.

It is one hop to find: a differential changes the full itself, and an increment the state before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from backups.format.chain_keys import ChainKind


@dataclass(frozen=True)
class ChainObject:
    """An object of a chain: the numbers that it covers (0 for a document), and its bytes as stored.

    `last_instant` is that of its last point, in milliseconds since 1970; None where this host does
    not know it.
    """

    key: str
    kind: ChainKind
    first: int
    last: int
    bytes: int
    last_instant: int | None = None


def needs(number: int, objects: Iterable[ChainObject]) -> tuple[ChainObject, ...] | None:
    """What the point `number` takes beside its full, in the order in which it is applied.

    None where one of them is not there. The full alone is number 0. A number that a pack has is
    taken from there, also where the increment is there, too.
    """
    of_chain = Steps(objects)
    return of_chain.to(number)


class Steps:
    """The ways through the objects of one chain; made once for many questions."""

    def __init__(self, objects: Iterable[ChainObject]) -> None:
        found = list(objects)
        self._differentials = {one.last: one for one in found if one.kind == "differential"}
        self._increments = {one.last: one for one in found if one.kind == "increment"}
        self._packs = sorted(
            (one for one in found if one.kind == "pack"), key=lambda one: (one.first, one.last)
        )

    def to(self, number: int) -> tuple[ChainObject, ...] | None:
        """See `needs`."""
        start = max((one for one in self._differentials if one <= number), default=0)
        begun = [self._differentials[start]] if start else []
        between = list(self._between(start, number))
        if (between[-1].last if between else start) < number:
            return None
        return (*begun, *between)

    def _between(self, start: int, number: int) -> Iterator[ChainObject]:
        """What leads from `start` to `number`, as far as it goes without a gap."""
        at, packs, passed = start, self._packs, 0
        while at < number:
            while passed < len(packs) and packs[passed].last <= at:
                passed += 1
            step = max(
                (
                    one
                    for one in _beginning_by(at + 1, islice(packs, passed, None))
                    if one.last > at
                ),
                key=lambda one: one.last,
                default=self._increments.get(at + 1),
            )
            if step is None:
                return
            yield step
            at = step.last


def _beginning_by(number: int, packs: Iterable[ChainObject]) -> Iterator[ChainObject]:
    return takewhile(lambda one: one.first <= number, packs)


def numbers_of(objects: Sequence[ChainObject]) -> set[int]:
    """The numbers of all points that increments, packs and differentials of a chain stand for."""
    return {
        number
        for one in objects
        if one.kind in ("increment", "differential", "pack")
        for number in range(one.first, one.last + 1)
    }
