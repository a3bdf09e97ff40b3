"""Which points of the chains that this host knows can be restored without a break."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from backups.errors import ManifestInvalid
from backups.format import chain as chain_format
from backups.format.chain import End, EndReason, Head
from backups.format.chain_keys import end_key, head_key


@dataclass(frozen=True)
class ChainStretch:
    """Points of a chain from number `first` to `last`, of which none is missing.

    Instants are in milliseconds since 1970. `follows` says that `first` is the number after the
    last of the stretch before it; `ended` why nothing follows in the chain.
    """

    chain: str
    first: int
    last: int
    first_instant: int
    last_instant: int
    follows: bool = False
    proven: bool = True
    ended: EndReason | None = None


def stretches(
    connection: sqlite3.Connection, since: int, instances: Collection[str]
) -> Iterator[ChainStretch]:
    """Those of the chains of `instances`, by chain and number: since the last point before `since`.

    What has no valid mark is left out, and what is suspect or not proven is not `proven`. A chain
    in which nothing has changed yet has a stretch of number 0, its full.
    """
    chains = connection.execute(
        "SELECT id, instance, end, end_mark, head FROM chains WHERE head_mark = 'valid' ORDER BY id"
    ).fetchall()
    for chain, instance, end, end_mark, head in chains:
        if instance not in instances:
            continue
        before = connection.execute(_LAST_BEFORE, {"chain": chain, "since": since}).fetchone()
        start = before[0] if before else 0
        rows = connection.execute(_STRETCHES, {"chain": chain, "start": start})
        found = [
            ChainStretch(chain, first, last, start_at, end_at, proven=bool(good))
            for first, last, start_at, end_at, good in rows
        ]
        ended = _reason(chain, end) if end_mark == "valid" else None
        if not found and (at := _began(chain, head)) is not None:
            yield ChainStretch(chain, 0, 0, at, at, follows=True, ended=ended)
        so_far = 0
        for place, one in enumerate(found):
            is_last = place == len(found) - 1
            follows = one.first <= so_far + 1  # a pack and rows of its points may overlap
            yield replace(one, follows=follows, ended=ended if is_last else None)
            so_far = max(so_far, one.last)


def _began(chain: str, document: bytes) -> int | None:
    try:
        head = chain_format.load(Head, document, key=head_key("", chain), chain=chain)
    except ManifestInvalid:
        return None
    return int(head.at.timestamp() * 1000)


def _reason(chain: str, document: bytes) -> EndReason | None:
    try:
        return chain_format.load(End, document, key=end_key("", chain), chain=chain).reason
    except ManifestInvalid:
        return None


# Instants never go back within a chain, so that the newest rows are enough to find it.
_LAST_BEFORE = """
    SELECT number FROM chain_points WHERE chain = :chain AND instant < :since
    ORDER BY number DESC LIMIT 1
"""
# Of points in a row that are alike, and of packs.
_STRETCHES = """
    SELECT min(number), max(number), min(instant), max(instant), good FROM (
        SELECT number, instant, good,
            number - row_number() OVER (PARTITION BY good ORDER BY number) AS island
        FROM (
            SELECT number, instant, proven AND suspect IS NULL AS good FROM chain_points
            WHERE chain = :chain AND number >= :start AND mark = 'valid'
        )
    ) GROUP BY good, island
    UNION ALL
    SELECT first, last, first_instant, last_instant, 1 FROM chain_objects
    WHERE chain = :chain AND kind = 'pack' AND mark = 'valid' AND first_instant IS NOT NULL
    ORDER BY 1
"""
