"""Tests of `backups.host.run_log`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from backups.errors import RunNotFound
from backups.host.records import open_records
from backups.host.run_log import RunLog
from backups.model import OperationName, RunError, RunStatus, Trigger
from shared.databases.sqlite import Database
from tests.support.records import INSTANT, a_failed_run, a_run


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Database]:
    with closing(open_records(tmp_path)) as database:
        yield database


@pytest.fixture
def run_log(records: Database) -> RunLog:
    return RunLog(records)


def test_a_run_is_told_as_it_began_and_as_it_ended(run_log: RunLog) -> None:
    """What was recorded of a run comes back, field by field, at each step."""
    begun = a_run(status="running", finished_at=None, set_id=None, stage=None)
    run_log.start(begun)
    assert run_log.get(begun.id) == begun

    run_log.set_stage(begun.id, "proof")
    assert run_log.get(begun.id) == replace(begun, stage="proof")

    over = replace(
        begun,
        status="failed",
        finished_at=INSTANT + timedelta(seconds=9, milliseconds=250),
        stage="proof",
        error=RunError("proof_failed", "the bytes differ", "Run it again."),
    )
    run_log.finish(over)
    assert run_log.get(begun.id) == over


def test_a_success_has_its_set_and_no_error(run_log: RunLog) -> None:
    """A run that succeeded names its set."""
    run = a_run()
    run_log.start(replace(run, status="running", finished_at=None, set_id=None))
    run_log.finish(run)

    assert run_log.get(run.id) == run
    assert run_log.get(run.id).error is None


def test_finishing_one_run_leaves_the_others(run_log: RunLog) -> None:
    """Only the run that ended is changed."""
    for name in ("one", "two", "three"):
        run_log.start(a_run(name, status="running", finished_at=None))

    run_log.finish(a_failed_run("two"))

    assert [run.status for run in run_log.page(9)] == ["running", "failed", "running"]


def test_runs_survive_the_process(tmp_path: Path) -> None:
    """Another opening of the records has the same runs."""
    with closing(open_records(tmp_path)) as records:
        RunLog(records).start(a_run())

    with closing(open_records(tmp_path)) as records:
        assert RunLog(records).page(9) == [a_run()]


def test_a_run_that_is_not_there_is_an_error_by_name(run_log: RunLog) -> None:
    """An unknown id is `RunNotFound`, also as the place where a page begins."""
    run_log.start(a_run())

    with pytest.raises(RunNotFound, match="no-such-run"):
        run_log.get("no-such-run")
    with pytest.raises(RunNotFound, match="no-such-run"):
        run_log.page(9, before="no-such-run")


def test_pages_go_from_the_newest_to_the_oldest(run_log: RunLog) -> None:
    """Page after page gives every run once, in the order in which they began, backwards."""
    names = [f"run-{number}" for number in range(10)]
    for name in names:
        run_log.start(a_run(name))

    seen: list[str] = []
    while page := run_log.page(3, before=seen[-1] if seen else None):
        assert len(page) <= 3
        seen += [run.id for run in page]

    assert seen == names[::-1]


def test_the_order_is_that_of_the_starts_whatever_the_clock_says(run_log: RunLog) -> None:
    """A clock that was set back does not reorder the runs."""
    run_log.start(a_run("first", started_at=INSTANT))
    run_log.start(a_run("second", started_at=INSTANT - timedelta(days=1)))

    assert [run.id for run in run_log.page(9)] == ["second", "first"]
    assert run_log.last("backup", "succeeded") == a_run(
        "second", started_at=INSTANT - timedelta(days=1)
    )


def test_the_last_run_of_a_kind(run_log: RunLog) -> None:
    """`last` looks at the operation and at the statuses that are asked for."""
    kinds: tuple[tuple[str, OperationName, RunStatus], ...] = (
        ("1", "backup", "succeeded"),
        ("2", "backup", "failed"),
        ("3", "verify", "succeeded"),
        ("4", "backup", "running"),
    )
    for name, operation, status in kinds:
        run_log.start(a_run(name, operation=operation, status=status))

    def last(operation: OperationName, *statuses: RunStatus) -> str | None:
        found = run_log.last(operation, *statuses)
        return found.id if found else None

    assert last("backup", "succeeded") == "1"
    assert last("backup", "succeeded", "failed") == "2"
    assert last("verify", "succeeded") == "3"
    assert last("verify", "failed") is None
    assert last("restore", "succeeded") is None


def test_runs_whose_process_died_become_interrupted(run_log: RunLog) -> None:
    """Every run that says `running` is closed, with an error; the others stay as they are."""
    run_log.start(a_run("dead", status="running", finished_at=None, set_id=None, stage="store"))
    run_log.start(a_failed_run("failed"))
    later = INSTANT + timedelta(hours=1)
    running = run_log.running()
    assert running is not None
    assert running.id == "dead"

    assert run_log.mark_interrupted(later) == ["dead"]

    dead = run_log.get("dead")
    assert (dead.status, dead.finished_at, dead.stage) == ("interrupted", later, "store")
    assert dead.error is not None
    assert dead.error.code == "interrupted"
    assert "./bot backups run" in dead.error.hint
    assert "retry" not in dead.error.hint
    assert run_log.get("failed") == a_failed_run("failed")
    assert run_log.running() is None
    assert run_log.mark_interrupted(later) == []


@pytest.mark.parametrize("milliseconds", [0, 1, 5, 999, 60_000])
def test_a_failure_right_after_the_due_instant_counts(run_log: RunLog, milliseconds: int) -> None:
    """A scheduled run begins some milliseconds after its due instant, and its failure counts."""
    started = INSTANT + timedelta(milliseconds=milliseconds)
    finished = started + timedelta(seconds=3)
    run_log.start(a_failed_run(started_at=started, finished_at=finished))

    assert run_log.automatic_failures_since(INSTANT) == [finished]


@pytest.mark.parametrize("milliseconds", [-1, -500, -1000, -60_000])
def test_a_failure_before_the_due_instant_does_not_count(
    run_log: RunLog, milliseconds: int
) -> None:
    """What went wrong before the due instant was another due instant's failure."""
    started = INSTANT + timedelta(milliseconds=milliseconds)
    run_log.start(a_failed_run(started_at=started, finished_at=INSTANT + timedelta(seconds=3)))

    assert run_log.automatic_failures_since(INSTANT) == []


