"""Which points of known chains have none missing between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backups.sets.chains.stretches import ChainStretch
from tests.support.bench import Bench
from tests.support.chain_rows import milliseconds, note_chain

START = datetime(2026, 11, 22, 1, tzinfo=UTC)
A, B = "20261121T010000Z", "20261122T010000Z"


def after(*seconds: int) -> list[datetime]:
    """Instants so many seconds after `START`."""
    return [START + timedelta(seconds=number) for number in seconds]


def shown(bench: Bench, since: datetime = START) -> list[tuple[int, int, bool, bool]]:
    """First and last number, whether it follows, and whether it is proven."""
    ours = bench.service.own_sets.ours()
    found = bench.service.catalogue.stretches(since, ours)
    return [(one.first, one.last, one.follows, one.proven) for one in found]


@pytest.fixture
def instance(bench: Bench) -> str:
    """Whose chains they are."""
    return bench.directory.instance()


def test_points_in_a_row(bench: Bench, instance: str) -> None:
    """They are one stretch from the first instant to the last."""
    chain = note_chain(bench.known, B, instance, after(0, 1, 7), end="clock")
    (found,) = bench.service.catalogue.stretches(START, [instance])
    first, last = milliseconds(START), milliseconds(START) + 7000
    assert found == ChainStretch(chain, 1, 3, first, last, follows=True, ended="clock")


def test_a_missing_number_ends_a_stretch(bench: Bench, instance: str) -> None:
    """What comes after it is a stretch of its own that does not follow."""
    note_chain(bench.known, B, instance, after(0, 1, 2, 3), numbers=[1, 2, 4, 5])
    assert shown(bench) == [(1, 2, True, True), (4, 5, False, True)]


def test_what_is_not_proven_or_suspect(bench: Bench, instance: str) -> None:
    """It is there, and is not good."""
    note_chain(bench.known, B, instance, after(0, 1, 2, 3, 4), unproven=[5], suspect=[2])
    assert shown(bench) == [
        (1, 1, True, True),
        (2, 2, True, False),
        (3, 4, True, True),
        (5, 5, True, False),
    ]


def test_what_has_no_valid_mark_is_not_there(bench: Bench, instance: str) -> None:
    """A point without a mark is a missing one."""
    note_chain(bench.known, B, instance, after(0, 1, 2), unmarked=[2])
    assert shown(bench) == [(1, 1, True, True), (3, 3, False, True)]


def test_only_chains_of_ours(bench: Bench) -> None:
    """Another installation's points are not what this one can restore by a time."""
    note_chain(bench.known, B, "0123456789abcdef", after(0, 1))
    assert shown(bench) == []


def test_the_last_point_before_a_time_counts(bench: Bench, instance: str) -> None:
    """It is what the data was at that time; older ones are not read."""
    note_chain(bench.known, A, instance, after(0, 1, 5))
    assert shown(bench, START + timedelta(seconds=3)) == [(2, 3, False, True)]
    assert shown(bench, START + timedelta(days=3)) == [(3, 3, False, True)]


def test_a_chain_without_a_change(bench: Bench, instance: str) -> None:
    """Its full is what the data is."""
    note_chain(bench.known, B, instance, (), began=START)
    (found,) = bench.service.catalogue.stretches(START, [instance])
    assert (found.first, found.last, found.follows) == (0, 0, True)
    assert found.first_instant == found.last_instant == milliseconds(START)


def test_a_pack_and_the_points_after_it(bench: Bench, instance: str) -> None:
    """A pack has its points in a row; rows of them that are still there do not matter."""
    chain = note_chain(bench.known, B, instance, after(3, 4, 5), numbers=[3, 4, 5])
    with bench.known.transaction() as connection:
        connection.execute(
            "INSERT INTO chain_objects(key, chain, kind, first, last, bytes, mark, first_instant,"
            " last_instant) VALUES ('a', ?, 'pack', 1, 3, 9, 'valid', ?, ?)",
            (chain, milliseconds(START), milliseconds(START) + 3000),
        )
    assert shown(bench) == [(1, 3, True, True), (3, 5, True, True)]
