"""`TokenStorage`: OAuth tokens and user UUIDs in `tokens.db`, every value encrypted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shared.databases.cipher import TokenCipher
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, Database, restore_remedy
from shared.errors import CipherError

TokenType = Literal["token", "uuid"]

MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS tokens"
    "(key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)",
)


class TokenStorage:
    """A dictionary of encrypted values that survives the process.

    Safe from many threads and processes. Every method raises `DatabaseError` when the file
    cannot be used, and those that decrypt raise `CipherError`. Values are read as bytes: where a
    disk has turned one bit, a text may be no UTF-8, which SQLite's errors would quote.
    """

    def __init__(
        self, path: Path, cipher: TokenCipher, *, busy_timeout: float = BUSY_TIMEOUT_SECONDS
    ) -> None:
        self._cipher = cipher
        self._database = Database(
            path, MIGRATIONS, busy_timeout=busy_timeout, remedy=restore_remedy("tokens")
        )

    def put(self, key: str, value: str, kind: TokenType = "token") -> None:
        """Store `value` under `key`, in place of what was there."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO tokens(key, value, type) VALUES (?, ?, ?) ON CONFLICT(key)"
                " DO UPDATE SET value = excluded.value, type = excluded.type",
                (key, self._cipher.encrypt(value), kind),
            )

    def get(self, key: str) -> str | None:
        """The value under `key`, or None."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT CAST(value AS BLOB) FROM tokens WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else self._cipher.decrypt(row[0])

    def delete(self, key: str) -> None:
        """Forget `key`; nothing happens when it is not there."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM tokens WHERE key = ?", (key,))

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the keys that begin with it, in order."""
        return [key.removeprefix(prefix) for key in self.keys() if key.startswith(prefix)]

    def keys(self, kind: TokenType | None = None) -> list[str]:
        """All keys in order, or those of one type."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key FROM tokens WHERE ?1 IS NULL OR type = ?1 ORDER BY key", (kind,)
            ).fetchall()
        return [row[0] for row in rows]

    def rotate_keys(self) -> int:
        """Re-encrypt every value with the first key, in one transaction; how many there were.

        Raises `CipherError`, and changes nothing, when one value opens with no key.
        """
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT key, CAST(value AS BLOB) FROM tokens").fetchall()
            connection.executemany(
                "UPDATE tokens SET value = ? WHERE key = ?",
                [(self._cipher.rotate(value), key) for key, value in rows],
            )
        return len(rows)

    def count_readable(self) -> tuple[int, int]:
        """How many values there are, and how many of them no key opens."""
        unreadable = rows = 0
        with self._database.reading() as connection:
            for (value,) in connection.execute("SELECT CAST(value AS BLOB) FROM tokens"):
                rows += 1
                try:
                    self._cipher.decrypt(value)
                except CipherError:
                    unreadable += 1
        return rows, unreadable

    def close(self) -> None:
        """Close the database."""
        self._database.close()
