"""The index of owners: whose rows are whose, without decrypting all of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from shared.databases.cipher import TokenCipher
from shared.databases.owners import _OF_OWNER, _WITH_PREFIX
from shared.databases.tokens import TokenStorage
from shared.errors import CipherError
from tests.support.older_tokens import write_older_tokens

FIRST, SECOND = Fernet.generate_key().decode(), Fernet.generate_key().decode()
USERS = [str(UUID(int=number)) for number in range(3)]
SHOPS = 50


class CountingCipher(TokenCipher):
    """Counts what it decrypts."""

    decrypted = 0

    def decrypt(self, ciphertext: str | bytes) -> bytes:
        """See `TokenCipher.decrypt`."""
        self.decrypted += 1
        return super().decrypt(ciphertext)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tokens are."""
    return tmp_path / "tokens.db"


def fill(path: Path, *keys: str) -> None:
    """Fifty shops for each of three users, and as many rows that are nobody's."""
    with closing(TokenStorage(path, TokenCipher(keys))) as storage:
        for user in USERS:
            for number in range(SHOPS):
                storage.put(f"USER_{user}_{number:02d}", user, "uuid")
                storage.put(f"TOKEN_{user}_{number:02d}", "a token")


def owned(path: Path, user: str, *keys: str) -> tuple[int, int]:
    """How many rows a user has, and how many were decrypted to find them."""
    cipher = CountingCipher(keys)
    with closing(TokenStorage(path, cipher)) as storage:
        rows = storage.owned("USER_", user)
    assert all(name.startswith(user) and value == user for name, value in rows.items())
    return len(rows), cipher.decrypted


def test_only_a_users_own_rows_are_decrypted(path: Path) -> None:
    """After the first time, which looks at all with that prefix."""
    fill(path, FIRST)
    found, decrypted = owned(path, USERS[0], FIRST)
    assert (found, decrypted) == (SHOPS, 3 * SHOPS + SHOPS)
    for user in USERS:
        assert owned(path, user, FIRST) == (SHOPS, SHOPS)
    assert owned(path, str(UUID(int=9)), FIRST) == (0, 0)


def test_rows_that_come_and_go_are_in_the_index(path: Path) -> None:
    """A row of another user, of another kind, and one that is deleted."""
    fill(path, FIRST)
    owned(path, USERS[0], FIRST)
    with closing(TokenStorage(path, TokenCipher((FIRST,)))) as storage:
        storage.put(f"USER_{USERS[1]}_new", USERS[1], "uuid")
        storage.delete(f"USER_{USERS[1]}_00")
        storage.put(f"USER_{USERS[0]}_00", "no user any more")
        storage.put("GRANT_1", "{}", owner=USERS[2])
        storage.put("GRANT_2", "{}", owner=USERS[2])
        storage.put("GRANT_2", "{}")
        assert f"{USERS[1]}_new" in storage.owned("USER_", USERS[1])
        assert f"{USERS[1]}_00" not in storage.owned("USER_", USERS[1])
        assert f"{USERS[0]}_00" not in storage.owned("USER_", USERS[0])
        assert list(storage.owned("GRANT_", USERS[2], lambda _: USERS[2])) == ["1", "2"], "learned"
        storage.put("GRANT_2", "{}")
        assert list(storage.owned("GRANT_", USERS[2], lambda _: USERS[2])) == ["1"]
    assert owned(path, USERS[0], FIRST) == (SHOPS - 1, SHOPS - 1)
    with closing(sqlite3.connect(path)) as connection:
        left = connection.execute("SELECT key FROM owners WHERE key NOT LIKE '*%'").fetchall()
        there = connection.execute("SELECT key FROM tokens").fetchall()
    assert set(left) < set(there), "of what is deleted nothing is left"


def test_a_rotation_keeps_the_index_right(path: Path) -> None:
    """While the first key changes, after the rotation, and without the former key."""
    fill(path, FIRST)
    assert owned(path, USERS[0], FIRST)[0] == SHOPS
    assert owned(path, USERS[1], SECOND, FIRST)[0] == SHOPS
    assert owned(path, USERS[1], SECOND, FIRST) == (SHOPS, SHOPS)
    with closing(TokenStorage(path, TokenCipher((SECOND, FIRST)))) as storage:
        storage.rotate_keys()
    for user in USERS:
        assert owned(path, user, SECOND) == (SHOPS, SHOPS)


def test_a_hash_shows_no_user(path: Path) -> None:
    """It is another one under another key: nobody finds out with a guess whose it is."""
    fill(path, FIRST)
    hashes = TokenCipher((FIRST,)).hash_of(USERS[0]), TokenCipher((SECOND,)).hash_of(USERS[0])
    assert hashes[0] != hashes[1]
    assert hashes[0] in path.read_bytes()


def test_a_wrong_entry_shows_nobody_a_row_of_another(path: Path) -> None:
    """Whoever can write the file cannot move a row to another user's page."""
    fill(path, FIRST)
    owned(path, USERS[0], FIRST)
    with closing(sqlite3.connect(path)) as connection, connection:
        wrong = TokenCipher((FIRST,)).hash_of(USERS[0])
        connection.execute("UPDATE owners SET owner = ? WHERE key LIKE 'USER%'", (wrong,))
    with closing(TokenStorage(path, TokenCipher((FIRST,)))) as storage:
        rows = storage.owned("USER_", USERS[0])
    assert set(rows.values()) == {USERS[0]}


@pytest.mark.parametrize("version", [1, 3])
def test_a_file_of_an_older_version_is_looked_at_whole(tmp_path: Path, version: int) -> None:
    """One that has no index yet each time, one that the app has migrated once."""
    path = tmp_path / "older.db"
    if version == 1:
        write_older_tokens(path, TokenCipher((FIRST,)), {})
        fill(path, FIRST)
    else:
        fill(path, FIRST)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                "DROP TABLE owners; DROP TABLE requests; PRAGMA user_version=3"
            )
    assert owned(path, USERS[0], FIRST)[0] == SHOPS
    assert owned(path, USERS[0], FIRST) == (SHOPS, 3 * SHOPS if version == 1 else SHOPS)


def test_a_row_that_no_key_opens_is_named_and_learned_later(path: Path) -> None:
    """The page fails by name, as it did; with the key all are found."""
    fill(path, FIRST)
    with closing(TokenStorage(path, TokenCipher((SECOND,)))) as s, pytest.raises(CipherError):
        s.owned("USER_", USERS[0])
    assert owned(path, USERS[0], SECOND, FIRST)[0] == SHOPS


def test_the_rows_are_found_by_the_index(path: Path) -> None:
    """SQLite searches by the hash, and does not walk the table."""
    fill(path, FIRST)
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {_WITH_PREFIX}{_OF_OWNER} ORDER BY key", (5, "USER_", b"")
        ).fetchall()
    steps = [str(row[3]) for row in plan]
    assert any(one.startswith("SEARCH tokens") for one in steps), steps
    assert any(one.startswith("SEARCH owners") for one in steps), steps
    assert not any(one.startswith("SCAN tokens") for one in steps), steps
