"""Each value of `tokens.db` is bound to its row: in another one nobody can read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from shared.databases.binding import BOUND, Row, opened_value, sealed_value
from shared.databases.checks import check_tokens, sample_tokens
from shared.databases.cipher import TokenCipher
from shared.databases.requests import PROTECTED
from shared.databases.sqlite import Database
from shared.databases.tokens import MIGRATIONS, TokenStorage
from shared.errors import CipherError, DatabaseSchemaMismatch, ValueUnreadable
from tests.support.databases import connect
from tests.support.generations import checkpoint
from tests.support.older_tokens import (
    exchange,
    put_older,
    set_version,
    version_of,
    write_older_tokens,
)

OLD_KEY, KEY = (Fernet.generate_key().decode() for _ in range(2))
CIPHER = TokenCipher((KEY,))
VALUES = {
    "A": "the token of A",
    "B": "the token of B",
    "UUID": "00000000-0000-0000-0000-00000000000a",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where `tokens.db` is, or will be."""
    return tmp_path / "data" / "tokens.db"


@pytest.fixture
def storage(path: Path) -> Iterator[TokenStorage]:
    """A new one, with a token for A and for B."""
    with closing(TokenStorage(path, CIPHER)) as storage:
        storage.put("A", "the token of A")
        storage.put("B", "the token of B")
        yield storage


def test_a_value_that_was_moved_to_another_row_is_unreadable(
    storage: TokenStorage, path: Path
) -> None:
    """Two exchanged ciphertexts open with the key, and the error names the row, not the value."""
    exchange(path, "A", "B")
    for key in ("A", "B"):
        with pytest.raises(ValueUnreadable, match=f"the value of '{key}' in tokens.db") as caught:
            storage.get(key)
        assert caught.value.code == "unreadable"
        assert "token of" not in str(caught.value)


def test_a_value_under_another_type_is_unreadable(storage: TokenStorage, path: Path) -> None:
    """A token cannot become a UUID by its `type`."""
    with closing(connect(path)) as connection:
        connection.execute("UPDATE tokens SET type = 'uuid' WHERE key = 'A'")
    with pytest.raises(ValueUnreadable, match="'A'"):
        storage.get("A")
    assert storage.get("B") == "the token of B"


def test_a_misplaced_value_is_counted_and_named(storage: TokenStorage, path: Path) -> None:
    """Check and sample of a copy say how many there are, and which is the first."""
    storage.put("C", "right")
    exchange(path, "A", "B")
    checkpoint(path)
    for look in (sample_tokens, check_tokens):
        rows, unreadable, about = look(path, CIPHER)
        assert (rows, unreadable) == (3, 2)
        assert about.startswith("2 of them decrypt, and are not the values of their rows: ")
        assert "'A'" in about


def test_an_old_value_in_a_new_file_is_unreadable(storage: TokenStorage, path: Path) -> None:
    """Once all are bound, what is not bound was brought from an older backup."""
    put_older(path, CIPHER, {"A": "from an older backup"})
    with pytest.raises(ValueUnreadable, match=r"'A' in tokens\.db is not bound to its row"):
        storage.get("A")
    assert storage.count_readable()[:2] == (2, 1)
    storage.put("A", "anew")
    assert storage.get("A") == "anew"


@pytest.mark.parametrize("version", [0, 1])
def test_an_older_file_has_the_old_form_only(path: Path, version: int) -> None:
    """Opening it begins nothing: it is read and written as the older version does it."""
    write_older_tokens(path, CIPHER, VALUES)
    set_version(path, version)
    with closing(TokenStorage(path, CIPHER)) as storage:
        assert {key: storage.get(key) for key in VALUES} == VALUES
        storage.put("C", "one more")
        assert version_of(path) == 1
        with closing(connect(path)) as connection:
            (value,) = connection.execute("SELECT value FROM tokens WHERE key = 'C'").fetchone()
        assert CIPHER.decrypt(value) == b"one more"


def test_a_bound_value_in_an_older_file_is_unreadable(storage: TokenStorage, path: Path) -> None:
    """A made-up `user_version` does not turn the bytes of another row into a token."""
    set_version(path, 1)
    for _ in range(2):
        with pytest.raises(ValueUnreadable, match="belongs to another row or file"):
            storage.get("A")
        exchange(path, "A", "B")
    checkpoint(path)
    assert sample_tokens(path, CIPHER)[:2] == (2, 2)


