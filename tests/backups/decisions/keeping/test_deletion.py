"""Tests of `backups.decisions.keeping.deletion`: what no person may delete, whatever there is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given

from backups.decisions.keeping.deletion import plan_deletion
from backups.decisions.retention import RetentionFacts, RetentionPolicy, plan_retention
from backups.errors import NotDeletable
from backups.model import BackupSet
from tests.backups.decisions.test_retention import (
    FACTS,
    LAST_NIGHT,
    NOTHING,
    OURS,
    nightly,
    situations,
)
from tests.support.records import a_set


@given(situations())
def test_whatever_is_deleted_what_protects_all_others_stays(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
) -> None:
    """No pinned set, none of others, and none that a prune with no rule at all keeps as the
    newest; a deletion that is allowed once is allowed again after another one."""
    sets, _, facts = situation
    newest = {
        one.backup_set.id
        for one in plan_retention(sets, NOTHING, replace(facts, pinned={}, frozen=None)).keep
        if any(reason.startswith("newest") and "drill" not in reason for reason in one.reasons)
    }
    deleted: list[str] = []
    for one in sets:
        there = [other for other in sets if other.id not in deleted]
        with suppress(NotDeletable):
            plan_deletion(one, there, [], facts, own=OURS)
            deleted.append(one.id)
            assert one.instance in facts.ours
            assert one.mark == "valid"
            assert one.kind != "legacy"
    assert newest.isdisjoint(deleted)
    assert facts.pinned.keys().isdisjoint(deleted)


def test_what_was_taken_over_and_may_live_is_left_alone() -> None:
    """Its own installation may count on it."""
    old = a_set(LAST_NIGHT - timedelta(days=9), instance="aaaaaaaaaaaaaaaa")
    ours = frozenset({OURS, old.instance})
    facts = replace(FACTS, ours=ours, busy=frozenset({old.instance}))
    with pytest.raises(NotDeletable, match="was taken over, and may still make sets"):
        plan_deletion(old, [*nightly(3), old], [], facts, own=OURS)
    plan = plan_deletion(old, [*nightly(3), old], [], replace(facts, busy=frozenset()), own=OURS)
    assert plan.backup_set == old
