"""The mark: the MAC by which a document in the store shows that it was made with our keys. Pure.

A key is 32 bytes, `HKDF-SHA256(token key, no salt, "backup mark v1")`. The mark is the HMAC-SHA256
of three lines: the kind of the document, its own key below the prefix, and the document without
its member `mac` as sorted, compact JSON in UTF-8. `docs/format.md` checks one by hand.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backups.format.chain_keys import parse_chain_key
from backups.format.document import ORDINARY, PACK_INDEX, read_object
from backups.model import Mark

INFO = b"backup mark v1"
_MEMBER = "mac"
_FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class MarkKey:
    """A key that makes marks, and the fingerprint of the token key that it comes from."""

    fingerprint: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Checked:
    """How a document is marked; `fingerprint` names the key that its mark names, if it has one."""

    outcome: Mark
    fingerprint: str | None = None


class Marks:
    """Makes and checks marks with the keys of today: the first one signs, all of them count.

    Without keys nothing can be signed, and no mark can be checked. With `only`, the fingerprints of
    some of the keys, a mark by another one says no more than none. `vouched` has the SHA-256 of
    what counts whatever its mark is, by its key below the prefix: a later mark names it.
    """

    def __init__(
        self,
        keys: Sequence[MarkKey],
        prefix: str,
        only: Collection[str] | None = None,
        vouched: Mapping[str, str] | None = None,
    ) -> None:
        self.keys = tuple(keys)
        self._only = only
        self.prefix = prefix
        self._vouched = dict(vouched or {})

    def sign(self, key: str, document: bytes) -> bytes:
        """The document that is to be stored under `key`, marked; as it is where there are no keys.

        Raises `ValueError` for one that cannot be marked: it is no object, or has a fraction.
        """
        if not self.keys:
            return document
        found = _parse_as(key, document)
        found.pop(_MEMBER, None)
        signer = self.keys[0]
        mac = _mac(signer, self._text(key, found))
        found[_MEMBER] = {"fingerprint": signer.fingerprint, "hmac": mac}
        return json.dumps(found, indent=2, ensure_ascii=False).encode() + b"\n"

    def sign_line(self, key: str, line: bytes) -> bytes:
        """The same for the JSON line that an increment begins with; it stays one line."""
        return canonical(_parse_as(key, self.sign(key, line))) if self.keys else line

    def check(self, key: str, document: bytes) -> Checked:
        """How the document that is stored under `key` is marked; never raises."""
        checked = self._checked(key, document)
        named = self._vouched.get(key.removeprefix(self.prefix))
        if checked.outcome != "valid" and named is not None and named == sha256_of(document):
            return Checked("valid", checked.fingerprint)
        return checked

    def vouching(self, vouched: Mapping[str, str]) -> Marks:
        """The same, where these count, too: SHA-256 by the key below the prefix."""
        return Marks(self.keys, self.prefix, self._only, {**self._vouched, **vouched})

    def vouches_for(self, key: str) -> bool:
        """Whether a later mark names what is stored under `key`."""
        return key.removeprefix(self.prefix) in self._vouched

    def of_first(self) -> Marks:
        """The same, where marks by the key that signs count alone."""
        return Marks(self.keys, self.prefix, only={one.fingerprint for one in self.keys[:1]})

    def _checked(self, key: str, document: bytes) -> Checked:
        try:
            found = _parse_as(key, document)
        except ValueError:
            return Checked("wrong" if _MEMBER.encode() in document else "unsigned")
        if _MEMBER not in found:
            return Checked("unsigned")
        mark = found.pop(_MEMBER)
        fingerprint = mark.get("fingerprint") if isinstance(mark, dict) else None
        mac = mark.get("hmac") if isinstance(mark, dict) else None
        if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
            return Checked("wrong")
        signer = next((one for one in self.keys if one.fingerprint == fingerprint), None)
        if signer is None:
            return Checked("unknown_key", fingerprint)
        if not isinstance(mac, str) or not _MAC.fullmatch(mac):
            return Checked("wrong", fingerprint)
        try:
            expected = _mac(signer, self._text(key, found))
        except ValueError:
            return Checked("wrong", fingerprint)
        if not hmac.compare_digest(mac, expected):
            return Checked("wrong", fingerprint)
        counts = self._only is None or fingerprint in self._only
        return Checked("valid" if counts else "unsigned", fingerprint)

    def since_rotation(self, rotated: Collection[str]) -> Marks:
        """The same, where all was marked again with each of the keys `rotated`.

        The first of these and those before it count; those behind it were rotated away.
        """
        keys = [one.fingerprint for one in self.keys]
        first = next((place for place, key in enumerate(keys) if key in rotated), None)
        if first is None:
            return self
        return Marks(self.keys, self.prefix, frozenset(keys[: first + 1]), self._vouched)

    @property
    def counting(self) -> tuple[str, ...]:
        """The fingerprints of the keys whose marks count, the one that signs first."""
        keys = (one.fingerprint for one in self.keys)
        return tuple(key for key in keys if self._only is None or key in self._only)

    def _text(self, key: str, document: Mapping[str, Any]) -> bytes:
        below = key.removeprefix(self.prefix)
        return b"\n".join((kind_of(below).encode(), below.encode(), canonical(document)))


def kind_of(key: str) -> str:
    """What a document is, from its key: `manifest`, `proof`, `instances`, `increment`, …"""
    in_chain = parse_chain_key("", key)
    if in_chain is not None:
        return in_chain.kind
    folder, _, name = key.rpartition("/")
    return folder if folder == "instances" else name.removesuffix(".json").partition("-")[0]


def parse(document: bytes) -> dict[str, Any]:
    """The JSON object; raises `ValueError` for a name twice, a fraction, or any other text."""
    return read_object(document)


def _parse_as(key: str, document: bytes) -> dict[str, Any]:
    """The same for the document under `key`: the index of a pack may be larger than others."""
    return read_object(document, limits=PACK_INDEX if key.endswith(".pack") else ORDINARY)


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that a mark covers; raises `ValueError` for a text that is not Unicode."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_of(document: bytes) -> str:
    """By what a mark of a later time names a document that has none."""
    return hashlib.sha256(document).hexdigest()


def _mac(key: MarkKey, text: bytes) -> str:
    return hmac.digest(key.secret, text, "sha256").hex()
