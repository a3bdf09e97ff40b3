"""The line of an increment: written, marked, read back, and refused when it is another's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from backups.errors import ManifestInvalid
from backups.format import chain_keys, increment
from backups.format.increment import Increment, Proven, SourceChange
from backups.format.mark import MarkKey, Marks

PREFIX = "backups/"
CHAIN = "20261122T010000Z-0123456789abcdef"
KEY = chain_keys.increment_key(PREFIX, CHAIN, 17, sealed=False)
MARKS = Marks([MarkKey("0123456789abcdef", b"k" * 32)], PREFIX)
CHANGE = SourceChange("tokens", 4096, 10, 11, 2, "0" * 32, "f" * 32, 5, "a" * 64)
ONE = Increment(
    format=1,
    kind="increment",
    chain=CHAIN,
    seq=17,
    sequence=40,
    instant=1_795_309_200_000,
    prev="b" * 64,
    base_seq=16,
    trigger="change",
    how="compare",
    instance="0123456789abcdef",
    same_instant=True,
    sources=(CHANGE, replace(CHANGE, source="sessions", bytes=3)),
    proven=Proven(16, 1_795_309_199_000),
)


def load(line: bytes, **other: Any) -> Increment:
    """The line as that of number 17 of the chain."""
    about = {"key": KEY, "chain": CHAIN, "number": 17, "kind": "increment", **other}
    return increment.load_line(line, **about)


def changed(**members: Any) -> bytes:
    """The line with other members."""
    return json.dumps({**json.loads(increment.dump_line(ONE)), **members}).encode()


def test_an_increment_is_read_as_it_was_written() -> None:
    """Line and bodies come back, and the mark is that of this key."""
    line = MARKS.sign_line(KEY, increment.dump_line(ONE))
    stored = increment.assemble(line, [b"12345", b"123"])
    assert b"\n" not in line
    assert increment.line_of(stored, KEY) == line
    assert load(line) == ONE
    assert [bytes(body) for body in increment.split(stored, ONE, KEY)] == [b"12345", b"123"]
    assert MARKS.check(KEY, line).outcome == "valid"
    other = chain_keys.increment_key(PREFIX, CHAIN, 18, sealed=False)
    assert MARKS.check(other, line).outcome == "wrong"


@pytest.mark.parametrize(
    "members",
    [
        {"format": 2},
        {"seq": 18},
        {"base_seq": 15},
        {"kind": "differential"},
        {"chain": "20261123T010000Z-0123456789abcdef"},
        {"instant": -1},
        {"instant": 1.5},
        {"sequence": 2**60},
        {"prev": "x"},
        {"sources": []},
    ],
    ids=str,
)
def test_another_line_than_its_key_says_is_refused(members: dict[str, Any]) -> None:
    """Another number, chain, kind or base, or values that no increment has."""
    with pytest.raises(ManifestInvalid, match="cannot be read"):
        load(changed(**members))


@pytest.mark.parametrize(
    "members",
    [
        {"page_size": 1000},
        {"page_size": 131072},
        {"changed": 12},
        {"changed": 20_000, "pages_after": 20_000},
        {"bytes": 2**40},
        {"source": "../tokens"},
        {"after": "f"},
    ],
    ids=str,
)
def test_a_source_that_cannot_be_so_is_refused(members: dict[str, Any]) -> None:
    """Page sizes that SQLite does not have, more pages than there are, and more than is read."""
    source = {**json.loads(increment.dump_line(ONE))["sources"][0], **members}
    with pytest.raises(ManifestInvalid, match="cannot be read"):
        load(changed(sources=[source]))


def test_a_source_twice_is_refused() -> None:
    """Else one body would be applied over the other."""
    with pytest.raises(ManifestInvalid, match="a source twice"):
        load(increment.dump_line(replace(ONE, sources=(CHANGE, CHANGE))))


@pytest.mark.parametrize("stored", [b"", b"{}", b"x" * 100_000], ids=["none", "no end", "long"])
def test_an_object_without_a_line_is_refused(stored: bytes) -> None:
    """It has to begin with one, of bounded length."""
    with pytest.raises(ManifestInvalid, match="does not begin with a line"):
        increment.line_of(stored, KEY)


@pytest.mark.parametrize("bodies", [[b"12345", b"12"], [b"12345", b"1234"], []])
def test_bodies_of_another_length_are_refused(bodies: list[bytes]) -> None:
    """What follows the line has to be as long as it says."""
    stored = increment.assemble(increment.dump_line(ONE), bodies)
    with pytest.raises(ManifestInvalid, match="after its line"):
        increment.split(stored, ONE, KEY)