def test_while_values_are_being_bound_both_forms_are_read(path: Path) -> None:
    """The new form is written, and checked where it is there."""
    write_older_tokens(path, CIPHER, VALUES)
    with closing(TokenStorage(path, CIPHER)) as storage:
        set_version(path, 2)
        storage.put("B", "anew")
        storage.put("C", "more")
        assert storage.get("A") == "the token of A"
        assert (storage.get("B"), storage.get("C")) == ("anew", "more")
        exchange(path, "B", "C")
        with pytest.raises(ValueUnreadable):
            storage.get("B")
        checkpoint(path)
        assert sample_tokens(path, CIPHER)[:2] == (4, 2)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_keys_are_rotated_in_every_form(path: Path, version: int) -> None:
    """All values are under the first key afterwards, and each is still that of its row."""
    cipher = TokenCipher((OLD_KEY,))
    if version < BOUND:
        write_older_tokens(path, cipher, VALUES)
        set_version(path, version)
    with closing(TokenStorage(path, cipher)) as storage:
        storage.put("B", "anew")
        if version == BOUND:
            storage.put("A", "the token of A")
    with closing(TokenStorage(path, TokenCipher((KEY, OLD_KEY)))) as storage:
        storage.rotate_keys()
    with closing(TokenStorage(path, CIPHER)) as storage:
        assert (storage.get("A"), storage.get("B")) == ("the token of A", "anew")
        assert version_of(path) == (PROTECTED if version == BOUND else version)


def test_keys_are_not_rotated_over_a_moved_value(storage: TokenStorage, path: Path) -> None:
    """It is named, and nothing changes: it may be right in a backup."""
    exchange(path, "A", "B")
    both = TokenStorage(path, TokenCipher((OLD_KEY, KEY)))
    with closing(both), pytest.raises(ValueUnreadable, match="'A'"):
        both.rotate_keys()
    exchange(path, "A", "B")
    assert storage.get("A") == "the token of A"


def test_a_new_file_is_new_at_once(storage: TokenStorage, path: Path) -> None:
    """It is never in the old form, and a version that does not know the new one refuses it."""
    assert version_of(path) == PROTECTED
    with pytest.raises(
        DatabaseSchemaMismatch, match="has schema version 4, this program supports 1"
    ):
        Database(path, MIGRATIONS[:1])


def test_what_is_encrypted_is_as_the_docs_say(storage: TokenStorage, path: Path) -> None:
    """0x01, then form, type, key and value, each after its length in four bytes."""
    with closing(connect(path)) as connection:
        (value,) = connection.execute("SELECT value FROM tokens WHERE key = 'A'").fetchone()
    parts = [b"1", b"token", b"A", b"the token of A"]
    expected = b"\x01" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert Fernet(KEY).decrypt(value) == expected


TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=9)


@given(key=TEXT, kind=TEXT, value=TEXT, other_key=TEXT, other_kind=TEXT)
def test_only_its_own_row_opens_a_value(
    key: str, kind: str, value: str, other_key: str, other_kind: str
) -> None:
    """However texts are cut: what one row opens, no other one does."""
    stored = sealed_value(CIPHER, BOUND, key, kind, value).encode()
    assert opened_value(CIPHER, BOUND, Row(key.encode(), kind.encode(), stored)) == value
    if (other_key, other_kind) != (key, kind):
        with pytest.raises(CipherError):
            opened_value(CIPHER, BOUND, Row(other_key.encode(), other_kind.encode(), stored))


@given(plain=st.binary(max_size=60).map(lambda rest: b"\x01" + rest))
def test_nothing_else_that_begins_so_is_opened(plain: bytes) -> None:
    """A cut, longer or made-up plain text is an error of ours, and never a value."""
    row = Row(b"A", b"token", CIPHER.encrypt(plain).encode())
    with pytest.raises(ValueUnreadable):
        opened_value(CIPHER, BOUND, row)


def test_an_owner_that_is_no_uuid_is_refused(storage: TokenStorage) -> None:
    """Whatever is stored there, it becomes nobody's user, and the message does not show it."""
    storage.put("UUID", VALUES["UUID"], "uuid")
    assert storage.get_uuid("UUID") == VALUES["UUID"]
    assert storage.get_uuid("nobody") is None
    with pytest.raises(ValueUnreadable, match=r"'A' in tokens\.db is not a UUID") as caught:
        storage.get_uuid("A")
    assert "token of A" not in caught.value.message + caught.value.hint
