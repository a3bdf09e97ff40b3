"""`Database`: what the storages need of an engine. They write SQL that both engines understand.

Portable here means: `?` for values, `ON CONFLICT`, `CAST(… AS BLOB)` for the UTF-8 bytes of a text,
and no function that only one engine has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Cursor(Protocol):
    """What a statement has returned."""

    @property
    def rowcount(self) -> int:
        """How many rows a statement has changed, over all values of `executemany`."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """The rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A transaction that is open; a `sqlite3.Connection` is one."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Cursor:
        """Run one statement for each of many values."""


class Database(Protocol):
    """The tables of one source. Safe from many threads and processes; raises `DatabaseError`.

    One transaction writes to a source at a time; a reading sees the source as of one instant.
    """

    def transaction(self) -> AbstractContextManager[Connection]:
        """A write transaction: commits when the block ends, rolls back when it raises."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A read transaction; nothing is written."""

    def version(self, connection: Connection) -> int:
        """The version of what this transaction sees: which form its rows have."""

    def advance(self, connection: Connection, version: int, script: str) -> None:
        """Bring it to this version, by a script of SQLite where its tables are of the one before.

        PostgreSQL has the newest tables from the start, whatever form the rows have.
        """

    def content(self, connection: Connection) -> tuple[int, int]:
        """Two numbers of which one differs after a restore."""

    def close(self) -> None:
        """Close what is open; closing twice is allowed."""
