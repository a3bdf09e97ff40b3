"""Marks: made, checked, told apart, and repeated with nothing but hashlib, hmac and json."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.fernet import Fernet

from backups.format.mark import INFO, MarkKey, Marks
from shared.databases.cipher import derived_key, key_fingerprint

PREFIX = "backups/"
KEY = "backups/sets/20261122T010000Z/manifest.json"
DOCUMENT = (
    b'{"format": 1, "id": "20261122T010000Z", "bytes": 9007199254740993, "later": ["\xc3\xa9"]}'
)


def a_key() -> MarkKey:
    """A mark key of a new token key."""
    key = Fernet.generate_key().decode()
    return MarkKey(key_fingerprint(key), derived_key(key, INFO))


def test_a_mark_can_be_made_by_hand() -> None:
    """The derivation and the text are those of the documentation, without our code."""
    token_key = Fernet.generate_key().decode()
    marks = Marks([MarkKey(key_fingerprint(token_key), derived_key(token_key, INFO))], PREFIX)
    stored = json.loads(marks.sign(KEY, DOCUMENT))
    mark = stored.pop("mac")

    extracted = hmac.new(bytes(32), base64.urlsafe_b64decode(token_key), hashlib.sha256).digest()
    key = hmac.new(extracted, b"backup mark v1\x01", hashlib.sha256).digest()
    body = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = f"manifest\nsets/20261122T010000Z/manifest.json\n{body}"
    assert mark["hmac"] == hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    assert mark["fingerprint"] == key_fingerprint(token_key)


def test_all_keys_of_today_count_and_the_first_one_signs() -> None:
    """A document marked with any key that is here is valid; a new one names the first."""
    old, new = a_key(), a_key()
    before = Marks([old], PREFIX).sign(KEY, DOCUMENT)
    today = Marks([new, old], PREFIX)
    assert today.check(KEY, before).outcome == "valid"
    assert today.check(KEY, today.sign(KEY, DOCUMENT)).fingerprint == new.fingerprint


def test_the_four_outcomes_are_told_apart() -> None:
    """Valid, unsigned, a key that is not here (by its fingerprint), and wrong."""
    key, other = a_key(), a_key()
    marks = Marks([key], PREFIX)
    stored = marks.sign(KEY, DOCUMENT)
    assert marks.check(KEY, stored).outcome == "valid"
    assert marks.check(KEY, DOCUMENT).outcome == "unsigned"
    elsewhere = Marks([other], PREFIX).check(KEY, stored)
    assert (elsewhere.outcome, elsewhere.fingerprint) == ("unknown_key", key.fingerprint)
    assert marks.check(KEY, stored.replace(b"0993", b"0992")).outcome == "wrong"


@pytest.mark.parametrize(
    "key",
    [
        "backups/sets/20261122T010001Z/manifest.json",
        "backups/sets/20261122T010000Z/proof-20261122T010000Z.json",
        "other/sets/20261122T010000Z/manifest.json",
    ],
)
def test_a_mark_holds_at_one_place_only(key: str) -> None:
    """A document that is copied to another key is wrong there."""
    marks = Marks([a_key()], PREFIX)
    assert marks.check(key, marks.sign(KEY, DOCUMENT)).outcome == "wrong"


def test_the_order_and_form_of_the_text_do_not_matter() -> None:
    """What is covered is the parsed document: another indentation leaves the mark valid."""
    marks = Marks([a_key()], PREFIX)
    stored = json.loads(marks.sign(KEY, DOCUMENT))
    again = json.dumps(dict(reversed(stored.items())), ensure_ascii=True).encode()
    assert marks.check(KEY, again).outcome == "valid"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"format": 1,', b'"format": 1, "unknown": 1,'),
        lambda text: text.replace(b'"format": 1,', b'"format": 1, "format": 1,'),
        lambda text: text.replace(b'"format": 1,', b'"format": 1.0,'),
        lambda text: text[:-9],
        lambda text: text.replace(b'"hmac": "', b'"hmac": 1, "x": "'),
        lambda text: text.replace(b'"mac": {', b'"mac": 3, "x": {'),
        lambda text: text.replace(b'"later"', b'"l\\ud800ter"'),
        lambda text: text.replace(b'"bytes": 9', b'"bytes": ' + b"9" * 5000),
        lambda text: b"[" * 100_000 + text,
    ],
)
def test_a_changed_document_is_wrong(change: Any) -> None:
    """Unknown members are covered; a name twice, a fraction, or a cut text is no mark of ours."""
    marks = Marks([a_key()], PREFIX)
    changed = change(marks.sign(KEY, DOCUMENT))
    assert marks.check(KEY, changed).outcome == "wrong"


def test_what_has_a_fraction_cannot_be_marked() -> None:
    """Two programs may print a fraction differently, so a mark covers whole numbers only."""
    with pytest.raises(ValueError, match="whole number"):
        Marks([a_key()], PREFIX).sign(KEY, b'{"seconds": 1.5}')
