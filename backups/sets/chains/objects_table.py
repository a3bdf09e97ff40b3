"""The table of the other objects of chains: packs, differentials, checks, a row for each.

Instants are in milliseconds since 1970. Whoever writes here has checked what it enters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from backups.format.chain_keys import ChainKind
from backups.model import Mark

Document = bytes


@dataclass(frozen=True)
class ObjectRow:
    """A pack, a differential or a check; what was not read has no mark, instants and points."""

    key: str
    chain: str
    kind: ChainKind
    first: int
    last: int
    bytes: int
    mark: Mark | None = None
    document: Document | None = None
    first_instant: int | None = None
    last_instant: int | None = None
    points: int | None = None
    sha256: str | None = None


_COLUMNS = (
    "key, chain, kind, first, last, bytes, mark, document, first_instant, last_instant, points,"
    " sha256"
)


def note_object(connection: sqlite3.Connection, row: ObjectRow) -> None:
    """Enter an object, or what is known of it now."""
    connection.execute(
        f"INSERT OR REPLACE INTO chain_objects({_COLUMNS})"  # noqa: S608
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.key,
            row.chain,
            row.kind,
            row.first,
            row.last,
            row.bytes,
            row.mark,
            row.document,
            row.first_instant,
            row.last_instant,
            row.points,
            row.sha256,
        ),
    )


def objects(connection: sqlite3.Connection, chain: str, *kinds: ChainKind) -> list[ObjectRow]:
    """Those of a chain, by kind and number; only of some `kinds`, if they are given."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM chain_objects WHERE chain = ?"  # noqa: S608
        " ORDER BY kind, first, last",
        (chain,),
    )
    found = [_object(row) for row in rows]
    return [one for one in found if not kinds or one.kind in kinds]


def count_below(connection: sqlite3.Connection, start: str) -> int:
    """How many objects have a key that begins with `start`."""
    row = connection.execute(
        "SELECT count(*) FROM chain_objects WHERE key >= ?1 AND key < ?1 || '~'", (start,)
    ).fetchone()
    return int(row[0])


def refused(connection: sqlite3.Connection) -> list[str]:
    """The keys of what is not used: heads, ends and objects without a valid mark, or broken."""
    rows = connection.execute(
        "SELECT key FROM chain_objects WHERE mark IS NOT NULL AND mark <> 'valid'"
        " UNION ALL SELECT 'chains/' || id || '/head.json' FROM chains WHERE head_mark <> 'valid'"
        " UNION ALL SELECT 'chains/' || id || '/end.json' FROM chains WHERE end_mark <> 'valid'"
        " ORDER BY 1"
    )
    return [str(row[0]) for row in rows]


def forget_objects(connection: sqlite3.Connection, keys: Collection[str]) -> None:
    """Forget objects that are gone from the store, of whatever kind they were."""
    each = [(key,) for key in keys]
    connection.executemany("DELETE FROM chain_objects WHERE key = ?", each)
    connection.executemany("DELETE FROM chain_points WHERE key = ?", each)


def forget_points(connection: sqlite3.Connection, chain: str, first: int, last: int) -> None:
    """Forget the points of a chain that a pack stands for from now on."""
    connection.execute(
        "DELETE FROM chain_points WHERE chain = ? AND number BETWEEN ? AND ?", (chain, first, last)
    )


def forget_chain(connection: sqlite3.Connection, chain: str) -> None:
    """Forget a chain, with all of its objects and points."""
    for table, column in (("chains", "id"), ("chain_points", "chain"), ("chain_objects", "chain")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (chain,))  # noqa: S608


def suspect_after(connection: sqlite3.Connection, chain: str, good: int, reason: str) -> None:
    """Note that what follows a good point of a chain should not be trusted, and why."""
    connection.execute(
        "UPDATE chain_points SET suspect = ? WHERE chain = ? AND number > ? AND suspect IS NULL",
        (reason, chain, good),
    )


def accept_to(connection: sqlite3.Connection, chain: str, good: int) -> None:
    """Note that a person trusts the points of a chain up to `good`."""
    connection.execute(
        "UPDATE chain_points SET suspect = NULL WHERE chain = ? AND number <= ?", (chain, good)
    )


def _object(row: sqlite3.Row | tuple[Any, ...]) -> ObjectRow:
    return ObjectRow(*row)
