"""A `tokens.db` as an older version of the program left it, and which form its values have."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from shared.databases.binding import is_bound
from shared.databases.cipher import TokenCipher
from shared.databases.requests import PROTECTED
from shared.databases.sqlite import Database
from shared.databases.tokens import MIGRATIONS
from shared.errors import CipherError
from shared.files import make_private_directory
from tests.support.databases import connect
from tests.support.generations import BESIDE_TOKENS


def write_older_tokens(path: Path, cipher: TokenCipher, values: Mapping[str, str]) -> Path:
    """A file of the version before: each value alone is encrypted. Keys with `UUID` are UUIDs'."""
    make_private_directory(path.parent)
    Database(path, MIGRATIONS[:1]).close()
    put_older(path, cipher, values)
    return path


def put_older(path: Path, cipher: TokenCipher, values: Mapping[str, str]) -> None:
    """Write values in the form of the version before, whatever form the file has."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)",
            [
                (key, cipher.encrypt(value), "uuid" if "UUID" in key else "token")
                for key, value in values.items()
            ],
        )
        connection.execute("COMMIT")


def exchange(path: Path, one: str, other: str) -> None:
    """Exchange the stored values of two rows, as who has no key can."""
    with closing(connect(path)) as connection:
        first, second = _stored(connection, [one, other])
        for key, value in ((one, second), (other, first)):
            connection.execute("UPDATE tokens SET value = ? WHERE key = ?", (value, key))


def version_of(path: Path) -> int:
    """The `user_version` now."""
    with closing(connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def set_version(path: Path, version: int) -> None:
    """Set `user_version`, and take away the tables that no file of that version has."""
    with closing(connect(path)) as connection:
        for table in BESIDE_TOKENS if version < PROTECTED else ():
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.execute(f"PRAGMA user_version={version}")


def bound_rows(path: Path, cipher: TokenCipher) -> int:
    """How many values have the new form."""
    found = 0
    with closing(connect(path)) as connection:
        for (value,) in connection.execute("SELECT value FROM tokens"):
            try:
                found += is_bound(cipher.decrypt(value))
            except CipherError:
                continue
    return found


def _stored(connection: sqlite3.Connection, keys: Sequence[str]) -> list[str]:
    return [
        connection.execute("SELECT value FROM tokens WHERE key = ?", (key,)).fetchone()[0]
        for key in keys
    ]
