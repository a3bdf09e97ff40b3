"""Encryption of values: which key does what, and what the errors keep to themselves."""

from __future__ import annotations

import traceback

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from shared.databases.cipher import TokenCipher, key_fingerprint
from shared.errors import CipherError

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))


@given(st.text())
def test_decrypting_gives_back_the_text(text: str) -> None:
    """`decrypt` is the inverse of `encrypt`, for any text that UTF-8 can hold."""
    cipher = TokenCipher((NEW,))

    try:
        ciphertext = cipher.encrypt(text)
    except UnicodeEncodeError:  # a lone surrogate
        return

    assert cipher.decrypt(ciphertext).decode() == text


def test_a_ciphertext_shows_nothing_and_never_repeats() -> None:
    """The text is not in the ciphertext, and the same text is encrypted anew each time."""
    cipher = TokenCipher((NEW,))

    one, two = cipher.encrypt("EAAB-token"), cipher.encrypt("EAAB-token")

    assert "EAAB" not in one
    assert one != two
    assert one.isascii()


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    """A new first key takes over at once, and what the old one encrypted still opens."""
    both = TokenCipher((NEW, OLD))

    assert both.decrypt(TokenCipher((OLD,)).encrypt("old")) == b"old"
    assert TokenCipher((NEW,)).decrypt(both.encrypt("new")) == b"new"
    with pytest.raises(CipherError):
        TokenCipher((OLD,)).decrypt(both.encrypt("new"))


def test_rotating_puts_a_value_under_the_first_key() -> None:
    """After `rotate`, the old key is no longer needed."""
    rotated = TokenCipher((NEW, OLD)).rotate(TokenCipher((OLD,)).encrypt("text"))

    assert TokenCipher((NEW,)).decrypt(rotated) == b"text"


@pytest.mark.parametrize("operation", ["decrypt", "rotate"])
@pytest.mark.parametrize("stored", ["lost", "changed", "garbage", "", "nicht-ASCII-ä"])
def test_a_value_that_no_key_opens_is_a_cipher_error(operation: str, stored: str) -> None:
    """A foreign key, a changed byte and garbage all raise `CipherError`, which names no value."""
    good = TokenCipher((LOST,)).encrypt("secret-text")
    mine = TokenCipher((NEW,)).encrypt("secret-text")
    flipped = "A" if mine[40] != "A" else "B"
    values = {"lost": good, "changed": mine[:40] + flipped + mine[41:]}
    value = values.get(stored, stored)

    with pytest.raises(CipherError) as caught:
        getattr(TokenCipher((NEW, OLD)), operation)(value)

    text = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "TOKEN_ENCRYPTION_KEYS" in caught.value.hint
    assert NEW not in text
    assert OLD not in text
    assert not value or value not in caught.value.message
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("keys", [(), ("",), ("short",), (NEW, "short"), (NEW[:-4],), ("ä" * 44,)])
def test_malformed_keys_are_refused_without_showing_them(keys: tuple[str, ...]) -> None:
    """No key, or a malformed one, is a `ValueError` in which no key can be read."""
    with pytest.raises(ValueError, match="Fernet key") as caught:
        TokenCipher(keys)

    text = "".join(traceback.format_exception(caught.value))
    shown = text.partition("ValueError: ")[2]
    assert all(key not in shown for key in keys if key)


def test_a_fingerprint_names_a_key_and_does_not_show_it() -> None:
    """Sixteen hex digits, the same for the same key, another for another, and of the first key."""
    fingerprint = TokenCipher((NEW, OLD)).fingerprint

    assert fingerprint == key_fingerprint(NEW) == TokenCipher((NEW,)).fingerprint
    assert fingerprint != key_fingerprint(OLD)
    assert len(bytes.fromhex(fingerprint)) == 8
    assert fingerprint not in NEW
