"""Every line that a plan gives to type does what was asked for, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.decisions.marks import MarkFacts
from backups.decisions.restore_plan import KeyFacts, LiveState, RestorePlan, plan_restore
from backups.model import Finding, Mark
from backups.view import restore_text
from tests.support.records import INSTANT, a_set, a_stored_object

SET_ID = "20261122T010000Z"
LOCKED = Finding("database_locked", "it is locked.", "End the process.")


def plan(
    *, only: str | None = None, mark: Mark = "valid", accepted: bool = False, locked: str = ""
) -> RestorePlan:
    names = ("tokens", "sessions")
    found = a_set(mark=mark, objects=tuple(a_stored_object(name) for name in names))
    live = [
        LiveState(name, Path(f"{name}.db"), "locked", fault=LOCKED)
        if name == locked
        else LiveState(name, Path(f"{name}.db"), "healthy", rows={})
        for name in names
    ]
    return plan_restore(
        found, live, only, KeyFacts(None, ()), INSTANT, marks=MarkFacts(accepted=accepted)
    )


def shown(found: RestorePlan) -> list[str]:
    """The lines of commands in a plan."""
    lines = restore_text.plan(found, to=None, ask=True).splitlines()
    return [line.strip() for line in lines if "./bot backups" in line]


def test_the_lines_of_one_source() -> None:
    """Who asks for one source is not given the line that replaces all."""
    assert shown(plan(only="tokens")) == [
        f"./bot backups restore {SET_ID} --only tokens --in-place --yes",
        f"./bot backups restore {SET_ID} --only tokens --to DIR",
    ]


def test_the_lines_of_an_accepted_set() -> None:
    """The line that is given is the one that succeeds: it accepts the lack of a mark again."""
    *_, in_place, folder = shown(plan(only="tokens", mark="unsigned", accepted=True))
    assert in_place == (
        f"./bot backups restore {SET_ID} --only tokens --in-place --yes --accept-unsigned"
    )
    assert folder == f"./bot backups restore {SET_ID} --only tokens --to DIR"


@pytest.mark.parametrize("mark", ["unsigned", "unknown_key", "wrong"])
def test_the_hint_of_a_mark_keeps_the_source(mark: Mark) -> None:
    """What a set without a valid mark needs is said of the source that was asked for."""
    (found,) = plan(only="sessions", mark=mark).blockers
    commands = found.hint.split(f"./bot backups restore {SET_ID}")[1:]
    assert commands
    assert all(one.startswith(" --only sessions ") for one in commands)


def test_the_hint_of_a_locked_source_keeps_what_was_accepted() -> None:
    """The way around a source that cannot be replaced is one that succeeds."""
    (found,) = plan(mark="unsigned", accepted=True, locked="tokens").blockers
    assert found.hint.endswith(
        f"./bot backups restore {SET_ID} --only sessions --in-place --yes --accept-unsigned"
        f" or ./bot backups restore {SET_ID} --to DIR"
    )
    (alone,) = plan(only="tokens", locked="tokens").blockers
    assert alone.hint.endswith(f"./bot backups restore {SET_ID} --only tokens --to DIR")
