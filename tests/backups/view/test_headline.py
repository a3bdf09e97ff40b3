"""The headline: protected, or the first problem with its remedy."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backups.decisions.health import PROBLEM_CODES, Health, Status
from backups.model import Finding
from backups.view import text
from backups.view.headline import TITLES, headline
from tests.support.records import INSTANT, a_run, a_set

NOW = INSTANT + timedelta(hours=5, minutes=12)


def a_status(*problems: Finding, offsite: bool = True) -> Status:
    """How things stand five hours after a backup."""
    return Status(
        health=Health(problems, ()),
        cron="0 1 * * *",
        next_run_at=INSTANT + timedelta(days=1),
        owner=("a-host", 1),
        kind="spaces",
        offsite=offsite,
        location="a bucket",
        last_contact_at=INSTANT,
        running=None,
        last_run=a_run(),
        last_success=a_run(),
        newest_restore_point=a_set(),
        restore_points=1,
        last_drill=None,
    )


def test_all_is_well() -> None:
    """The age of the newest restore point is all that a person needs."""
    found = headline(a_status(), NOW)
    assert found.good
    assert found.title == "Protected"
    assert found.message == "The newest restore point is 5 h 12 min old, read back and proven."
    assert (found.remedy, found.others) == (None, ())


def test_a_disk_of_its_own_is_said() -> None:
    """Protected, and yet only as long as this disk lives."""
    message = headline(a_status(offsite=False), NOW).message
    assert message.endswith("It is on this host's own disk only.")


def test_the_first_problem_with_its_remedy() -> None:
    """Message and hint become sentences; the others are kept for below."""
    drill = Finding("drill_failed", "the last rehearsal failed", "Rehearse again")
    other = Finding("two_writers", "another one", "Move it.")
    found = headline(a_status(drill, other), NOW)
    assert not found.good
    assert found.title == TITLES["drill_failed"]
    assert (found.message, found.remedy) == ("The last rehearsal failed.", "Rehearse again.")
    assert (found.code, found.others) == ("drill_failed", (other,))


@pytest.mark.parametrize("symptom", ["overdue", "no_restore_point"])
def test_a_cause_comes_before_what_follows_from_it(symptom: str) -> None:
    """That a backup is late is news only when nothing tells why."""
    late = Finding(symptom, "late", "Make one.")
    cause = Finding("suspect", "the data looks damaged", "Look at it.")
    assert headline(a_status(late, cause), NOW).code == "suspect"
    assert headline(a_status(late), NOW).code == symptom


def test_every_problem_has_a_title() -> None:
    """Each code that `health` calls a problem is told in a few words of its own."""
    assert set(PROBLEM_CODES) == set(TITLES)


def test_a_terminal_reads_the_same() -> None:
    """`status` begins with the words of the page."""
    good = a_status()
    assert text.status(good, NOW).startswith(
        "Protected. The newest restore point is 5 h 12 min old, read back and proven.\n"
    )
    assert "next run              in 18 h 48 min, 2026-11-23T01:00:00Z" in text.status(good, NOW)
    failed = Finding("last_run_failed", "no answer", "Check the network.")
    bad = replace(good, health=Health((failed,), ()))
    assert text.status(bad, NOW).splitlines()[:3] == [
        "NOT HEALTHY. The last backup failed.",
        "  problem last_run_failed: no answer",
        "    -> Check the network.",
    ]
