"""`PostgresDatabase`: the tables of one source in PostgreSQL, for hosts that share them.

As in SQLite, one transaction writes to a source at a time, by an advisory lock: the storages read
and then write, and what has a lower number in the inbox was committed earlier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg

from shared.databases.engines.connections import Connections, Raw
from shared.databases.engines.database import Connection
from shared.databases.engines.tables import TABLES
from shared.errors import LeadershipLost

# Of the advisory locks, with the place of the source in `TABLES`.
WRITING = 7_101_992
_BYTES = re.compile(r"CAST\((\w+) AS BLOB\)")


class Rows:
    """What a statement has returned, as a `Cursor`."""

    def __init__(
        self, cursor: psycopg.Cursor[tuple[Any, ...]], rowcount: int | None = None
    ) -> None:
        self._cursor = cursor
        self._rowcount = cursor.rowcount if rowcount is None else rowcount

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        return max(self._rowcount, 0)

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


class Transaction:
    """A `Connection` of a transaction that is open, with what its source was when it began."""

    def __init__(self, raw: Raw, version: int, swaps: int) -> None:
        self.raw = raw
        self.version = version
        self.swaps = swaps

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run one portable statement."""
        return Rows(self.raw.execute(_of_postgres(sql), tuple(parameters)))

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Rows:
        """Run one portable statement for each of many values."""
        statement, cursor = _of_postgres(sql), psycopg.ClientCursor(self.raw)
        # All in one message, as `connect` says why: psycopg's own `executemany` sends many.
        every = [cursor.mogrify(statement, tuple(values)) for values in parameters]
        count = 0
        if every:
            cursor.execute("; ".join(every).encode())
            count = cursor.rowcount
            while cursor.nextset():
                count += cursor.rowcount
        return Rows(cursor, count)


class PostgresDatabase:
    """See `Database`. Several of them share the connections of a process.

    With a `fence`, the name and epoch of a lease, it writes only while that is the epoch.
    """

    def __init__(
        self, connections: Connections, source: str, *, fence: tuple[str, int] | None = None
    ) -> None:
        self.connections = connections
        self._source = source
        first = TABLES[source][0]
        seen = f"SELECT version, swaps FROM versions WHERE source = '{source}'"  # noqa: S608
        # The lock comes first: a restore that has it replaces the tables, and this sees the new.
        held = ""
        if fence is not None:
            name, epoch = fence
            # Shared, so that the epoch does not rise before this transaction has ended.
            held = f" AND {int(epoch)} = (SELECT epoch FROM leases WHERE name = '{name}' FOR SHARE)"  # noqa: S608
        self._writing = f"BEGIN; {lock_of(source)}; {seen}{held}"
        # LOCK takes no snapshot, SELECT does: https://www.postgresql.org/docs/current/sql-lock.html
        self._reading = (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
            f"LOCK TABLE {first} IN ACCESS SHARE MODE; {seen}"
        )

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A write transaction: commits when the block ends, rolls back when it raises."""
        with self.connections.begin(self._writing) as (raw, row):
            if not row:
                raise LeadershipLost(
                    f"another process leads now; this one may not write to {self.connections.what}",
                    "Nothing to do: the process that leads does the work.",
                )
            yield Transaction(raw, *row)
            raw.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A read transaction: all tables of the source as of one instant."""
        with self.connections.begin(self._reading) as (raw, row):
            yield Transaction(raw, *row)

    def version(self, connection: Connection) -> int:
        """Which form the rows have."""
        return _own(connection).version

    def advance(self, connection: Connection, version: int, script: str) -> None:  # noqa: ARG002
        """Note that the rows have the form of this version; the tables are the same in all."""
        own = _own(connection)
        own.execute("UPDATE versions SET version = ? WHERE source = ?", (version, self._source))
        own.version = version

    def content(self, connection: Connection) -> tuple[int, int]:
        """How often a restore has replaced the tables."""
        return 0, _own(connection).swaps

    def close(self) -> None:
        """Nothing is this source's own: whoever made the connections closes them."""


def lock_of(source: str) -> str:
    """The statement that makes a transaction the only one that writes to a source."""
    return f"SELECT pg_advisory_xact_lock({WRITING}, {list(TABLES).index(source)})"


def _own(connection: Connection) -> Transaction:
    if not isinstance(connection, Transaction):
        raise TypeError("a transaction of another engine")
    return connection


@lru_cache(maxsize=256)
def _of_postgres(sql: str) -> bytes:
    """A portable statement in the words of PostgreSQL and the placeholders of psycopg."""
    return _BYTES.sub(r"convert_to(\1, 'UTF8')", sql.replace("%", "%%").replace("?", "%s")).encode()
