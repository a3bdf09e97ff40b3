"""`Requests`: in `tokens.db`, what platforms send once only, and what must not be lost: redact and
deletion requests, deauthorizations and uninstalls.

The inbox does the work and has no backup; a row here waits until that work has ended. A row has
no body: whom it is about is all that the work needs, and a body may name a merchant's customer.
It stays for good: any restore point may be restored that still has what the request removed, and
`carry_over` then has it removed again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.databases.engines.database import Connection, Database
from shared.databases.untrusted import open_untrusted

# The `user_version` whose files all have this table. One of an older version gets it with its
# first request.
PROTECTED = 4
TABLE = "requests"
MIGRATION = """
    CREATE TABLE IF NOT EXISTS requests(provider TEXT NOT NULL, request_id TEXT NOT NULL,
        account TEXT NOT NULL, topic TEXT NOT NULL, sent_at TEXT NOT NULL, done_at INTEGER,
        PRIMARY KEY (provider, request_id));
    CREATE INDEX IF NOT EXISTS requests_waiting ON requests(sent_at) WHERE done_at IS NULL
    """
_HAS_TABLE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'requests'"


@dataclass(frozen=True)
class Request:
    """What a platform asks about an account; `sent_at` is UTC text, of arrival if it says none."""

    provider: str
    request_id: str
    account: str
    topic: str
    sent_at: str


class Requests:
    """The table. Safe from many threads and processes; raises `DatabaseError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, request: Request) -> None:
        """Keep a request, once."""
        with self._database.transaction() as connection:
            _make_table(connection)
            connection.execute(
                "INSERT INTO requests(provider, request_id, account, topic, sent_at)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    request.provider,
                    request.request_id,
                    request.account,
                    request.topic,
                    request.sent_at,
                ),
            )

    def waiting(self) -> list[Request]:
        """Those whose work has not ended, the oldest first."""
        with self._database.reading() as connection:
            if not _has_table(connection):
                return []
            rows = connection.execute(
                "SELECT provider, request_id, account, topic, sent_at FROM requests"
                " WHERE done_at IS NULL ORDER BY sent_at"
            ).fetchall()
        return [Request(*row) for row in rows]

    def is_done(self, provider: str, topic: str, request_id: str) -> bool | None:
        """Whether the work of a request has ended; None when there is no such request."""
        with self._database.reading() as connection:
            if not _has_table(connection):
                return None
            row = connection.execute(
                "SELECT done_at FROM requests WHERE provider = ? AND topic = ? AND request_id = ?",
                (provider, topic, request_id),
            ).fetchone()
        return None if row is None else row[0] is not None

    def finish(self, provider: str, request_ids: Sequence[str], now: datetime) -> None:
        """Note that the work of those among these that are requests has ended.

        Nothing is written where none of them waits.
        """
        waiting = {one.request_id for one in self.waiting() if one.provider == provider}
        ended = waiting.intersection(request_ids)
        if not ended:
            return
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE requests SET done_at = ? WHERE provider = ? AND request_id = ?",
                [(int(now.timestamp()), provider, one) for one in sorted(ended)],
            )


def carry_over(
    former: Path, coming: Path, before_writing: Callable[[], None] = lambda: None
) -> int:
    """Add the requests of a copy of `tokens.db` to another that is to be restored; how many.

    Those that `coming` has stay as they are: its rows are as of the moment in which the request
    waited, or was done. The others came later, and wait in it. Nobody else writes either file;
    `before_writing` is called if something is to be added. Raises `DatabaseError`.
    """
    rows = _missing(former, coming)
    if not rows:
        return 0
    before_writing()
    with open_untrusted(coming, str(coming), writes=True) as connection:
        connection.execute("BEGIN")
        _make_table(connection)
        connection.executemany(
            "INSERT OR IGNORE INTO"
            " main.requests(provider, request_id, account, topic, sent_at) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute("COMMIT")
    return len(rows)


def _missing(former: Path, coming: Path) -> list[tuple[object, ...]]:
    """The requests of `former` that `coming` does not have."""
    with open_untrusted(former, str(former)) as connection:
        if not _has_table(connection):
            return []
        rows = connection.execute(
            "SELECT provider, request_id, account, topic, sent_at FROM requests"
            " ORDER BY provider, request_id"
        ).fetchall()
    with open_untrusted(coming, str(coming)) as connection:
        known = set[tuple[object, ...]]()
        if _has_table(connection):
            known.update(connection.execute("SELECT provider, request_id FROM requests"))
    return [row for row in rows if row[:2] not in known]


def _has_table(connection: Connection) -> bool:
    if not isinstance(connection, sqlite3.Connection):
        return True  # PostgreSQL has it from the start
    return connection.execute(_HAS_TABLE).fetchone() is not None


def _make_table(connection: Connection) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    for statement in MIGRATION.split(";"):
        connection.execute(statement)
