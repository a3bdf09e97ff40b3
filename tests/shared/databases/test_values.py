"""Damaged values: one is counted and named, and no message or traceback shows it."""

from __future__ import annotations

import sqlite3
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from shared.databases.checks import check_tokens, sample_tokens
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.databases.translation import translated
from shared.errors import CipherError, DatabaseError
from tests.support.databases import connect


def flip_a_high_bit(path: Path, key: str) -> str:
    """Turn the highest bit of a byte inside a stored value; its ciphertext before."""
    with closing(connect(path)) as connection:
        (value,) = connection.execute("SELECT value FROM tokens WHERE key = ?", (key,)).fetchone()
        damaged = bytearray(value.encode())
        damaged[20] |= 0x80
        connection.execute(
            "UPDATE tokens SET value = CAST(? AS TEXT) WHERE key = ?", (bytes(damaged), key)
        )
    return str(value)


@pytest.fixture
def cipher() -> TokenCipher:
    return TokenCipher((Fernet.generate_key().decode(),))


def test_one_damaged_value_is_one_unreadable_value(tmp_path: Path, cipher: TokenCipher) -> None:
    """Sample, check, reading and rotation meet bytes that are no UTF-8, and name no value."""
    path = tmp_path / "tokens.db"
    with closing(TokenStorage(path, cipher)) as storage:
        storage.put("good", "a secret")
        storage.put("bad", "another secret")
        ciphertext = flip_a_high_bit(path, "bad")

        with closing(connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert sample_tokens(path, cipher) == (2, 1, "")
        assert check_tokens(path, cipher) == (2, 1, "")
        assert storage.get("good") == "a secret"
        for act in (lambda: storage.get("bad"), storage.rotate_keys):
            with pytest.raises(CipherError) as caught:
                act()
            shown = "".join(traceback.format_exception(caught.value))
            assert ciphertext[:15] not in shown
            assert ciphertext[-15:] not in shown


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT CAST(X'5345435245542dE9' AS TEXT)",  # what Python's module quotes
        "SELECT json_extract('{}', 'SECRET-path')",  # what SQLite quotes
    ],
)
def test_an_error_of_sqlite_never_quotes_a_value(statement: str) -> None:
    """Neither the message nor the traceback of a translated error has the text of a row."""
    with (
        pytest.raises(DatabaseError, match=r"^source orders: SQLite answered") as caught,
        translated("source orders"),
        closing(sqlite3.connect(":memory:")) as connection,
    ):
        connection.execute(statement).fetchall()

    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_an_error_of_sqlite_names_what_is_missing() -> None:
    """The names of the schema stay in the message: they are what an operator needs."""
    with (
        pytest.raises(DatabaseError, match=r"\(no such table: orders\)"),
        translated("source orders"),
        closing(sqlite3.connect(":memory:")) as connection,
    ):
        connection.execute("SELECT * FROM orders")
