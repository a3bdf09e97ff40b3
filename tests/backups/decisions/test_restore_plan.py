"""Golden tables for what a restore chooses, and what its plan says before anything is touched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.decisions.restore_plan import (
    ACTIONS,
    KeyFacts,
    LiveState,
    choose,
    key_is_lost,
    plan_restore,
)
from backups.errors import NoRestorePoint, SetNotFound, SourceUnknown
from backups.format.legacy import legacy_object
from backups.model import BackupSet, StoredObject

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEYS = KeyFacts(None, ("todays-key", "older-key"))


def stored(source: str, suffix: str = "") -> StoredObject:
    """A described object."""
    return StoredObject(
        source=source,
        key=f"backups/{source}_2026-11-22.db{suffix}",
        bytes=8192,
        sha256="1" * 64,
        snapshot_bytes=8192,
        snapshot_sha256="1" * 64,
        page_size=4096,
        page_count=2,
        user_version=1,
        rows={source: 3},
        same_instant=True,
        journal_mode="wal",
    )


def point(day: int, *, suffix: str = "", **changes: Any) -> BackupSet:
    """A good set of a day in November, at 01:00; `changes` make it less good."""
    instant = datetime(2026, 11, day, 1, tzinfo=UTC)
    good = BackupSet(
        id=f"202611{day:02d}T010000Z",
        kind="set",
        created_at=instant,
        trigger="scheduled",
        instance="someone",
        complete=True,
        proven_at=instant,
        proof="full",
        suspect=None,
        objects=(stored("tokens", suffix), stored("sessions", suffix)),
        token_key="todays-key",
        mark="valid",
    )
    return replace(good, **changes)


def legacy(day: int, **changes: Any) -> BackupSet:
    """A whole legacy group."""
    objects = tuple(
        legacy_object(source, f"backups/{source}_2026-11-{day:02d}.db", 8192)
        for source in ("tokens", "sessions")
    )
    made: dict[str, Any] = {
        "id": f"legacy-2026-11-{day:02d}",
        "kind": "legacy",
        "instance": "",
        "proof": "none",
        "proven_at": None,
        "objects": objects,
        "token_key": None,
    }
    return point(day, **{**made, **changes})


GOOD, OLDER = point(20), point(15)
UNFIT: dict[str, BackupSet] = {
    "of one source": point(21, complete=False),
    "not proven": point(21, proof="none", proven_at=None),
    "suspect": point(21, suspect=("a reason",)),
    "what a restore replaced": point(21, kind="pre-restore", complete=False),
    "a complete pre-restore": point(21, kind="pre-restore"),
}


def test_latest_is_the_newest_that_protects() -> None:
    """Of several good sets `latest` is the newest, in the order given."""
    assert choose([GOOD, OLDER], "latest", None) is GOOD


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT.keys())
def test_latest_passes_over_what_does_not_protect(unfit: BackupSet) -> None:
    """`latest` and `--at` never reach a set that does not protect; its id does."""
    assert choose([unfit, GOOD], "latest", None) is GOOD
    assert choose([unfit, GOOD], "latest", NOW) is GOOD
    assert choose([unfit, GOOD], unfit.id, None) is unfit
    with pytest.raises(NoRestorePoint):
        choose([unfit], "latest", None)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (GOOD.created_at + timedelta(days=9), GOOD),
        (GOOD.created_at, GOOD),
        (GOOD.created_at - timedelta(microseconds=1), OLDER),
        (OLDER.created_at, OLDER),
        (OLDER.created_at - timedelta(microseconds=1), None),
    ],
)
def test_at_is_the_newest_not_after_that_time(at: datetime, expected: BackupSet | None) -> None:
    """`--at` includes the instant itself, and names the time when there is nothing."""
    if expected is None:
        with pytest.raises(NoRestorePoint, match="at or before 2026-11-15T00:59:59"):
            choose([GOOD, OLDER], "latest", at)
    else:
        assert choose([GOOD, OLDER], "latest", at) is expected


def test_a_legacy_group_is_never_latest() -> None:
    """It is reached by its id alone, also where nothing else is left."""
    young, early = legacy(21), legacy(10)
    assert choose([young, GOOD], "latest", None) is GOOD
    assert choose([young, OLDER], "latest", OLDER.created_at) is OLDER
    assert choose([young, early], early.id, None) is early
    for at in (None, young.created_at):
        with pytest.raises(NoRestorePoint):
            choose([UNFIT["suspect"], young], "latest", at)


def test_an_unknown_id_is_named() -> None:
    """An id that is no restore point is not silently another one."""
    with pytest.raises(SetNotFound, match="20200101T000000Z"):
        choose([GOOD], "20200101T000000Z", None)
    with pytest.raises(NoRestorePoint):
        choose([], "latest", None)


LIVE = [
    LiveState("tokens", Path("data/tokens.db"), "healthy", {"tokens": 9}),
    LiveState("sessions", Path("data/sessions.db"), "leftover"),
]


def test_a_plan_says_for_each_source_what_would_be_done() -> None:
    """Age, what is stored, what is there, and the action for the state."""
    plan = plan_restore(GOOD, LIVE, None, KEYS, NOW)
    assert plan.age == timedelta(days=2, hours=11)
    assert [(item.stored.source, item.live.state, item.action) for item in plan.items] == [
        ("tokens", "healthy", ACTIONS["healthy"]),
        ("sessions", "leftover", ACTIONS["leftover"]),
    ]
    assert (plan.blockers, plan.warnings, plan.foreign) == ((), (), ())


def test_a_plan_of_one_source() -> None:
    """`only` leaves one item, and an unknown name is refused with the names there are."""
    plan = plan_restore(GOOD, LIVE, "sessions", KEYS, NOW)
    assert [item.stored.source for item in plan.items] == ["sessions"]
    with pytest.raises(SourceUnknown) as refused:
        plan_restore(GOOD, LIVE, "other", KEYS, NOW)
    assert "tokens, sessions" in refused.value.hint


def test_a_source_that_is_unknown_here_is_a_warning() -> None:
    """A source of the set that this installation does not have is named, not restored."""
    plan = plan_restore(GOOD, LIVE[:1], None, KEYS, NOW)
    assert [item.stored.source for item in plan.items] == ["tokens"]
    assert plan.foreign == ("sessions",)
    assert [found.code for found in plan.warnings] == ["foreign_source"]


@pytest.mark.parametrize(
    ("suffix", "identity", "recipients", "expected"),
    [
        ("", None, (), []),
        (".zst", None, (), []),
        ("", False, ("age1x",), []),
        (".age", True, ("age1x",), []),
        (".zst.age", True, ("age1x",), []),
        (".age", None, ("age1x",), ["identity_missing"]),
        (".zst.age", None, (), ["identity_missing"]),
        (".zst.age", False, ("age1x", "age1y"), ["identity_wrong"]),
        (".age", False, (), []),
    ],
)
def test_blockers(
    suffix: str, identity: bool | None, recipients: tuple[str, ...], expected: list[str]
) -> None:
    """Only a sealed set needs an identity, and one that is known not to fit blocks it."""
    plan = plan_restore(
        point(20, suffix=suffix, recipients=recipients),
        LIVE,
        None,
        KeyFacts(identity, ("todays-key",)),
        NOW,
    )
    assert [found.code for found in plan.blockers] == expected
    assert all(found.hint for found in plan.blockers)
    if expected == ["identity_wrong"]:
        assert "age1x, age1y" in plan.blockers[0].hint


def test_only_an_unsealed_source_needs_no_identity() -> None:
    """What blocks is asked of the sources that are wanted."""
    mixed = point(20, objects=(stored("tokens", ".age"), stored("sessions")))
    assert plan_restore(mixed, LIVE, "sessions", KEYS, NOW).blockers == ()
    assert len(plan_restore(mixed, LIVE, None, KEYS, NOW).blockers) == 1


@pytest.mark.parametrize(
    ("made_with", "today", "lost"),
    [
        ("todays-key", ("todays-key",), False),
        ("older-key", ("todays-key", "older-key"), False),
        ("gone-key", ("todays-key", "older-key"), True),
        ("gone-key", (), False),  # this process does not know the keys
        (None, ("todays-key",), False),  # nor does the manifest
    ],
)
def test_key_facts(made_with: str | None, today: tuple[str, ...], lost: bool) -> None:
    """A key is lost when the set names one, and it is none of those that are known today."""
    made = point(20, token_key=made_with)
    assert key_is_lost(made, today) is lost
    warnings = plan_restore(made, LIVE, None, KeyFacts(None, today), NOW).warnings
    assert [found.code for found in warnings] == (["token_key_lost"] if lost else [])


def test_what_is_not_proven_or_suspect_is_warned_of() -> None:
    """A plan of a doubtful restore point says each reason."""
    doubtful = point(20, proof="none", proven_at=None, suspect=("one", "two"))
    plan = plan_restore(doubtful, LIVE, None, KEYS, NOW)
    assert [found.code for found in plan.warnings] == ["not_proven", "suspect", "suspect"]
    assert [found.message for found in plan.warnings[1:]] == [
        "it is suspect (the data looks damaged): one",
        "it is suspect (the data looks damaged): two",
    ]


@pytest.mark.parametrize(
    ("only", "versions", "expected"),
    [
        (None, (("tokens", 1), ("sessions", 1)), []),
        (None, (("tokens", 0), ("sessions", 1)), ["its tokens has schema version 1"]),
        ("sessions", (("tokens", 0), ("sessions", 1)), []),
        (None, (("sessions", 9),), []),
        (None, (), []),
    ],
)
def test_a_newer_schema_blocks_a_restore_in_place(
    only: str | None, versions: tuple[tuple[str, int], ...], expected: list[str]
) -> None:
    """A known source with a version above today's blocks the restore of it, but not `--to`."""
    keys = KeyFacts(None, ("todays-key",), versions)
    plan = plan_restore(GOOD, LIVE, only, keys, NOW)
    assert [found.message.partition(",")[0] for found in plan.blockers] == expected
    assert plan.blocking(in_place=True) == plan.blockers
    assert plan.blocking(in_place=False) == ()
