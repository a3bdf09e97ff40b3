"""Tests of `backups.decisions.suspicion`: what makes new snapshots suspect, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from backups.decisions.suspicion import Measures, measures, suspicions
from backups.model import BackupSet, DatabaseFacts, SnapshotFile
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
        f"tokens.tokens has {now:,} rows, {then:,} before",
    )


@pytest.mark.parametrize("then", [1, 2, 20, 21, 1000])
def test_an_empty_source_is_suspicious_however_few_it_had(then: int) -> None:
    """A source that is not volatile, had rows and has none, is suspicious."""
    (reason,) = found({"tokens": 0}, {"tokens": then})

    assert reason == f"tokens is empty, and had {then:,} rows before"


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
        "8 sampled values of tokens cannot be decrypted with the current keys, 7 before",
    )


def test_the_first_set_is_judged_by_itself() -> None:
    """Without an earlier set only values that no key opens are suspicious."""
    now = [file("tokens", {"tokens": 0}), file("sessions", {"sessions": 0})]

    assert suspicions(now, {}, VOLATILE, {}) == ()
    assert len(suspicions(now, {}, VOLATILE, {"tokens": 1})) == 1


def test_a_new_source_is_not_compared() -> None:
    """A source that the last set did not have raises nothing."""
    assert found({"tokens": 50, "shop": 0}, {"tokens": 50}) == ()
