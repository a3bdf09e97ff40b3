"""Which points of a chain are good without a break, as far as this host knows; no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from backups.decisions.chains.points import Stretch
from backups.format.chain import EndReason
from backups.sets.chains.reading import ChainReader


@dataclass(frozen=True)
class ChainStretch:
    """Points of a chain from number `first` to `last`, of which none is missing.

    Instants are in milliseconds since 1970. `follows` says that `first` is the number after the
    last of the stretch before it; `good`, that they are proven and not suspect; `ended`, why
    nothing follows in the chain.
    """

    chain: str
    first: int
    last: int
    first_instant: int
    last_instant: int
    follows: bool = False
    good: bool = True
    ended: EndReason | None = None


def stretches_of(chain: ChainReader) -> Iterator[ChainStretch]:
    """Those of a chain, by number. One in which nothing has changed yet has its full, number 0.

    What is known of no instant is left out, as if it were missing.
    """
    usable = chain.stretches()
    if not usable:
        at = int(chain.head.at.timestamp() * 1000)
        found = [ChainStretch(chain.id, 0, 0, at, at)]
    else:
        found = [part for one in usable for part in _parts(chain, one)]
    before = 0
    for place, one in enumerate(found):
        is_last = place == len(found) - 1
        ended = chain.end.reason if chain.end and is_last else None
        yield replace(one, follows=one.first <= before + 1, ended=ended)
        before = one.last


def _parts(chain: ChainReader, one: Stretch) -> Iterator[ChainStretch]:
    """A stretch, divided where its points begin or cease to be good."""
    start = one.first
    for first, last in (*_bad(chain, one), (one.last + 1, one.last)):
        yield from _part(chain, start, first - 1, good=True)
        yield from _part(chain, first, last, good=False)
        start = last + 1


def _part(chain: ChainReader, first: int, last: int, *, good: bool) -> Iterator[ChainStretch]:
    if last < first:
        return
    known = [at for at in (_instant(chain, first), _instant(chain, last)) if at is not None]
    if known:
        yield ChainStretch(chain.id, first, last, known[0], known[-1], good=good)


def _bad(chain: ChainReader, one: Stretch) -> Iterator[tuple[int, int]]:
    """The first and the last number of each run of bad points; few of many points are."""
    known = (chain.points[number] for number in chain.points if one.first <= number <= one.last)
    bad = {point.number for point in known if not point.proven or chain.suspicion(point)}
    if chain.doubt is not None:
        bad |= set(range(max(chain.doubt.good + 1, one.first), one.last + 1))
    for _, run in groupby(enumerate(sorted(bad)), key=lambda each: each[1] - each[0]):
        numbers = [number for _, number in run]
        yield numbers[0], numbers[-1]


def _instant(chain: ChainReader, number: int) -> int | None:
    if (known := chain.instant(number)) is not None:
        return known
    for one in chain.objects.values():
        if one.kind == "pack" and one.mark == "valid":
            if number == one.first:
                return one.first_instant
            if number == one.last:
                return one.last_instant
    return None
