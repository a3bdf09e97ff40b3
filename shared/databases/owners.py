"""Which rows of `tokens.db` are whose: an index of keyed hashes, so that a page decrypts few.

    owners     key of a row -> hash of the user whose it is; `*` and a prefix -> hash of the prefix

A row of the second kind says that all rows with this prefix are in the index, by this key: after a
change of the first key, and in a restored file of an older version, there is none, and they are
looked at once more. What the index says is compared with the row itself, so that a wrong entry
shows nobody the account of somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shared.databases.binding import Row, opened_value
from shared.databases.cipher import TokenCipher
from shared.databases.engines.database import Connection
from shared.errors import ValueUnreadable

MIGRATION = """
    CREATE TABLE IF NOT EXISTS owners(key TEXT PRIMARY KEY, owner BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS owners_by_owner ON owners(owner)
    """
_WITH_PREFIX = f"SELECT {Row.COLUMNS} FROM tokens WHERE substr(key, 1, ?) = ?"  # noqa: S608
_OF_OWNER = " AND key IN (SELECT key FROM owners WHERE owner = ?)"

# The user that the value of a row names, or None; raises `ValueUnreadable`.
OwnerOf = Callable[[str], str | None]

# A row's key after the prefix, its value, and whose it is.
_Owned = tuple[str, str, str | None]


class Owners:
    """The index, in transactions of whoever has the file open.

    Raises what the connection does, and `CipherError` for a row that no key opens.
    """

    def __init__(self, cipher: TokenCipher, version: Callable[[Connection], int]) -> None:
        self._cipher = cipher
        self._version = version

    def note(self, connection: Connection, key: str, user: str | None) -> None:
        """The row is this user's from now on, or nobody's."""
        connection.execute("DELETE FROM owners WHERE key = ?", (key,))
        if user is not None:
            connection.execute(
                "INSERT INTO owners(key, owner) VALUES (?, ?)", (key, self._cipher.hash_of(user))
            )

    def knows(self, connection: Connection, prefix: str) -> bool:
        """Whether all rows with this prefix are in the index."""
        row = connection.execute("SELECT owner FROM owners WHERE key = ?", (f"*{prefix}",))
        return bool(row.fetchone() == (self._cipher.hash_of(prefix),))

    def learn(self, connection: Connection, prefix: str, owner_of: OwnerOf) -> None:
        """Put all rows with this prefix into the index."""
        for name, _, user in self._look(connection, prefix, owner_of):
            self.note(connection, f"{prefix}{name}", user)
        self.note(connection, f"*{prefix}", prefix)

    def rows(
        self,
        connection: Connection,
        prefix: str,
        user: str,
        owner_of: OwnerOf,
        *,
        indexed: bool,
    ) -> dict[str, str]:
        """What follows this prefix in the keys of a user's rows, in order, and their values.

        All rows are decrypted, unless they are `indexed`.
        """
        owner = self._cipher.hash_of(user) if indexed else None
        looked_at = self._look(connection, prefix, owner_of, owner)
        return {name: value for name, value, found in looked_at if found == user}

    def _look(
        self,
        connection: Connection,
        prefix: str,
        owner_of: OwnerOf,
        owner: bytes | None = None,
    ) -> list[_Owned]:
        query, values = _WITH_PREFIX, [len(prefix), prefix, *([owner] if owner else [])]
        rows = connection.execute(
            f"{query}{_OF_OWNER if owner else ''} ORDER BY key", values
        ).fetchall()
        return list(self._opened(rows, self._version(connection), prefix, owner_of))

    def _opened(
        self, rows: list[tuple[int, bytes, bytes, bytes]], version: int, prefix: str, of: OwnerOf
    ) -> Iterator[_Owned]:
        for columns in rows:
            row = Row.of(columns)
            try:
                value = opened_value(self._cipher, version, row)
                yield row.key.decode().removeprefix(prefix), value, of(value)
            except (ValueUnreadable, UnicodeDecodeError):  # one bad row closes nobody's page
                continue
