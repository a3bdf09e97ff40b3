"""Golden tables for what is asked of a person about sets without a valid mark."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backups.decisions.marks import (
    MarkFacts,
    UnmarkedPoint,
    mark_blockers,
    mark_warnings,
    nothing_marked,
)
from backups.model import Mark
from backups.view import documents, text
from tests.support.records import INSTANT, a_set

ACCEPTED = MarkFacts(accepted=True)


@pytest.mark.parametrize(
    ("mark", "facts", "blockers", "warnings"),
    [
        ("valid", MarkFacts(), [], []),
        ("valid", ACCEPTED, [], []),
        ("unsigned", MarkFacts(), ["unsigned"], []),
        ("unsigned", ACCEPTED, [], ["unsigned_accepted"]),
        ("unknown_key", MarkFacts(), ["mark_key_unknown"], []),
        ("unknown_key", ACCEPTED, [], ["unsigned_accepted"]),
        ("wrong", MarkFacts(), ["mark_wrong"], []),
        ("wrong", ACCEPTED, ["mark_wrong"], []),
        ("valid", MarkFacts(checked=False), [], ["marks_unchecked"]),
    ],
)
def test_what_blocks_a_restore_in_place(
    mark: Mark, facts: MarkFacts, blockers: list[str], warnings: list[str]
) -> None:
    """A person may accept a set without a mark, or with that of a lost key, never a wrong one."""
    one = a_set(mark=mark)
    assert [found.code for found in mark_blockers(one, facts)] == blockers
    assert [found.code for found in mark_warnings(one, facts)] == warnings


@pytest.mark.parametrize(
    ("facts", "blockers"),
    [
        (MarkFacts(), []),
        (MarkFacts(is_marking=True), ["unsigned"]),
        (MarkFacts(accepted=True, is_marking=True), []),
    ],
)
def test_a_legacy_group_needs_an_acceptance_once_there_are_marks(
    facts: MarkFacts, blockers: list[str]
) -> None:
    """It has no mark itself."""
    group = a_set(id="legacy-2025-07-04", kind="legacy", mark="unsigned")
    assert [found.code for found in mark_blockers(group, facts)] == blockers


@pytest.mark.parametrize(
    ("mark", "hours", "is_forged"),
    [("unsigned", 0, True), ("unsigned", 1, False), ("valid", 0, False), ("unknown_key", 0, False)],
)
def test_an_unsigned_set_of_an_installation_that_was_marking(
    mark: Mark, hours: int, is_forged: bool
) -> None:
    """It was made after that installation began to mark, and has no mark."""
    since = INSTANT + timedelta(hours=hours)
    assert MarkFacts(marking_since=since).forged_since(a_set(mark=mark)) == (
        since if is_forged else None
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mark": "unsigned"}, "no mark"),
        ({"mark": "unknown_key", "mark_key": "a" * 16}, f"mark of unknown key {'a' * 16}"),
        ({"mark": "wrong"}, "mark wrong"),
    ],
)
def test_a_list_and_the_json_say_how_a_set_is_marked(fields: dict[str, Any], words: str) -> None:
    """In the last column of `list`, and in the member `mark`."""
    one = a_set(**fields)
    assert words in text.sets([one], more=False)
    assert documents.set_document(one)["mark"] == fields["mark"]
    assert words not in text.sets([a_set()], more=False)


def test_the_host_and_the_version_are_named_where_they_are_known() -> None:
    """Of the newest of each kind, with the line for it."""
    found = nothing_marked(
        [UnmarkedPoint(a_set(mark="unsigned", application="bot 0.9"), "shop-1")], is_marking=True
    )
    assert "20261122T010000Z of 2026-11-22T01:00:00Z (host shop-1, bot 0.9): it has no mark" in (
        found.message
    )
    assert found.hint == (
        "If 20261122T010000Z is yours: ./bot backups restore 20261122T010000Z --in-place --yes "
        "--accept-unsigned."
    )