@pytest.mark.parametrize(
    ("operation", "trigger", "status", "counts"),
    [
        ("backup", "scheduled", "failed", True),
        ("backup", "catch-up", "failed", True),
        ("backup", "manual", "failed", False),
        ("backup", "scheduled", "interrupted", False),
        ("backup", "scheduled", "succeeded", False),
        ("verify", "scheduled", "failed", False),
    ],
)
def test_which_failures_hold_up_the_next_try(
    run_log: RunLog, operation: OperationName, trigger: Trigger, status: RunStatus, counts: bool
) -> None:
    """Only automatic backups that failed count: a person's tries hold nothing up."""
    run_log.start(a_failed_run(operation=operation, trigger=trigger, status=status))

    assert bool(run_log.automatic_failures_since(INSTANT)) is counts


def test_failures_come_oldest_first(run_log: RunLog) -> None:
    """The newest failure is the last of the list, as `next_try` reads it."""
    times = [INSTANT + timedelta(minutes=number) for number in range(3)]
    for number, time in enumerate(times):
        run_log.start(a_failed_run(f"run-{number}", started_at=time, finished_at=time))

    assert run_log.automatic_failures_since(INSTANT) == times


def test_backups_by_day(run_log: RunLog) -> None:
    """Backup runs are counted by day and by how they ended, from a day on."""
    for number, (day, status) in enumerate(
        [(20, "succeeded"), (21, "failed"), (21, "failed"), (21, "succeeded"), (22, "succeeded")]
    ):
        at = INSTANT.replace(day=day)
        run = a_run(f"run-{number}", started_at=at, finished_at=at, status=status)
        run_log.start(run)
    run_log.start(a_run("a verify", operation="verify", started_at=INSTANT.replace(day=21)))
    assert {
        (one.day.day, one.status, one.count) for one in run_log.backups_by_day(date(2026, 11, 21))
    } == {
        (21, "failed", 2),
        (21, "succeeded", 1),
        (22, "succeeded", 1),
    }


def test_the_newest_backups_since(run_log: RunLog) -> None:
    """Only those that succeeded, newest first, no more than were asked for."""
    for day in (19, 20, 21, 22):
        at = INSTANT.replace(day=day)
        run_log.start(
            a_run(f"run-{day}", started_at=at, status="failed" if day == 21 else "succeeded")
        )
    found = run_log.backups_since(INSTANT.replace(day=20), 10)
    assert [run.id for run in found] == ["run-22", "run-20"]
    assert [run.id for run in run_log.backups_since(INSTANT.replace(day=19), 1)] == ["run-22"]


def test_when_it_all_began(run_log: RunLog) -> None:
    """The first run that this host remembers."""
    assert run_log.began_at() is None
    for day in (20, 21):
        run_log.start(a_run(f"run-{day}", started_at=INSTANT.replace(day=day)))
    assert run_log.began_at() == INSTANT.replace(day=20)


def test_a_failure_that_a_success_has_followed_delays_nothing(run_log: RunLog) -> None:
    """Only what failed since the last automatic success counts as failed in a row."""
    ends: list[RunStatus] = ["failed", "succeeded", "failed"]
    for number, status in enumerate(ends):
        time = INSTANT + timedelta(minutes=number)
        run = a_failed_run(f"run-{number}", status=status, started_at=time, finished_at=time)
        run_log.start(run)

    assert run_log.automatic_failures_since(INSTANT) == [INSTANT + timedelta(minutes=2)]
