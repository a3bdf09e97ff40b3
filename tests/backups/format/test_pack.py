"""Tests of `backups.format.pack`: the index of a pack, both ways, and what it may not say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.errors import ManifestInvalid
from backups.format import chain_keys, pack
from backups.format.document import MOST_BYTES
from backups.format.pack import MOST_MEMBERS, Member, PackIndex
from tests.support.marks import MARKS, PREFIX

CHAIN = "20261122T010000Z-0123456789abcdef"


def a_member(number: int, size: int = 800) -> Member:
    """A member of a pack, a second after the one before it."""
    return Member(number, size, f"{number:064x}", 1_795_000_000_000 + number * 1000, 40 + number)


def an_index(first: int = 1, last: int = 3) -> PackIndex:
    """The index of a pack of these increments."""
    return pack.index_of(CHAIN, [a_member(number) for number in range(first, last + 1)])


def load(index: bytes, first: int = 1, last: int = 3) -> PackIndex:
    """What the line of a pack says that is stored under the key of these numbers."""
    key = chain_keys.pack_key(PREFIX, CHAIN, first, last)
    return pack.load_line(index, key=key, chain=CHAIN, first=first, last=last)


def changed(change: Callable[[Any], object]) -> bytes:
    """The line of a good pack, with a change to its JSON."""
    found = json.loads(pack.dump_line(an_index()))
    change(found)
    return json.dumps(found).encode()


@settings(max_examples=50)
@given(
    st.integers(1, 10**9),
    st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), min_size=1, max_size=30),
)
def test_an_index_comes_back(first: int, sizes: list[tuple[int, bool]]) -> None:
    """What was dumped and marked is read as it was, and its members lie end to end."""
    members = [
        replace(a_member(first + place, size), sealed=sealed)
        for place, (size, sealed) in enumerate(sizes)
    ]
    index = pack.index_of(CHAIN, members)
    key = chain_keys.pack_key(PREFIX, CHAIN, index.first, index.last)

    line = MARKS.sign_line(key, pack.dump_line(index))

    assert b"\n" not in line
    assert MARKS.check(key, line).outcome == "valid"
    assert load(line, index.first, index.last) == index
    places = list(pack.offsets(index))
    assert places[0][1] == 0
    assert all(start + one.bytes == after for (one, start), (_, after) in pairwise(places))
    assert index.bytes_of_members == places[-1][1] + members[-1].bytes


def test_the_largest_index_can_be_marked_and_read() -> None:
    """So many members as a pack may have fit, although no other document may be so large."""
    highest = 9_999_999_999 - MOST_MEMBERS
    index = pack.index_of(
        CHAIN,
        [
            replace(a_member(highest + number), bytes=4_000_000, sealed=True)
            for number in range(MOST_MEMBERS)
        ],
    )
    index = replace(index, members=tuple(replace(one, bytes=100) for one in index.members))
    key = chain_keys.pack_key(PREFIX, CHAIN, index.first, index.last)

    line = MARKS.sign_line(key, pack.dump_line(index))

    assert len(line) < pack.MOST_LINE_BYTES
    assert MARKS.check(key, line).outcome == "valid"
    assert load(line, index.first, index.last) == index
    other = chain_keys.head_key(PREFIX, CHAIN)
    assert MARKS.check(other, line).outcome != "valid"
    with pytest.raises(ValueError, match=r"more than|at most"):
        MARKS.sign(other, line)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found.update(format=2), "format 2"),
        (lambda found: found.update(chain=CHAIN[:-1] + "0"), "another pack"),
        (lambda found: found.update(first=2), "another pack"),
        (lambda found: found.update(last=4), "another pack"),
        (lambda found: found["members"].pop(), "each once and in order"),
        (lambda found: found["members"].pop(1), "each once and in order"),
        (lambda found: found["members"].reverse(), "each once and in order"),
        (lambda found: found["members"][1].update(number=1), "each once and in order"),
        (lambda found: found["members"].append(found["members"][2]), "each once and in order"),
        (lambda found: found["members"][1].update(instant=1), "older than the one before"),
        (lambda found: found["members"][1].update(sequence=41), "comes before the one before"),
        (lambda found: found["members"][1].update(bytes=0), "members.1.bytes"),
        (lambda found: found["members"][1].update(bytes=-5), "members.1.bytes"),
        (lambda found: found["members"][1].update(bytes=2**60), "members.1.bytes"),
        (lambda found: found["members"][1].update(bytes=540_000_000), "more than 536,870,912"),
        (lambda found: found["members"][1].update(sha256="no"), "members.1.sha256"),
        (lambda found: found.update(members=[]), "members"),
        (lambda found: found.update(kind="increment"), "kind"),
        (lambda found: found.update(filler="x" * pack.MOST_LINE_BYTES), "at most"),
        (lambda found: found.update(filler=[[]] * 30_001), "more than"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    change: Callable[[Any], object], why: str
) -> None:
    """Members that overlap, lack, or are too many or too large: the pack cannot be read."""
    with pytest.raises(ManifestInvalid, match=why):
        load(changed(change))


def test_huge_numbers_in_a_key_cost_nothing() -> None:
    """A key may name any two numbers; the list of those between is never made."""
    index = changed(lambda found: found.update(first=1, last=9_999_999_999))

    with pytest.raises(ManifestInvalid, match="each once and in order"):
        load(index, 1, 9_999_999_999)


def test_a_line_without_an_end_is_refused() -> None:
    """Whatever a pack begins with, no more than the longest line of it is looked at."""
    for stored in (b"", b"{}", b"x" * (pack.MOST_LINE_BYTES + 10) + b"\n"):
        with pytest.raises(ManifestInvalid, match="does not begin with a line"):
            pack.line_of(stored, "a.pack")
    assert pack.line_of(b"{}\nrest", "a.pack") == b"{}"
    assert pack.MOST_LINE_BYTES > MOST_BYTES
