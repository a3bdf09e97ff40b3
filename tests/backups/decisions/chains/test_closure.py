"""Tests of `backups.decisions.chains.closure`: what a point of a chain is made from."""

from __future__ import annotations

import pytest

from backups.decisions.chains.closure import ChainObject, needs, numbers_of
from tests.support.chain_objects import differential, document, increment, increments, pack


def keys(number: int, objects: list[ChainObject]) -> list[str] | None:
    """What a point needs, by the ends of the keys."""
    found = needs(number, objects)
    return None if found is None else [one.key for one in found]


def test_a_point_needs_the_increments_since_the_full() -> None:
    """All of them, in order; the full itself needs none."""
    objects = [document("head"), *increments(1, 5)]

    assert keys(3, objects) == ["i1", "i2", "i3"]
    assert keys(0, objects) == []


def test_the_newest_differential_before_a_point_spares_what_is_before_it() -> None:
    """Also where it is the point itself; one after the point is no help."""
    objects = [*increments(1, 9), differential(3), differential(6), differential(9)]

    assert keys(8, objects) == ["d6", "i7", "i8"]
    assert keys(6, objects) == ["d6"]
    assert keys(2, objects) == ["i1", "i2"]


def test_a_pack_stands_for_its_increments() -> None:
    """Also where some of them are still there, beside it."""
    objects = [pack(1, 4), increment(3), increment(4), *increments(5, 6)]

    assert keys(6, objects) == ["p1-4", "i5", "i6"]
    assert keys(2, objects) == ["p1-4"]


def test_packs_that_overlap_are_passed_in_the_fewest_steps() -> None:
    """Two runs may have packed some increments twice; each number is still applied once."""
    objects = [pack(1, 2), pack(1, 4), pack(3, 4), pack(4, 8), pack(5, 6)]

    assert keys(8, objects) == ["p1-4", "p4-8"]
    assert keys(2, objects) == ["p1-4"]


@pytest.mark.parametrize(
    ("objects", "good"),
    [
        ([*increments(1, 3), *increments(5, 6)], 3),
        ([pack(1, 3), pack(5, 6)], 3),
        ([*increments(2, 6)], 0),
        ([pack(2, 6)], 0),
        ([document("head")], 0),
    ],
)
def test_a_gap_ends_what_can_be_restored(objects: list[ChainObject], good: int) -> None:
    """Nothing behind it is near enough; what is before it is as good as ever."""
    assert needs(good, objects) is not None
    assert all(needs(number, objects) is None for number in range(good + 1, 9))


def test_a_differential_bridges_a_gap() -> None:
    """What follows on it can be restored, for it changes the full itself."""
    objects = [increment(1), differential(4), *increments(5, 6)]

    assert keys(6, objects) == ["d4", "i5", "i6"]
    assert needs(3, objects) is None


def test_documents_stand_for_no_number() -> None:
    """A head, an end and a check are no points."""
    objects = [document("head"), document("end"), document("check"), pack(1, 3), differential(5)]

    assert numbers_of(objects) == {1, 2, 3, 5}
