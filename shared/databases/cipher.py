"""Encryption of single values with a row of Fernet keys: the first encrypts, all decrypt."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import CipherError

# A Fernet token: a version, the time in eight bytes, then what only a key opens.
_VERSION = b"\x80"
_STAMPED, _LEAST = 12, 100


class TokenCipher:
    """Encrypts and decrypts short texts.

    `keys` are Fernet keys (32 random bytes, URL-safe base64), newest first. Raises
    `ValueError` when there is none or one is malformed; the text of the error never
    contains the key.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        if not keys:
            raise ValueError("at least one Fernet key is needed")
        try:
            fernets = [Fernet(key) for key in keys]
        except (ValueError, TypeError):
            raise ValueError("a Fernet key is 44 characters of URL-safe base64") from None
        self._fernet = MultiFernet(fernets)
        self.fingerprint = key_fingerprint(keys[0])
        self._hash_key = derived_key(keys[0], b"owner v1")

    def hash_of(self, plain: str) -> bytes:
        """16 bytes that stand for a text: the same ones each time, with the same first key."""
        return hmac.digest(self._hash_key, plain.encode(), "sha256")[:16]

    def encrypt(self, plain: str | bytes) -> str:
        """The ciphertext of a text or of bytes under the first key, as ASCII."""
        data = plain.encode() if isinstance(plain, str) else plain
        return self._fernet.encrypt(data).decode("ascii")

    def decrypt(self, ciphertext: str | bytes) -> bytes:
        """The bytes inside; raises `CipherError` when no key opens it."""
        try:
            return self._fernet.decrypt(ciphertext)
        except (InvalidToken, ValueError, TypeError):  # a damaged row may hold any type
            raise CipherError(
                "a stored value cannot be decrypted with the keys in TOKEN_ENCRYPTION_KEYS",
                "Add the key that encrypted it to TOKEN_ENCRYPTION_KEYS, after the first one.",
            ) from None

    def rotate(self, ciphertext: str | bytes) -> str:
        """The same text under the first key; raises `CipherError` when no key opens it."""
        try:
            return self._fernet.rotate(ciphertext).decode("ascii")
        except (InvalidToken, ValueError, TypeError):
            raise CipherError(
                "a stored value cannot be decrypted with the keys in TOKEN_ENCRYPTION_KEYS",
                "Add the key that encrypted it to TOKEN_ENCRYPTION_KEYS, after the first one.",
            ) from None


def encrypted_at(ciphertext: bytes) -> int | None:
    """When a value was encrypted, in seconds since 1970: a Fernet token says so to everybody, and
    `rotate` keeps it; None for what is no token. Nothing vouches for it without a key."""
    try:
        begun = base64.urlsafe_b64decode(ciphertext[:_STAMPED])
    except ValueError:
        return None
    if len(ciphertext) < _LEAST or begun[:1] != _VERSION:
        return None
    return int.from_bytes(begun[1:9], "big")


def key_fingerprint(key: str) -> str:
    """Sixteen hex digits that name a key without revealing it (SHA-256 of 256 random bits)."""
    return hashlib.sha256(b"token-key:" + key.encode()).hexdigest()[:16]


def derived_key(key: str, purpose: bytes) -> bytes:
    """32 bytes for another purpose, from the 32 bytes of a Fernet key (HKDF-SHA256, RFC 5869)."""
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(base64.urlsafe_b64decode(key))
