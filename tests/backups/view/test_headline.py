"""The headline: protected, or the first problem with its remedy."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest

from backups.decisions.health import AMBER_CODES, PROBLEM_CODES, Health, Status
from backups.decisions.protection import Fact
from backups.model import Finding
from backups.view import text
from backups.view.headline import AMBER_TITLES, TITLES, headline
from tests.support.records import INSTANT, a_run, a_set

NOW = INSTANT + timedelta(hours=5, minutes=12)


def a_status(*problems: Finding, warnings: tuple[Finding, ...] = ()) -> Status:
    """How things stand five hours after a backup."""
    return Status(
        health=Health((Fact("point", True, "the newest"),), problems, warnings),
        cron="0 1 * * *",
        next_run_at=INSTANT + timedelta(days=1),
        retry_at=None,
        owner=("a-host", 1),
        kind="spaces",
        offsite=True,
        location="a bucket",
        last_contact_at=INSTANT,
        running=None,
        last_run=a_run(),
        last_success=a_run(),
        newest_restore_point=a_set(),
        restore_points=1,
        last_drill=None,
        newest_point_at=INSTANT,
        follow="sets",
        run_by="app",
    )


def test_all_is_well() -> None:
    """The age of the newest restore point is all that a person needs."""
    found = headline(a_status(), NOW)
    assert found.light == "green"
    assert found.title == "Protected"
    assert found.message == "The newest restore point is 5 h 12 min old, read back and proven."
    assert (found.remedy, found.others) == (None, ())


@pytest.mark.parametrize("code", AMBER_CODES)
def test_a_weakness_is_the_headline(code: str) -> None:
    """With an amber light the headline does not say `Protected`, and has the remedy."""
    found = headline(a_status(warnings=(Finding(code, "it is weak", "Correct it"),)), NOW)
    assert found.light == "amber"
    assert found.title == AMBER_TITLES[code]
    assert found.message == "The newest restore point is 5 h 12 min old, read back and proven."
    assert (found.remedy, found.code) == ("Correct it.", code)


def test_a_fact_that_is_not_known_is_no_protection() -> None:
    """Also when there is no finding for it."""
    unknown = Health((Fact("proof", None, "not known"),), (), ())
    found = headline(replace(a_status(), health=unknown), NOW)
    assert found.light == "amber"
    assert found.title == "Backed up, but not all that protects it is known"


def test_other_warnings_leave_it_green() -> None:
    """What does not weaken the protection is said below."""
    found = headline(a_status(warnings=(Finding("not_wal", "slow", "Switch it"),)), NOW)
    assert (found.light, found.title) == ("green", "Protected")


def test_the_first_problem_with_its_remedy() -> None:
    """Message and hint become sentences; the others are kept for below."""
    drill = Finding("drill_failed", "the last rehearsal failed", "Rehearse again")
    other = Finding("two_writers", "another one", "Move it.")
    found = headline(a_status(drill, other), NOW)
    assert found.light == "red"
    assert found.title == TITLES["drill_failed"]
    assert (found.message, found.remedy) == ("The last rehearsal failed.", "Rehearse again.")
    assert (found.code, found.others) == ("drill_failed", (other,))


def test_every_problem_has_a_title() -> None:
    """Each problem and each weakness is told in a few words of its own."""
    assert set(TITLES) == set(PROBLEM_CODES)
    assert set(AMBER_TITLES) == set(AMBER_CODES)


def test_a_terminal_reads_the_same() -> None:
    """`status` begins with the words of the page."""
    good = a_status()
    assert text.status(good, NOW).startswith(
        "Protected. The newest restore point is 5 h 12 min old, read back and proven.\n"
    )
    assert "next run              in 18 h 48 min, 2026-11-23T01:00:00Z" in text.status(good, NOW)
    failed = Finding("last_run_failed", "no answer", "Check the network.")
    bad = replace(good, health=Health((), (failed,), ()))
    assert text.status(bad, NOW).splitlines()[:3] == [
        "NOT HEALTHY. The last backup failed.",
        "  problem last_run_failed: no answer",
        "    -> Check the network.",
    ]


FOLLOWED = "Every change is stored within a second, read back and proven; newest point 06:12:00."


def followed(*warnings: Finding, **other: Any) -> Status:
    """How things stand while changes are followed: the newest point is of this second."""
    given = {"follow": "wal", "newest_point_at": NOW, "stored_within": timedelta(seconds=1)}
    return replace(a_status(warnings=warnings), **{**given, **other})


@pytest.mark.parametrize("follow", ["wal", "compare"])
def test_every_change_is_stored(follow: Literal["wal", "compare"]) -> None:
    """While changes are followed the promise is the message, with the newest point."""
    assert headline(followed(follow=follow), NOW).message == FOLLOWED


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "a minute"), (5, "5 s"), (600, "10 min"), (3600, "an hour")]
)
def test_a_longer_delay_is_said(seconds: int, words: str) -> None:
    """What is promised is what was set."""
    found = headline(followed(stored_within=timedelta(seconds=seconds)), NOW)
    assert f"stored within {words}, " in found.message


def test_a_newest_point_of_another_day_has_its_day() -> None:
    """Nothing has changed since then; the time alone would say today."""
    found = headline(followed(newest_point_at=NOW - timedelta(days=1)), NOW)
    assert found.message.endswith("newest point 21 Nov, 06:12:00.")


@pytest.mark.parametrize("code", ["not_offsite", "nobody_told", "drill_overdue"])
def test_a_weakness_beside_the_promise(code: str) -> None:
    """What has nothing to do with changes leaves the promise as it is."""
    assert headline(followed(Finding(code, "weak", "")), NOW).message == FOLLOWED


@pytest.mark.parametrize("code", [code for code in AMBER_CODES if code.startswith("thread")])
def test_a_weakness_of_the_promise(code: str) -> None:
    """Nothing is promised while a part of the app may not work."""
    found = headline(followed(Finding(code, "weak", "")), NOW)
    assert found.message.startswith("The newest restore point is ")


@pytest.mark.parametrize(
    "other",
    [
        {"follow": "sets"},
        {"follow": "off"},
        {"follow": "stopped"},
        {"stored_within": None},
        {"newest_point_at": None},
        {"health": Health((Fact("proof", None, "not known"),), (), ())},
    ],
)
def test_no_promise_without_following(other: dict[str, Any]) -> None:
    """Then the age of the newest restore point is what is known."""
    assert headline(followed(**other), NOW).message.startswith("The newest restore point is ")
