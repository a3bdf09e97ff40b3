"""Tests of `backups.decisions.health`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.decisions.health import assess
from backups.decisions.protection import HealthFacts
from backups.model import Beat, DrillReport, Finding, MissingPoint
from backups.vocabulary.following import Following, FollowState
from shared.crontab import Crontab
from tests.support.records import INSTANT, a_failed_run, a_run, a_set, a_stored_object

DAILY = "0 1 * * *"
BEATS = tuple(
    Beat(name, timedelta(seconds=3), timedelta(minutes=3))
    for name in ("scheduler", "follower", "alerts")
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOW = at("2026-11-22T02:00:00")


def facts(**other: Any) -> HealthFacts:
    """A host on which all is well, an hour after its backup; `other` are fields."""
    values: dict[str, Any] = {
        "now": NOW,
        "schedule": Crontab(DAILY),
        "offsite": True,
        "location": "my-bucket at https://nyc3.digitaloceanspaces.com",
        "newest": a_set(token_key="fit"),
        "token_keys": ("fit",),
        "seen_at": other.get("now", NOW),
        "beats": BEATS,
        "last_run": a_run(),
    }
    return HealthFacts(**{**values, **other})


def codes(**other: Any) -> tuple[list[str], list[str]]:
    """The codes of the problems and of the warnings."""
    health = assess(facts(**other))
    return [one.code for one in health.problems], [one.code for one in health.warnings]


def following(since: datetime | None = None, mode: FollowState = "compare") -> dict[str, Any]:
    """Changes are followed, and one waits `since` a time."""
    return {"following": Following(mode, "the disk is full", since)}


def a_set_with(**other: Any) -> dict[str, Any]:
    """The newest set has a source with these fields."""
    objects = (a_stored_object("tokens"), a_stored_object("sessions", **other))
    return {"newest": a_set(objects=objects, token_key="fit")}


def beats(name: str, **other: Any) -> dict[str, Any]:
    """All threads are well, but for the one with this name."""
    return {"beats": tuple(replace(b, **other) if b.name == name else b for b in BEATS)}


def a_drill(days_ago: float, **other: Any) -> DrillReport:
    """A drill that many days ago."""
    values: dict[str, Any] = {
        "set_id": "20261122T010000Z",
        "at": NOW - timedelta(days=days_ago),
        "seconds": 1.0,
        "rows": 6,
        "unreadable": 0,
        "failure": None,
    }
    return DrillReport(**{**values, **other})


def drills(days_ago: float) -> dict[str, Any]:
    """A drill is due each Sunday at three, and the last one was that many days ago."""
    return {"drill_schedule": Crontab("0 3 * * 0"), "last_drill": a_drill(days_ago)}


MINUTE = timedelta(minutes=1)
FAULT = Finding("source_missing", "tokens.db is gone", "Restore it.")
LOST = MissingPoint("20261121T010000Z", "vanished", INSTANT, INSTANT)


@pytest.mark.parametrize(
    ("other", "light", "problems", "warnings"),
    [
        ({}, "green", [], []),
        ({"last_run": None}, "green", [], []),
        # The point, its age, where it was seen, its keys.
        ({"newest": None}, "red", ["no_restore_point"], []),
        ({"newest": None, "begun_at": at("2026-11-21T12:00:00")}, "red", ["no_restore_point"], []),
        (
            {"newest": None, "begun_at": at("2026-11-20T12:00:00")},
            "red",
            ["overdue", "no_restore_point"],
            [],
        ),
        ({"now": at("2026-11-23T03:00:01")}, "red", ["overdue"], []),
        ({"seen_at": None, "now": INSTANT + 9 * MINUTE}, "amber", [], ["not_seen"]),
        ({"seen_at": None, "now": INSTANT + 10 * MINUTE}, "red", ["not_seen"], []),
        ({"seen_at": NOW - timedelta(hours=1)}, "green", [], []),
        ({"seen_at": NOW - timedelta(minutes=61)}, "amber", [], ["not_seen"]),
        ({"seen_at": NOW - timedelta(minutes=70)}, "red", ["not_seen"], []),
        ({"seen_at": NOW - timedelta(days=1), "beats": (), "run_by": "cron"}, "green", [], []),
        ({"attempts_are_known": False}, "amber", [], ["attempts_unknown"]),
        (
            {"attempts_are_known": False, "begun_at": NOW - 9 * MINUTE},
            "amber",
            [],
            ["attempts_unknown"],
        ),
        (
            {"attempts_are_known": False, "begun_at": NOW - 10 * MINUTE},
            "red",
            ["attempts_unknown"],
            [],
        ),
        ({"token_keys": ("another",)}, "red", ["token_key_lost"], []),
        ({"token_keys": ()}, "amber", [], ["keys_unknown"]),
        ({"newest": a_set()}, "amber", [], ["keys_unknown"]),
        # What was tried.
        ({"failure": a_failed_run()}, "red", ["last_run_failed"], []),
        (
            {"newest": None, "failure": a_failed_run()},
            "red",
            ["last_run_failed", "no_restore_point"],
            [],
        ),
        ({"last_run": a_run(status="interrupted")}, "green", [], ["last_run_interrupted"]),
        ({"found_faults": (FAULT, FAULT)}, "red", ["source_missing"], []),
        # The threads of the leading process.
        ({"beats": ()}, "red", ["not_scheduled"], []),
        ({"beats": (), "unled_since": NOW - 9 * MINUTE}, "amber", [], ["not_scheduled"]),
        ({"beats": (), "unled_since": NOW - 10 * MINUTE}, "red", ["not_scheduled"], []),
        ({"beats": (), "unled_since": NOW + MINUTE}, "red", ["not_scheduled"], []),
        ({"beats": BEATS[1:]}, "amber", [], ["thread_stuck"]),
        (beats("scheduler", age=4 * MINUTE), "red", ["thread_stuck"], []),
        (beats("follower", age=4 * MINUTE), "red", ["thread_stuck"], []),
        (beats("alerts", age=4 * MINUTE), "red", ["thread_stuck"], []),
        ({**beats("follower", age=4 * MINUTE), "follows": False}, "red", ["thread_stuck"], []),
        ({"beats": (BEATS[0], BEATS[2]), "follows": False}, "green", [], []),
        (following(), "green", [], []),
        (following(NOW - 2 * MINUTE), "amber", [], ["changes_not_stored"]),
        (following(NOW - 10 * MINUTE), "red", ["changes_not_stored"], []),
        (following(NOW + MINUTE), "red", ["changes_not_stored"], []),
        (following(mode="stopped"), "green", [], ["follow_stopped"]),
        (
            beats("alerts", failure="no network", failing_for=9 * MINUTE),
            "amber",
            [],
            ["thread_failing"],
        ),
        (
            beats("alerts", failure="no network", failing_for=10 * MINUTE),
            "red",
            ["thread_failing"],
            [],
        ),
        (
            {"beats": (*BEATS, Beat("inbox", 4 * MINUTE, 3 * MINUTE))},
            "red",
            ["thread_stuck"],
            [],
        ),
        # With cron, neither threads nor alerts are promised.
        ({"beats": (), "run_by": "cron", "somebody_is_told": False}, "green", [], []),
        ({"run_by": "cron", "now": at("2026-11-23T03:00:01")}, "red", ["overdue"], []),
        # The store, the people, the rehearsals.
        ({"offsite": False}, "amber", [], ["not_offsite"]),
        ({"somebody_is_told": False}, "amber", [], ["nobody_told"]),
        ({"missing_points": (LOST,)}, "red", ["points_missing"], []),
        ({"future": ("20990101T000000Z",)}, "red", ["future_set"], []),
        (
            {"future": ("20990101T000000Z",), "future_is_over": True},
            "green",
            [],
            ["future_set"],
        ),
        (drills(13), "green", [], []),
        (drills(14), "amber", [], ["drill_overdue"]),
        (drills(27), "amber", [], ["drill_overdue"]),
        (drills(28), "red", ["drill_overdue"], []),
        (
            {"drill_schedule": Crontab("0 3 * * 0"), "begun_at": NOW - timedelta(days=200)},
            "red",
            ["drill_overdue"],
            [],
        ),
        ({"last_drill": a_drill(1, failure="no key")}, "red", ["drill_failed"], []),
        ({"drill_possible": False}, "green", [], ["drill_not_possible"]),
        (a_set_with(journal_mode="delete", same_instant=False), "green", [], ["not_wal"]),
        (a_set_with(journal_mode="wal", same_instant=False), "green", [], ["not_same_instant"]),
    ],
)
def test_what_each_fact_means(
    other: dict[str, Any], light: str, problems: list[str], warnings: list[str]
) -> None:
    """Each fact alone gives the light and the finding that are documented for it, and no other."""
    assert codes(**other) == (problems, warnings)
    health = assess(facts(**other))
    assert health.light == light
    assert health.healthy == (light != "red")


@st.composite
def weakened(draw: st.DrawFn) -> dict[str, Any]:
    """Facts of which at least one that green rests on is taken away."""
    taken: list[dict[str, Any]] = [
        {"newest": None},
        {"seen_at": None},
        {"seen_at": NOW - timedelta(hours=1) - draw(st.timedeltas(MINUTE, timedelta(days=999)))},
        {"attempts_are_known": False},
        {"token_keys": ()},
        {"token_keys": ("another",)},
        {"newest": a_set(token_key=None)},
        {"beats": ()},
        {"beats": draw(st.sampled_from([BEATS[1:], BEATS[:1], BEATS[::2]]))},
        {"failure": a_failed_run()},
        {"found_faults": (FAULT,)},
        {"missing_points": (LOST,)},
        {"offsite": False},
        {"somebody_is_told": False},
        {"now": at("2026-11-23T03:00:01") + draw(st.timedeltas(timedelta(0), timedelta(9999)))},
        beats(
            draw(st.sampled_from(["scheduler", "follower", "alerts"])),
            age=timedelta(minutes=3) + draw(st.timedeltas(MINUTE, timedelta(days=999))),
        ),
        beats(draw(st.sampled_from(["scheduler", "follower", "alerts"])), failure="any"),
    ]
    chosen = draw(st.lists(st.sampled_from(taken), min_size=1, max_size=4))
    return {name: value for one in chosen for name, value in one.items()}


@given(weakened())
def test_without_one_fact_it_is_never_green(other: dict[str, Any]) -> None:
    """Whatever else is so: one fact that does not hold or is not known, and it is not green."""
    health = assess(facts(**other))
    assert health.light != "green"
    assert (health.light == "red") == bool(health.problems)


def test_every_fact_can_be_taken_away() -> None:
    """The property above takes away each fact that green rests on, by name."""
    assert {fact.name for fact in assess(facts()).facts} == {
        "attempt",
        "point",
        "age",
        "seen",
        "proof",
        "keys",
        "scheduler",
        "follower",
        "alerts",
    }
    assert all(fact.holds for fact in assess(facts()).facts)
    assert all(
        fact.finding
        for other in (
            {"newest": None, "beats": ()},
            {"seen_at": None, "token_keys": (), "failure": a_failed_run()},
        )
        for fact in assess(facts(**other)).facts
        if fact.holds is False
    )


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
    problems, _ = codes(
        schedule=Crontab(schedule), newest=a_set(at(newest), token_key="fit"), now=at(now)
    )

    assert problems == (["overdue"] if overdue else [])


def test_a_failure_is_told_in_its_own_words() -> None:
    """The finding of a failed run has the run, its message and its hint."""
    (problem,) = assess(facts(failure=a_failed_run("the-run"))).problems

    assert "the-run" in problem.message
    assert "there was no answer" in problem.message
    assert problem.hint == "Check the network."


@pytest.mark.parametrize(
    ("wait", "told"),
    [
        (7 * MINUTE, "at 2026-11-22T02:07:00Z."),
        (timedelta(0), "within a minute."),
    ],
)
def test_a_failure_says_when_the_app_tries_again(wait: timedelta, told: str) -> None:
    """Before what a person can do meanwhile, which may end with a command."""
    known = facts(failure=a_failed_run("the-run"))

    (problem,) = assess(replace(known, retry_at=known.now + wait)).problems

    assert problem.hint == f"The app tries again by itself {told} Check the network."


def test_findings_name_what_they_are_about() -> None:
    """Source, place and times are in the text, and every finding says what to do."""
    health = assess(
        facts(
            offsite=False,
            location="/srv/spaces",
            beats=(),
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
    assert not assess(facts(failure=a_failed_run())).healthy


def test_health_is_judged_at_the_instant_given() -> None:
    """The same facts are healthy on one day and not on another: nothing reads a clock."""
    assert assess(facts(now=INSTANT)).healthy
    assert not assess(facts(now=at("2027-01-01T00:00:00"))).healthy


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("vanished",), "1 is gone"),
        (("hollow",), "1 lacks objects or has objects of another size"),
        (
            ("vanished", "hollow", "hollow"),
            "1 is gone, and 2 lack objects or have objects of another size",
        ),
    ],
)
def test_only_what_is_missing_is_named(kinds: tuple[Any, ...], said: str) -> None:
    """`points_missing` counts no kind of which there is none."""
    points = tuple(replace(LOST, kind=kind) for kind in kinds)
    (problem,) = assess(facts(missing_points=points)).problems
    assert problem.message.endswith(f": {said}")
