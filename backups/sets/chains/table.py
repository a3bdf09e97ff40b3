"""The tables of chains: what this host knows of those in the store, and of its own as it goes.

Whoever writes here has checked what it enters; `mark` is how it was found to be marked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backups.model import Mark


@dataclass(frozen=True)
class PointRow:
    """A point of a chain that is in no pack; `instant` in milliseconds, `sha256` as stored."""

    chain: str
    number: int
    sequence: int
    instant: int
    key: str
    bytes: int
    sha256: str
    mark: Mark
    proven: bool
    suspect: str | None = None


@dataclass(frozen=True)
class ChainRow:
    """A chain with its documents; `end` is None while it goes on."""

    id: str
    instance: str
    head: bytes
    head_mark: Mark
    end: bytes | None
    end_mark: Mark | None


def note_head(
    connection: sqlite3.Connection, chain: str, instance: str, head: bytes, mark: Mark
) -> None:
    """Enter a chain, or its head anew."""
    connection.execute(
        "INSERT INTO chains(id, instance, head, head_mark) VALUES (?, ?, ?, ?) ON CONFLICT(id)"
        " DO UPDATE SET head = excluded.head, head_mark = excluded.head_mark",
        (chain, instance, head, mark),
    )


def note_end(connection: sqlite3.Connection, chain: str, end: bytes, mark: Mark) -> None:
    """Enter why nothing follows in a chain that is known."""
    connection.execute("UPDATE chains SET end = ?, end_mark = ? WHERE id = ?", (end, mark, chain))


def note_point(connection: sqlite3.Connection, point: PointRow) -> None:
    """Enter a point, or what is known of it now."""
    connection.execute(
        "INSERT OR REPLACE INTO chain_points(chain, number, sequence, instant, key, bytes, sha256,"
        " mark, proven, suspect) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            point.chain,
            point.number,
            point.sequence,
            point.instant,
            point.key,
            point.bytes,
            point.sha256,
            point.mark,
            point.proven,
            point.suspect,
        ),
    )


def chain(connection: sqlite3.Connection, chain_id: str) -> ChainRow | None:
    """One chain, if it is known."""
    row = connection.execute(f"{_CHAINS} WHERE id = ?", (chain_id,)).fetchone()
    return ChainRow(*row) if row else None


def chains(connection: sqlite3.Connection) -> list[ChainRow]:
    """All chains, the newest full first."""
    return [ChainRow(*row) for row in connection.execute(f"{_CHAINS} ORDER BY id DESC")]


def last_point(connection: sqlite3.Connection, chain_id: str) -> PointRow | None:
    """The highest number of a chain that is in no pack."""
    row = connection.execute(
        f"{_POINTS} WHERE chain = ? ORDER BY number DESC LIMIT 1", (chain_id,)
    ).fetchone()
    return _point(row) if row else None


def is_restored(connection: sqlite3.Connection, chain_id: str) -> bool:
    """Whether a restore has ended a chain, as far as its end says; the end was checked before."""
    row = chain(connection, chain_id)
    if row is None or row.end is None:
        return False
    try:
        return bool(json.loads(row.end)["reason"] == "restore")
    except (ValueError, KeyError, TypeError):
        return False


def points(connection: sqlite3.Connection, chain_id: str) -> Iterator[PointRow]:
    """The points of a chain that are in no pack, by number."""
    for row in connection.execute(f"{_POINTS} WHERE chain = ? ORDER BY number", (chain_id,)):
        yield _point(row)


def highest_sequence(connection: sqlite3.Connection) -> int:
    """The highest place in the line that any known point of a chain has; 0 where there is none."""
    row = connection.execute("SELECT max(sequence) FROM chain_points").fetchone()
    return int(row[0] or 0)


def highest_number(connection: sqlite3.Connection, chain_id: str) -> int:
    """The highest number of a chain that is known to be stored, packed or not; 0 for none."""
    row = connection.execute(
        "SELECT max((SELECT coalesce(max(number), 0) FROM chain_points WHERE chain = ?1),"
        " (SELECT coalesce(max(last), 0) FROM chain_objects WHERE chain = ?1 AND kind = 'pack'"
        " AND mark = 'valid'))",
        (chain_id,),
    ).fetchone()
    return int(row[0])


def has_numbers(connection: sqlite3.Connection, chain_id: str) -> bool:
    """Whether anything with a number is known to lie in a chain, whoever put it there."""
    row = connection.execute(
        "SELECT EXISTS(SELECT 1 FROM chain_points WHERE chain = ?1)"
        " OR EXISTS(SELECT 1 FROM chain_objects WHERE chain = ?1 AND last > 0)",
        (chain_id,),
    ).fetchone()
    return bool(row[0])


_CHAINS = "SELECT id, instance, head, head_mark, end, end_mark FROM chains"
_POINTS = (
    "SELECT chain, number, sequence, instant, key, bytes, sha256, mark, proven, suspect"
    " FROM chain_points"
)


def _point(row: sqlite3.Row | tuple[Any, ...]) -> PointRow:
    chain_id, number, sequence, instant, key, size, sha256, mark, proven, suspect = row
    return PointRow(
        chain_id, number, sequence, instant, key, size, sha256, mark, bool(proven), suspect
    )
