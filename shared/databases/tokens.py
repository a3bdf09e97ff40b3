"""`TokenStorage`: OAuth tokens and user UUIDs in `tokens.db`, every value encrypted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.databases.binding import (
    BINDING,
    BOUND,
    Row,
    is_bound,
    is_uuid,
    opened_value,
    sealed_value,
    tally,
)
from shared.databases.cipher import TokenCipher
from shared.databases.engines.database import Connection, Database
from shared.databases.owners import MIGRATION as OWNERS
from shared.databases.owners import OwnerOf, Owners
from shared.databases.requests import MIGRATION as REQUESTS
from shared.databases.requests import PROTECTED, Requests
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, restore_remedy
from shared.databases.sqlite import Database as SqliteDatabase
from shared.errors import CipherError, ValueUnreadable

TokenType = Literal["token", "uuid"]

MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS tokens"
    "(key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)",
    "",  # BINDING: values are being bound to their rows, by `bind_next`
    "",  # BOUND: all are
    f"{REQUESTS};{OWNERS}",  # PROTECTED
)

ROWS_AT_ONCE = 100
BEFORE_ALL = -(2**63)  # below every rowid
ALL = 2**62  # more rows than there are

# Whether a value can be that of a row with this key, for what only its owner knows.
Fits = Callable[[str, str], bool]


@dataclass(frozen=True)
class Content:
    """The file that is at the path, and what a restore has put into it."""

    openings: int
    schema: int


@dataclass(frozen=True)
class Batch:
    """Rows that `bind_next` has looked at: the last of them, and whether it was the file's.

    `misshapen` has the names of those whose value is not what such a row holds, and which stay
    unbound; `undecryptable` of those that no key opens.
    """

    last_rowid: int
    is_last: bool
    misshapen: tuple[str, ...]
    undecryptable: tuple[str, ...]


class TokenStorage:
    """A dictionary of encrypted values that survives the process.

    In a file of its own, or in a database that was opened for it. Safe from many threads and
    processes. Every method raises `DatabaseError` when the database cannot be used, and those that
    decrypt raise `CipherError`. Values are read as bytes: where a disk has turned one bit, a text
    may be no UTF-8, which SQLite's errors would quote.
    """

    def __init__(
        self,
        place: Path | Database,
        cipher: TokenCipher,
        *,
        busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    ) -> None:
        self._cipher = cipher
        self._database = (
            SqliteDatabase(
                place,
                MIGRATIONS,
                held=(BINDING, BOUND),
                busy_timeout=busy_timeout,
                remedy=restore_remedy("tokens"),
            )
            if isinstance(place, Path)
            else place
        )
        self._owners = Owners(cipher, self._database.version)
        self.requests = Requests(self._database)

    def put(
        self, key: str, value: str, kind: TokenType = "token", *, owner: str | None = None
    ) -> None:
        """Store `value` under `key`, in place of what was there.

        The row is `owned` by that user; one of a UUID by the user of that.
        """
        with self._database.transaction() as connection:
            if self._database.version(connection) >= PROTECTED:
                self._owners.note(connection, key, value if kind == "uuid" else owner)
            connection.execute(
                "INSERT INTO tokens(key, value, type) VALUES (?, ?, ?) ON CONFLICT(key)"
                " DO UPDATE SET value = excluded.value, type = excluded.type",
                (
                    key,
                    sealed_value(
                        self._cipher, self._database.version(connection), key, kind, value
                    ),
                    kind,
                ),
            )

    def replace(self, key: str, former: str, value: str) -> bool:
        """Store `value` if `former` is still what is under `key`; whether it was.

        Both in one transaction: what was deleted or replaced meanwhile stays so.
        """
        with self._database.transaction() as connection:
            if self._read(connection, key) != former:
                return False
            sealed = sealed_value(
                self._cipher, self._database.version(connection), key, "token", value
            )
            connection.execute("UPDATE tokens SET value = ? WHERE key = ?", (sealed, key))
        return True

    def get(self, key: str) -> str | None:
        """The value under `key`, or None."""
        with self._database.reading() as connection:
            return self._read(connection, key)

    def get_uuid(self, key: str) -> str | None:
        """The UUID under `key`, or None; raises `ValueUnreadable` for what is none."""
        value = self.get(key)
        if value is not None and not is_uuid(value):
            raise ValueUnreadable(
                f"the value of {key!a} in tokens.db is not a UUID",
                "Restore it from a set in which it is right: ./bot backups list",
            )
        return value

    def delete(self, key: str) -> None:
        """Forget `key`; nothing happens when it is not there."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM tokens WHERE key = ?", (key,))
            if self._database.version(connection) >= PROTECTED:
                self._owners.note(connection, key, None)

    def owned(self, prefix: str, user: str, owner_of: OwnerOf = str) -> dict[str, str]:
        """The values of a user's rows whose keys begin with `prefix`, by what follows it, in order.

        `owner_of` says whose a value is; by default it is that user's UUID. The rows of others are
        decrypted only once for each prefix, after a change of the first key, and after a restore of
        a file of an older version.
        """
        with self._database.reading() as connection:
            has_index = self._database.version(connection) >= PROTECTED
            indexed = has_index and self._owners.knows(connection, prefix)
            if indexed or not has_index:
                return self._owners.rows(connection, prefix, user, owner_of, indexed=indexed)
        with self._database.transaction() as connection:
            # A restore may have come between.
            has_index = self._database.version(connection) >= PROTECTED
            if has_index:
                self._owners.learn(connection, prefix, owner_of)
            return self._owners.rows(connection, prefix, user, owner_of, indexed=has_index)

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the keys that begin with it, in order."""
        return [key.removeprefix(prefix) for key in self.keys() if key.startswith(prefix)]

    def keys(self, kind: TokenType | None = None) -> list[str]:
        """All keys in order, or those of one type."""
        with self._database.reading() as connection:
            chosen, values = (" WHERE type = ?", (kind,)) if kind else ("", ())
            rows = connection.execute(
                f"SELECT key FROM tokens{chosen} ORDER BY key",  # noqa: S608 - constants
                values,
            ).fetchall()
        return [row[0] for row in rows]

    def rotate_keys(self) -> int:
        """Re-encrypt every value with the first key, in one transaction; how many there were.

        Raises `CipherError`, and changes nothing, when one value opens with no key.
        """
        with self._database.transaction() as connection:
            version, count = self._database.version(connection), 0
            for columns in _rows(connection):
                opened_value(self._cipher, version, Row.of(columns))
                connection.execute(
                    "UPDATE tokens SET value = ? WHERE rowid = ?",
                    (self._cipher.rotate(columns[3]), columns[0]),
                )
                count += 1
        return count

    def count_readable(self) -> tuple[int, int, str]:
        """How many values there are, and how many cannot be read; what is wrong, if not the keys.

        The text names the first value that a key opens, and that is not the value of its row.
        """
        with self._database.reading() as connection:
            query = f"SELECT {Row.COLUMNS} FROM tokens"  # noqa: S608 - a constant
            return tally(
                connection, self._cipher, self._database.version(connection), query
            ).result()

    def state(self) -> tuple[int, Content]:
        """The `user_version` now, and which content it is about."""
        with self._database.reading() as connection:
            return self._database.version(connection), self._content(connection)

    def bind_next(
        self, content: Content, after: int, fits: Fits, *, begins: bool, ends: bool
    ) -> Batch | None:
        """Bind the next hundred values to their rows, after the row `after`, in one transaction.

        The first one of a file `begins` it: older versions refuse it from then on. One that meets
        the last row, and `ends` it, makes the old form unreadable. Changes nothing, and returns
        None, when another content than `content` has come into its place, or another process has
        ended it.
        """
        misshapen: list[str] = []
        undecryptable: list[str] = []
        with self._database.transaction() as connection:
            version = self._database.version(connection)
            known = version == BINDING or (begins and version < BINDING)
            if not known or self._content(connection) != content:
                return None
            batch = _rows(connection, after, ROWS_AT_ONCE)
            for columns in batch:
                row = Row.of(columns)
                try:
                    bound = self._bound(row, fits)
                except ValueUnreadable:
                    misshapen.append(row.name)
                except CipherError:
                    undecryptable.append(row.name)
                else:
                    if bound is not None:
                        connection.execute(
                            "UPDATE tokens SET value = ? WHERE rowid = ?", (bound, columns[0])
                        )
            is_last = len(batch) < ROWS_AT_ONCE
            following = PROTECTED if is_last and ends and not undecryptable else BINDING
            if following != version:
                script = MIGRATIONS[PROTECTED - 1] if following == PROTECTED else ""
                self._database.advance(connection, following, script)
        last = batch[-1][0] if batch else after
        return Batch(last, is_last, tuple(misshapen), tuple(undecryptable))

    def _read(self, connection: Connection, key: str) -> str | None:
        columns = connection.execute(
            f"SELECT {Row.COLUMNS} FROM tokens WHERE key = ?",  # noqa: S608 - a constant
            (key,),
        ).fetchone()
        if columns is None:
            return None
        return opened_value(self._cipher, self._database.version(connection), Row.of(columns))

    def _bound(self, row: Row, fits: Fits) -> str | None:
        """The value of a row in the new form; None when it has that already, for any row."""
        if is_bound(self._cipher.decrypt(row.value)):
            return None
        value = opened_value(self._cipher, BINDING, row)
        try:
            key, kind = row.key.decode(), row.kind.decode()
        except UnicodeDecodeError:
            raise ValueUnreadable(f"the key {row.name} is no text") from None
        if not ((kind != "uuid" or is_uuid(value)) and fits(key, value)):
            raise ValueUnreadable(f"{row.name} has a value of another kind")
        return sealed_value(self._cipher, BINDING, key, kind, value)

    def _content(self, connection: Connection) -> Content:
        return Content(*self._database.content(connection))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _rows(
    connection: Connection, after: int = BEFORE_ALL, most: int = ALL
) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"SELECT {Row.COLUMNS} FROM tokens WHERE rowid > ? ORDER BY rowid LIMIT ?",  # noqa: S608
        (after, most),
    ).fetchall()
