"""Tests of `backups.decisions.order`: which restore point is the newer one, without clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backups.decisions.order import (
    FUTURE_TOLERANCE,
    end_of_present,
    from_microseconds,
    is_future,
    microseconds,
    newest_first,
    next_sequence,
)
from backups.format import naming
from backups.model import BackupSet
from shared.bounded import HIGHEST_SEQUENCE
from tests.support.records import INSTANT, INSTANTS, a_set

OURS = frozenset({"ours", "before-us"})


def made(minutes: float, sequence: int | None = None, instance: str = "ours") -> BackupSet:
    """A set made so long after `INSTANT`."""
    return a_set(INSTANT + timedelta(minutes=minutes), sequence=sequence, instance=instance)


# Few instants and numbers, so that the same ones meet often; some lie in the future.
POINTS = st.builds(
    made,
    st.integers(-4, 9).map(lambda quarter: quarter * 15 / 4),
    st.none() | st.integers(1, 4),
    st.sampled_from(["ours", "before-us", "theirs", "others", ""]),
)
SETS = st.lists(POINTS, max_size=6, unique_by=lambda one: one.id)


@given(SETS, st.randoms())
def test_the_order_does_not_depend_on_how_the_sets_come(
    sets: list[BackupSet], random: object
) -> None:
    """However they are listed, the same sets have the same order."""
    shuffled = list(sets)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert newest_first(shuffled, OURS, INSTANT) == newest_first(sets, OURS, INSTANT)


def newer(one: BackupSet, other: BackupSet, among: list[BackupSet]) -> bool:
    """Whether one set comes before another in the list of all."""
    ordered = newest_first(among, OURS, INSTANT)
    return ordered.index(one) < ordered.index(other)


@given(SETS)
def test_it_is_a_total_order(sets: list[BackupSet]) -> None:
    """Of two sets exactly one is the newer, and what is newer than a newer one is newer."""
    for one, other in permutations(sets, 2):
        assert newer(one, other, sets) != newer(other, one, sets)
    for first, second, third in permutations(sets, 3):
        if newer(first, second, sets) and newer(second, third, sets):
            assert newer(first, third, sets)


def line_of(one: BackupSet, present: list[BackupSet]) -> str:
    """The installations of `OURS` are one line, unless each had counted for itself."""
    if one.instance not in OURS:
        return f"+{one.instance}"
    numbers = [
        [each.sequence for each in present if each.instance == instance and each.sequence]
        for instance in OURS
    ]
    first, second = sorted(numbers, key=lambda found: min(found, default=0))
    went_on = not first or not second or max(first) < min(second)
    return "=" if went_on else f"={one.instance}"


@example([made(0, 1), made(-7.5, 2, "before-us"), made(3.75, 3)])
@given(SETS)
def test_a_line_is_ordered_by_its_sequence(sets: list[BackupSet]) -> None:
    """Whatever the clocks said: equal numbers by instant, then by id."""
    ordered = newest_first(sets, OURS, INSTANT)
    present = [one for one in ordered if not is_future(one.created_at, INSTANT)]
    for newer_one, older in combinations(present, 2):
        if (
            newer_one.sequence
            and older.sequence
            and line_of(newer_one, present) == line_of(older, present)
        ):
            assert (newer_one.sequence, newer_one.created_at, newer_one.id) > (
                older.sequence,
                older.created_at,
                older.id,
            )


@given(SETS)
def test_a_set_without_a_number_stands_before_the_first_of_a_line_with_a_later_instant(
    sets: list[BackupSet],
) -> None:
    """And behind all that the line has made before that one."""
    ordered = newest_first(sets, OURS, INSTANT)[::-1]
    present = [one for one in ordered if not is_future(one.created_at, INSTANT)]
    for one in (one for one in present if one.sequence is None):
        for line in {line_of(other, present) for other in present if other.sequence}:
            members = [
                other for other in present if other.sequence and line_of(other, present) == line
            ]
            later = [other for other in members if other.created_at > one.created_at]
            first = members.index(later[0]) if later else len(members)
            place = ordered.index(one)
            assert all(ordered.index(other) < place for other in members[:first])
            assert all(ordered.index(other) > place for other in members[first:])


@given(SETS)
def test_the_future_moves_nothing(sets: list[BackupSet]) -> None:
    """What lies in the future changes the order of nothing else, and is the newest of the list."""
    ordered = newest_first(sets, OURS, INSTANT)
    present = [one for one in ordered if not is_future(one.created_at, INSTANT)]

    assert newest_first(present, OURS, INSTANT) == present
    assert ordered[len(ordered) - len(present) :] == present


def test_a_clock_that_was_set_back_does_not_make_the_newest_set_old() -> None:
    """Three sets as they were made, the last one under a clock that is hours behind."""
    first, second = made(-300, 1), made(-240, 2)
    last = made(-420, 3)

    assert newest_first([last, second, first], OURS, INSTANT) == [last, second, first]


def test_a_successor_goes_on_with_the_line() -> None:
    """The sets of a host that took over are newer than those of the host before it."""
    before = made(-10, 7, "before-us")
    ours = made(-60, 8)

    assert newest_first([before, ours], OURS, INSTANT) == [ours, before]
    assert newest_first([before, ours], {"ours"}, INSTANT) == [before, ours]  # two lines


@pytest.mark.parametrize(
    ("highest", "following"),
    [(None, 1), (1, 2), (HIGHEST_SEQUENCE - 1, HIGHEST_SEQUENCE), (HIGHEST_SEQUENCE,) * 2],
)
def test_the_numbers_of_a_line_go_up_to_what_json_can_count(
    highest: int | None, following: int
) -> None:
    """A planted highest number leaves sets of one number, which their instants order."""
    assert next_sequence(highest) == following


def test_the_future_begins_behind_what_clocks_differ_by() -> None:
    """Five minutes are allowed; at the end of the calendar nothing overflows."""
    assert not is_future(INSTANT + FUTURE_TOLERANCE, INSTANT)
    assert is_future(INSTANT + FUTURE_TOLERANCE + timedelta(microseconds=1), INSTANT)
    last = datetime.max.replace(tzinfo=UTC)
    assert is_future(last, INSTANT)
    assert end_of_present(INSTANT) == INSTANT + FUTURE_TOLERANCE
    assert end_of_present(last) == last


@given(INSTANTS)
def test_microseconds_are_given_back(instant: datetime) -> None:
    """Each instant of a manifest keeps its place in the catalogue."""
    assert from_microseconds(microseconds(instant)) == instant
    assert naming.instant_of(naming.set_id(instant)) == instant.replace(microsecond=0)
