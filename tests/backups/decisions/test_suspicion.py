"""Tests of `backups.decisions.suspicion`: what makes new snapshots suspect, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.decisions.suspicion import (
    FEW_ROWS,
    Measures,
    RestoredSource,
    measures,
    suspicions,
)
from backups.model import BackupSet, DatabaseFacts, SnapshotFile
from shared.words import counted
from tests.support.records import INSTANT, a_set, a_stored_object

VOLATILE = frozenset({"sessions"})
SCHEMA = "0123456789abcdef"


def file(
    source: str, rows: Mapping[str, int], *, schema: str = SCHEMA, version: int = 1
) -> SnapshotFile:
    """A snapshot of a source that has these rows."""
    return SnapshotFile(
        source=source,
        path=Path(f"{source}.db"),
        bytes=8192,
        sha256="a" * 64,
        facts=DatabaseFacts(4096, 2, version, rows, schema),
        same_instant=True,
        journal_mode="wal",
    )


def compared(*sets: BackupSet) -> Measures:
    """These sets as what snapshots are compared with, newest first."""
    return measures(sets, INSTANT, restored={}, accepted=())


def before(**rows: int) -> BackupSet:
    """The last proven set, with so many rows in the table of each source."""
    return a_set(
        objects=tuple(
            a_stored_object(source, rows={source: number}, schema=SCHEMA)
            for source, number in rows.items()
        )
    )


def found(
    now: Mapping[str, int],
    then: Mapping[str, int],
    unreadable: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """What is suspicious when each source has one table, which is called as it is."""
    files = [file(source, {source: number}) for source, number in now.items()]
    return suspicions(files, compared(before(**then)), VOLATILE, unreadable or {})


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (1000, 1000),
        (1000, 1001),
        (1000, 100_000),
        (1000, 500),  # exactly half is not more than half
        (1000, 501),
        (40, 20),  # twenty are gone, which is not more than twenty
        (41, 21),
        (30, 10),
        (21, 1),
        (20, 1),
        (2, 1),
        (0, 0),
        (0, 5),
    ],
)
def test_ordinary_changes_raise_nothing(then: int, now: int) -> None:
    """Growth, a fall to half, or of up to twenty rows, is no reason for suspicion."""
    assert found({"tokens": now}, {"tokens": then}) == ()


@pytest.mark.parametrize(
    ("then", "now"), [(1000, 499), (1000, 1), (43, 21), (42, 20), (23, 2), (22, 1)]
)
def test_a_fall_by_more_than_half_and_twenty_is_suspicious(then: int, now: int) -> None:
    """Just beyond both edges the table is named, with the rows before and now."""
    assert found({"tokens": now}, {"tokens": then}) == (
        f"tokens.tokens has {counted(now, 'row')}, {then:,} before",
    )


@pytest.mark.parametrize("then", [1, 2, 20, 21, 1000])
def test_an_empty_source_is_suspicious_however_few_it_had(then: int) -> None:
    """A source that is not volatile, had rows and has none, is suspicious."""
    (reason,) = found({"tokens": 0}, {"tokens": then})

    assert reason == f"tokens is empty, and had {counted(then, 'row')} before"


@pytest.mark.parametrize("sessions", [0, 1, 499])
def test_a_night_in_which_all_sessions_expired_raises_nothing(sessions: int) -> None:
    """At 01:00 the sessions of the day are gone, which is as it should be."""
    assert found({"tokens": 40, "sessions": sessions}, {"tokens": 40, "sessions": 5000}) == ()


def test_each_table_is_looked_at_by_itself() -> None:
    """A table that is nearly empty, or gone, is noticed beside one that grew."""
    baseline = a_set(
        objects=(a_stored_object("shop", rows={"big": 10_000, "small": 50, "gone": 50}, schema=""),)
    )
    now = file("shop", {"big": 20_000, "small": 10, "new": 3})

    assert suspicions([now], compared(baseline), VOLATILE, {}) == (
        "shop.small has 10 rows, 50 before",
        "shop.gone has 0 rows, 50 before",
    )


def test_all_reasons_of_all_sources_are_given() -> None:
    """Two damaged sources are two reasons."""
    assert len(found({"tokens": 0, "shop": 1}, {"tokens": 9, "shop": 99})) == 2


def test_a_schema_that_changed_without_its_version_is_suspicious() -> None:
    """Another fingerprint under the same `user_version`, volatile source or not."""
    for source in ("tokens", "sessions"):
        changed = file(source, {source: 5}, schema="ffff")

        assert suspicions([changed], compared(before(**{source: 5})), VOLATILE, {}) == (
            f"the schema of {source} changed, but its user_version did not",
        )


def test_a_migration_is_not_suspicious() -> None:
    """A schema that changed together with its `user_version` is what migrations do."""
    migrated = file("tokens", {"tokens": 5}, schema="ffff", version=2)

    assert suspicions([migrated], compared(before(tokens=5)), VOLATILE, {}) == ()


def test_a_migration_does_not_excuse_lost_rows() -> None:
    """Rows are counted whatever the schema does."""
    migrated = file("tokens", {"tokens": 5}, schema="ffff", version=2)

    assert len(suspicions([migrated], compared(before(tokens=500)), VOLATILE, {})) == 1


def test_a_manifest_without_a_fingerprint_raises_nothing() -> None:
    """A set made before schemas were noted cannot tell that one changed."""
    baseline = a_set(objects=(a_stored_object("tokens", rows={"tokens": 5}, schema=""),))

    assert suspicions([file("tokens", {"tokens": 5})], compared(baseline), VOLATILE, {}) == ()


def test_values_that_no_key_opens_are_suspicious_once_they_grow() -> None:
    """More unreadable values than in the last proven set; as many or fewer are known."""
    baseline = before(tokens=500)
    known = replace(baseline, objects=tuple(replace(one, unreadable=7) for one in baseline.objects))
    now = [file("tokens", {"tokens": 500})]

    assert suspicions(now, compared(known), VOLATILE, {"tokens": 7}) == ()
    assert suspicions(now, compared(known), VOLATILE, {"tokens": 3}) == ()
    assert suspicions(now, compared(known), VOLATILE, {}) == ()
    assert suspicions(now, compared(known), VOLATILE, {"tokens": 8}) == (
        "8 of the checked values of tokens cannot be read with the current keys "
        "(7 in the previous backup)",
    )


def test_the_first_set_is_judged_by_itself() -> None:
    """Without an earlier set only values that no key opens are suspicious."""
    now = [file("tokens", {"tokens": 0}), file("sessions", {"sessions": 0})]

    assert suspicions(now, {}, VOLATILE, {}) == ()
    assert len(suspicions(now, {}, VOLATILE, {"tokens": 1})) == 1


def test_a_new_source_is_not_compared() -> None:
    """A source that the last set did not have raises nothing."""
    assert found({"tokens": 50, "shop": 0}, {"tokens": 50}) == ()


# --- what is compared -------------------------------------------------------------------


def with_rows(rows: int, at: datetime, **other: Any) -> BackupSet:
    """A good set of that time with so many tokens."""
    return a_set(at, objects=(a_stored_object("tokens", at, rows={"tokens": rows}),), **other)


def rows_compared(found: Measures, source: str = "tokens") -> list[int]:
    """How many rows each of the measures of a source has."""
    return [sum(stored.rows.values()) for stored in found.get(source, ())]


def hours_ago(hours: float) -> datetime:
    return INSTANT - timedelta(hours=hours)


def test_sets_count_up_to_the_first_that_is_a_day_old() -> None:
    """The last set, all of the last day, and one that is at least a day old."""
    sets = [with_rows(rows, hours_ago(rows)) for rows in (1, 5, 23, 24, 25, 300)]

    assert rows_compared(compared(*sets)) == [1, 5, 23, 24]


def test_what_is_accepted_is_the_measure_from_then_on() -> None:
    """Nothing made before an accepted set is compared with."""
    sets = [with_rows(rows, hours_ago(rows)) for rows in (1, 5, 23, 24)]

    found = measures(sets, INSTANT, restored={}, accepted={sets[1].id})

    assert rows_compared(found) == [1, 5]


def test_what_was_restored_counts_and_nothing_before_it() -> None:
    """It stands in place of all that was made before the restore, and counts for a day."""
    sets = [with_rows(rows, hours_ago(rows)) for rows in (1, 5, 23, 24)]
    base = RestoredSource(a_stored_object(rows={"tokens": 77}), hours_ago(4))

    assert rows_compared(measures(sets, INSTANT, restored={"tokens": base}, accepted=())) == [1, 77]
    later = INSTANT + timedelta(hours=23)
    assert rows_compared(measures(sets, later, restored={"tokens": base}, accepted=())) == [1]


def test_a_restored_set_that_is_gone_leaves_what_was_made_since() -> None:
    """Of an unknown one nothing is compared, and still nothing that was made before."""
    sets = [with_rows(rows, hours_ago(rows)) for rows in (1, 5)]
    base = RestoredSource(None, hours_ago(4))

    assert rows_compared(measures(sets, INSTANT, restored={"tokens": base}, accepted=())) == [1]
    assert rows_compared(measures([], INSTANT, restored={"tokens": base}, accepted=())) == []


def test_what_a_restore_passed_over_counts_for_other_sources_only() -> None:
    """After a restore of one source, the others are compared with the sets before as ever."""
    objects = (a_stored_object("tokens", rows={"t": 900}), a_stored_object("shop", rows={"s": 50}))
    junk = a_set(hours_ago(2), objects=objects, set_aside=hours_ago(1))
    base = RestoredSource(a_stored_object(rows={"t": 10}), hours_ago(1))

    found = measures([junk], INSTANT, restored={"tokens": base}, accepted=())

    assert (rows_compared(found), rows_compared(found, "shop")) == ([10], [50])
    older = [replace(junk, id=f"{hours}", created_at=hours_ago(hours)) for hours in (25, 26)]
    found = measures([junk, *older], INSTANT, restored={"tokens": base}, accepted=())
    assert rows_compared(found, "shop") == [50, 50]
    assert measures([junk], INSTANT, restored={}, accepted=()) == {}


def test_a_set_of_the_future_is_compared_with_nothing() -> None:
    """Its time says nothing about when it was made."""
    sets = [with_rows(5, hours_ago(-1)), with_rows(7, hours_ago(1))]

    assert rows_compared(compared(*sets)) == [7]


@given(
    start=st.integers(2 * FEW_ROWS + 3, 5000),
    steps=st.lists(st.tuples(st.integers(1, 180), st.floats(0, 1.2)), min_size=1, max_size=30),
    past=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5000)), max_size=4),
)
def test_no_fall_to_less_than_half_within_a_day_goes_unnoticed(
    start: int, steps: list[tuple[int, float]], past: list[tuple[int, int]]
) -> None:
    """However small the steps are, the one that crosses the half is suspicious at the latest."""
    good = [with_rows(rows, hours_ago(hours)) for hours, rows in past]
    good = sorted({one.id: one for one in (with_rows(start, INSTANT), *good)}.values(), key=_at)
    now, rows = INSTANT, start
    for minutes, factor in steps:
        now += timedelta(minutes=minutes)
        if now - INSTANT > timedelta(days=1):
            return
        rows = int(rows * factor)
        measured = measures(reversed(good), now, restored={}, accepted=())
        reasons = suspicions([file("tokens", {"tokens": rows})], measured, VOLATILE, {})
        assert reasons or rows * 2 >= start or start - rows <= FEW_ROWS
        if not reasons:
            good.append(with_rows(rows, now))


def _at(one: BackupSet) -> datetime:
    return one.created_at


def test_a_volatile_source_may_fall_in_steps() -> None:
    """Its rows come and go within the hour, whatever they were yesterday."""
    sets = [a_set(objects=(a_stored_object("sessions", rows={"sessions": 900}),))]

    assert suspicions([file("sessions", {"sessions": 3})], compared(*sets), VOLATILE, {}) == ()


def test_values_and_schema_are_compared_with_the_last_set_only() -> None:
    """What was accepted or migrated since is not held against a new set."""
    old = replace(a_stored_object(rows={"tokens": 5}), unreadable=0, schema="ffff")
    last = replace(old, unreadable=7, schema=SCHEMA)
    sets = [a_set(objects=(last,)), a_set(hours_ago(3), objects=(old,))]

    found = suspicions([file("tokens", {"tokens": 5})], compared(*sets), VOLATILE, {"tokens": 7})

    assert found == ()
