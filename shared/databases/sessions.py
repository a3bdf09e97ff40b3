"""`SessionStorage`: which browser session belongs to which user, in `sessions.db`, for an hour.

The database holds a SHA-256 of each session id, never the id: who reads a backup cannot
take over a session. A session id has 128 random bits, so the hash needs no salt.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from pathlib import Path

from shared.clock import Clock
from shared.databases.engines.database import Database
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, restore_remedy
from shared.databases.sqlite import Database as SqliteDatabase

LIFETIME = timedelta(hours=1)

MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS sessions"
    "(session_id TEXT PRIMARY KEY, uuid TEXT NOT NULL, created_at INTEGER NOT NULL)",
)


class SessionStorage:
    """Sessions that end an hour after they began.

    In a file of their own, or in a database that was opened for them. Safe from many threads and
    processes. Every method raises `DatabaseError` when the database cannot be used.
    """

    def __init__(
        self,
        place: Path | Database,
        clock: Clock,
        *,
        busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    ) -> None:
        self._clock = clock
        self._database = (
            SqliteDatabase(
                place, MIGRATIONS, busy_timeout=busy_timeout, remedy=restore_remedy("sessions")
            )
            if isinstance(place, Path)
            else place
        )

    def create(self, uuid: str, session_id: str | None = None) -> str:
        """Begin a session for the user `uuid`; its id, a random one if none is given.

        The id is stored nowhere.
        """
        session_id = session_id or secrets.token_urlsafe(32)
        now = self._now()
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE created_at <= ?", (_oldest(now),))
            connection.execute(
                "INSERT INTO sessions(session_id, uuid, created_at) VALUES (?, ?, ?)",
                (_hash(session_id), uuid, now),
            )
        return session_id

    def lookup(self, session_id: str) -> str | None:
        """The user's UUID, or None when the session is unknown, has expired, or lies in the future.

        A made-up row with a time in the future would otherwise never expire.
        """
        now = self._now()
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT uuid FROM sessions"
                " WHERE session_id = ? AND created_at > ? AND created_at <= ?",
                (_hash(session_id), _oldest(now), now),
            ).fetchone()
        return None if row is None else str(row[0])

    def delete(self, session_id: str) -> None:
        """End a session; nothing happens when it is unknown."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE session_id = ?", (_hash(session_id),))

    def purge_expired(self) -> int:
        """Remove the sessions that have ended; how many there were."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "DELETE FROM sessions WHERE created_at <= ?", (_oldest(self._now()),)
            )
            return cursor.rowcount

    def count(self) -> int:
        """How many sessions are stored, expired ones included."""
        with self._database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _hash(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


def _oldest(now: int) -> int:
    return now - int(LIFETIME.total_seconds())
