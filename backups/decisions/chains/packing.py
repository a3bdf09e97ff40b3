"""Which points of a chain are to be packed together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from backups.format.pack import MOST_BYTES, MOST_LINE_BYTES, MOST_MEMBERS

_MS_AN_HOUR = 3_600_000


class Packable(Protocol):
    """A point that is in no pack, as this host knows it; `instant` in milliseconds since 1970."""

    @property
    def number(self) -> int:
        """Its number in its chain."""

    @property
    def instant(self) -> int:
        """When it was taken."""

    @property
    def bytes(self) -> int:
        """As stored."""


Point = TypeVar("Point", bound=Packable)


def due(points: Sequence[Point], now: int, *, ended: bool) -> Iterator[Sequence[Point]]:
    """Those of a chain's `points`, by number, that are to be packed now: each time one pack.

    An hour is packed when it is over, and no pack is larger than one may be. All points of a chain
    that has ended are packed; of one that goes on, the newest stays as it is: its follower goes on
    from there. A gap ends a pack.
    """
    left = list(points) if ended else list(points)[:-1]
    this_hour = now // _MS_AN_HOUR
    if not ended:
        left = [one for one in left if one.instant // _MS_AN_HOUR < this_hour]
    pack: list[Point] = []
    size = 0
    for one in left:
        follows = bool(pack) and one.number == pack[-1].number + 1
        same_hour = bool(pack) and one.instant // _MS_AN_HOUR == pack[-1].instant // _MS_AN_HOUR
        fits = len(pack) < MOST_MEMBERS and size + one.bytes <= MOST_BYTES - MOST_LINE_BYTES
        if pack and not (follows and same_hour and fits):
            yield pack
            pack, size = [], 0
        pack.append(one)
        size += one.bytes
    if pack:
        yield pack
