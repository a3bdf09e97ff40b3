"""Objects of chains as decisions see them: kinds, numbers, sizes and instants, without bytes."""

from __future__ import annotations

from datetime import datetime

from backups.decisions.chains.closure import ChainObject
from backups.format.chain_keys import ChainKind


def milliseconds(instant: datetime) -> int:
    """An instant as increments have it."""
    return round(instant.timestamp() * 1000)


def increment(number: int, at: int | None = None, size: int = 100) -> ChainObject:
    """An increment under the key `i17`."""
    return ChainObject(f"i{number}", "increment", number, number, size, at)


def increments(first: int, last: int) -> list[ChainObject]:
    """The increments `first` to `last`."""
    return [increment(number) for number in range(first, last + 1)]


def differential(number: int, at: int | None = None, size: int = 1000) -> ChainObject:
    """A differential under the key `d17`."""
    return ChainObject(f"d{number}", "differential", number, number, size, at)


def pack(first: int, last: int, at: int | None = None, size: int = 5000) -> ChainObject:
    """A pack under the key `p1-17`."""
    return ChainObject(f"p{first}-{last}", "pack", first, last, size, at)


def document(kind: ChainKind, size: int = 10) -> ChainObject:
    """A head, an end or a check, under a key of that name."""
    return ChainObject(kind, kind, 0, 0, size)
