"""The token key of the tests, the same in each of their processes, and the marks that it makes."""

from __future__ import annotations

import base64
import hashlib

from backups.format import naming
from backups.format.manifest import dump_verdict
from backups.format.mark import INFO, MarkKey, Marks
from backups.model import Verdict
from shared.databases.cipher import derived_key, key_fingerprint

PREFIX = "backups/"


def a_token_key(name: str) -> str:
    """The Fernet key of that name."""
    return base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()


def mark_key_of(token_key: str) -> MarkKey:
    """The key that makes the marks of an installation with this token key."""
    return MarkKey(key_fingerprint(token_key), derived_key(token_key, INFO))


TOKEN_ENCRYPTION_KEY = a_token_key("the token key of the tests")
MARK_KEY = mark_key_of(TOKEN_ENCRYPTION_KEY)
MARKS = Marks([MARK_KEY], PREFIX)


def signed(key: str, document: bytes) -> bytes:
    """A document as an installation of the tests stores it under `key`."""
    return MARKS.sign(key, document)


def signed_manifest(set_id: str, document: bytes) -> bytes:
    """A manifest as an installation of the tests stores it."""
    return signed(naming.manifest_key(PREFIX, set_id), document)


def signed_proof(verdict: Verdict) -> bytes:
    """The document of a later proof as an installation of the tests stores it."""
    key = naming.verdict_key(PREFIX, verdict.set_id, "proof", verdict.at)
    return signed(key, dump_verdict(verdict))
