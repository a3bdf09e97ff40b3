"""Keys of chains: each has one meaning, and nothing else is taken for one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.format import chain_keys as keys
from backups.format import naming
from backups.format.chain_keys import ChainKey, parse_chain_key

PREFIX = "backups/"
SET = "20261122T010000Z"
INSTANCE = "0123456789abcdef"
CHAIN = f"{SET}-{INSTANCE}"
AT = datetime(2026, 11, 22, 13, tzinfo=UTC)
NUMBERS = st.integers(1, keys.HIGHEST_NUMBER)


def test_the_id_of_a_chain_names_its_full_and_who_made_it() -> None:
    """It is taken apart into what it was made of."""
    chain = keys.chain_id(SET, INSTANCE)
    assert chain == CHAIN
    assert (keys.set_of(chain), keys.instance_of(chain)) == (SET, INSTANCE)
    assert keys.is_chain_id(chain)


@pytest.mark.parametrize(
    "text",
    ["", SET, f"{SET}-", f"{SET}-XYZ", f"20261322T010000Z-{INSTANCE}", f"{CHAIN}\n", f"x{CHAIN}"],
)
def test_what_is_no_id_of_a_chain(text: str) -> None:
    """A date that does not exist, another alphabet, or anything around it."""
    assert not keys.is_chain_id(text)


@given(number=NUMBERS, sealed=st.booleans())
def test_keys_of_increments_go_both_ways(number: int, sealed: bool) -> None:
    """An increment's key says chain, number, and whether it is encrypted."""
    key = keys.increment_key(PREFIX, CHAIN, number, sealed=sealed)
    assert parse_chain_key(PREFIX, key) == ChainKey(CHAIN, "increment", number, number, sealed)
    key = keys.differential_key(PREFIX, CHAIN, number, sealed=sealed)
    assert parse_chain_key(PREFIX, key) == ChainKey(CHAIN, "differential", number, number, sealed)


@given(first=NUMBERS, last=NUMBERS)
def test_keys_of_packs_go_both_ways(first: int, last: int) -> None:
    """A pack's key says its first and its last member; never one before the first."""
    found = parse_chain_key(PREFIX, keys.pack_key(PREFIX, CHAIN, first, last))
    assert found == (ChainKey(CHAIN, "pack", first, last) if first <= last else None)


def test_keys_of_documents_go_both_ways() -> None:
    """Head, end, verdicts and later marks."""
    assert parse_chain_key(PREFIX, keys.head_key(PREFIX, CHAIN)) == ChainKey(CHAIN, "head")
    assert parse_chain_key(PREFIX, keys.end_key(PREFIX, CHAIN)) == ChainKey(CHAIN, "end")
    assert parse_chain_key(PREFIX, keys.check_key(PREFIX, CHAIN, AT)) == ChainKey(CHAIN, "check")
    assert parse_chain_key(PREFIX, keys.mark_key(PREFIX, CHAIN, AT)) == ChainKey(CHAIN, "mark")


def test_keys_of_a_chain_sort_by_number() -> None:
    """A listing, which is in the order of keys, is in the order of numbers."""
    some = [1, 9, 10, 11, 3600, keys.HIGHEST_NUMBER]
    made = [keys.increment_key(PREFIX, CHAIN, number, sealed=False) for number in some]
    assert made == sorted(made)


@pytest.mark.parametrize(
    "below",
    [
        f"chains/{CHAIN}/i/0000000000.inc",
        f"chains/{CHAIN}/i/1.inc",
        f"chains/{CHAIN}/i/0000000001.inc.zst",
        f"chains/{CHAIN}/p/0000000002-0000000001.pack",
        f"chains/{CHAIN}/check-20261340T010000Z.json",
        f"chains/{CHAIN}/mark-20261340T010000Z.json",
        f"chains/{CHAIN}/tail.json",
        f"chains/20261322T010000Z-{INSTANCE}/head.json",
        f"chains/{CHAIN}/head.json ",
        f"sets/{SET}/manifest.json",
    ],
)
def test_what_is_no_key_of_a_chain(below: str) -> None:
    """Another width, an end before the beginning, a date that does not exist, another place."""
    assert parse_chain_key(PREFIX, f"{PREFIX}{below}") is None
    assert parse_chain_key("other/", f"{PREFIX}{below}") is None


def test_older_keys_are_no_keys_of_chains_and_the_other_way_round() -> None:
    """A version that does not know chains takes nothing of them for its own."""
    for key in (
        keys.head_key(PREFIX, CHAIN),
        keys.increment_key(PREFIX, CHAIN, 1, sealed=True),
        keys.pack_key(PREFIX, CHAIN, 1, 2),
    ):
        assert naming.parse_set_key(PREFIX, key) is None
        assert naming.parse_data_key(PREFIX, key) is None
        assert naming.parse_instance_document_key(PREFIX, key) is None


@given(number=NUMBERS)
def test_ids_of_points_go_both_ways(number: int) -> None:
    """A point's id is that of its full, a dot, and its number."""
    assert keys.parse_point_id(keys.point_id(CHAIN, number)) == (SET, number)


@pytest.mark.parametrize(
    "text", [SET, f"{SET}.", f"{SET}.0", f"{SET}.01", f"{SET}.1.2", f"{SET}.12345678901", "x.1"]
)
def test_what_is_no_id_of_a_point(text: str) -> None:
    """No number, a zero before it, or one that no chain reaches."""
    assert keys.parse_point_id(text) is None
