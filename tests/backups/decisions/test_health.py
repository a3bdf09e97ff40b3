"""Tests of `backups.decisions.health`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backups.decisions.health import HealthFacts, assess
from shared.crontab import Crontab
from tests.support.records import INSTANT, a_failed_run, a_run, a_set, a_stored_object

DAILY = "0 1 * * *"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def facts(**other: Any) -> HealthFacts:
    """A host on which all is well, an hour after its backup; `other` are fields."""
    values: dict[str, Any] = {
        "now": at("2026-11-22T02:00:00"),
        "schedule": Crontab(DAILY),
        "offsite": True,
        "location": "my-bucket at https://nyc3.digitaloceanspaces.com",
        "scheduled": True,
        "newest": a_set(),
        "last_run": a_run(),
    }
    return HealthFacts(**{**values, **other})


def codes(**other: Any) -> tuple[list[str], list[str]]:
    """The codes of the problems and of the warnings."""
    health = assess(facts(**other))
    return [one.code for one in health.problems], [one.code for one in health.warnings]


def a_set_with(**other: Any) -> dict[str, Any]:
    """The newest set has a source with these fields."""
    objects = (a_stored_object("tokens"), a_stored_object("sessions", **other))
    return {"newest": a_set(objects=objects)}


@pytest.mark.parametrize(
    ("other", "problems", "warnings"),
    [
        ({}, [], []),
        ({"newest": None}, ["no_restore_point"], []),
        ({"newest": None, "last_run": None}, ["no_restore_point"], []),
        (
            {"newest": None, "begun_at": at("2026-11-21T12:00:00")},
            ["no_restore_point"],
            [],
        ),
        (
            {"newest": None, "begun_at": at("2026-11-20T12:00:00")},
            ["no_restore_point", "overdue"],
            [],
        ),
        ({"last_run": None}, [], []),
        ({"last_run": a_failed_run()}, ["last_run_failed"], []),
        ({"newest": None, "last_run": a_failed_run()}, ["last_run_failed", "no_restore_point"], []),
        ({"last_run": a_run(status="interrupted")}, [], ["last_run_interrupted"]),
        ({"offsite": False}, [], ["not_offsite"]),
        ({"scheduled": False}, [], ["not_scheduled"]),
        ({"offsite": False, "scheduled": False}, [], ["not_offsite", "not_scheduled"]),
        (a_set_with(journal_mode="delete", same_instant=False), [], ["not_wal"]),
        (a_set_with(journal_mode="wal", same_instant=False), [], ["not_same_instant"]),
    ],
)
def test_what_each_fact_means(
    other: dict[str, Any], problems: list[str], warnings: list[str]
) -> None:
    """Each fact alone gives the finding that is documented for it, and no other."""
    assert codes(**other) == (problems, warnings)
    assert assess(facts(**other)).healthy == (problems == [])


@pytest.mark.parametrize(
    ("schedule", "newest", "now", "overdue"),
    [
        (DAILY, "2026-11-21T01:00:05", "2026-11-22T01:30:00", False),
        (DAILY, "2026-11-21T01:00:05", "2026-11-22T03:00:00", False),
        (DAILY, "2026-11-21T01:00:05", "2026-11-22T03:00:01", True),
        (DAILY, "2026-11-22T01:00:00", "2026-11-22T23:00:00", False),
        (DAILY, "2026-11-22T00:59:59", "2026-11-22T03:00:01", True),
        (DAILY, "2026-11-20T01:00:05", "2026-11-22T00:30:00", True),
        (DAILY, "2026-11-20T01:00:05", "2026-11-22T01:30:00", True),
        # Schedules whose due instants are closer together than the grace.
        ("0 * * * *", "2026-11-22T00:00:05", "2026-11-22T02:59:00", False),
        ("0 * * * *", "2026-11-22T00:00:05", "2026-11-22T03:00:01", True),
        ("0 * * * *", "2026-11-15T00:00:05", "2026-11-22T03:30:00", True),
        ("* * * * *", "2026-11-22T00:00:05", "2026-11-22T02:00:30", False),
        ("* * * * *", "2026-11-22T00:00:05", "2026-11-22T02:01:30", True),
        # The clock was set back.
        (DAILY, "2026-11-22T01:00:05", "2026-11-20T12:00:00", False),
    ],
)
def test_when_a_set_is_overdue(schedule: str, newest: str, now: str, overdue: bool) -> None:
    """Two hours after a due instant without a set as young as it, however often one is due."""
    problems, _ = codes(schedule=Crontab(schedule), newest=a_set(at(newest)), now=at(now))

    assert problems == (["overdue"] if overdue else [])


def test_a_failure_is_told_in_its_own_words() -> None:
    """The finding of a failed run has the run, its message and its hint."""
    (problem,) = assess(facts(last_run=a_failed_run("the-run"))).problems

    assert "the-run" in problem.message
    assert "there was no answer" in problem.message
    assert problem.hint == "Check the network."


def test_findings_name_what_they_are_about() -> None:
    """Source, place and times are in the text, and every finding says what to do."""
    health = assess(
        facts(
            offsite=False,
            location="/srv/spaces",
            scheduled=False,
            now=at("2026-11-25T12:00:00"),
            **a_set_with(journal_mode="delete", same_instant=False),
        )
    )
    found = {one.code: one for one in (*health.problems, *health.warnings)}

    assert "2026-11-22T01:00:00Z" in found["overdue"].message
    assert "/srv/spaces" in found["not_offsite"].message
    assert "sessions" in found["not_wal"].message
    assert "delete" in found["not_wal"].message
    assert all(one.hint for one in found.values())


def test_only_a_failed_run_is_a_problem_while_a_set_protects() -> None:
    """A run that was stopped leaves the host healthy: the scheduler makes it up."""
    assert assess(facts(last_run=a_run(status="interrupted"))).healthy
    assert not assess(facts(last_run=a_failed_run())).healthy


def test_health_is_judged_at_the_instant_given() -> None:
    """The same facts are healthy on one day and not on another: nothing reads a clock."""
    assert assess(facts(now=INSTANT)).healthy
    assert not assess(facts(now=at("2027-01-01T00:00:00"))).healthy
