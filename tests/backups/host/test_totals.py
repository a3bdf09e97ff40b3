"""Tests of `backups.host.totals`: what only grows, in the records of one host."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from backups.host.records import MIGRATIONS, open_records
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.host.totals import BUCKETS, RunKind, StageTime
from backups.vocabulary.receivers import SentMessage
from shared.databases.sqlite import Database
from shared.errors import DatabaseError
from tests.support.records import INSTANT, a_failed_run, a_run

SCHEDULED = ("backup", "scheduled")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Database]:
    """The records of a new host."""
    with closing(open_records(tmp_path)) as records:
        yield records


def test_ended_runs_are_counted_by_kind(records: Database) -> None:
    """Each run counts once, when it ends, by operation, trigger and status."""
    run_log = RunLog(records)
    for number in range(3):
        run = a_run(f"run-{number}", status="running", finished_at=None)
        run_log.start(run)
    assert run_log.totals() == {}
    run_log.finish(a_run("run-0"))
    run_log.finish(a_failed_run("run-1"))
    run_log.mark_interrupted(INSTANT)
    run_log.mark_interrupted(INSTANT)

    assert run_log.totals() == {
        RunKind(*SCHEDULED, "succeeded"): 1,
        RunKind(*SCHEDULED, "failed"): 1,
        RunKind(*SCHEDULED, "interrupted"): 1,
    }


def test_totals_do_not_fall_when_the_log_is_trimmed(records: Database) -> None:
    """What is counted stays counted when rows of the run log go."""
    run_log = RunLog(records)
    run_log.start(a_run("one", status="running", finished_at=None))
    run_log.finish(a_run("one"))
    with records.transaction() as connection:
        connection.execute("DELETE FROM runs")

    assert run_log.totals() == {RunKind(*SCHEDULED, "succeeded"): 1}


def test_records_of_an_older_version_open_with_their_runs_counted(tmp_path: Path) -> None:
    """Records from before there were totals are brought up to date, with what they hold."""
    with closing(Database(tmp_path / "runs.db", MIGRATIONS[:1])) as old:
        log = RunLog(old)
        for number, status in enumerate(("succeeded", "succeeded", "failed", "running")):
            log.start(a_run(f"run-{number}", status=status))

    with closing(open_records(tmp_path)) as records:
        assert RunLog(records).totals() == {
            RunKind(*SCHEDULED, "succeeded"): 2,
            RunKind(*SCHEDULED, "failed"): 1,
        }
        assert HostState(records).notifications() == {}
        assert len(RunLog(records).page(10)) == 4


def test_stage_times_fall_into_buckets(records: Database) -> None:
    """A time counts in each bucket that it is not above; the sum is kept beside."""
    run_log = RunLog(records)
    for seconds in (0.002, 0.01, 0.0101, 59.0, 1e6):
        run_log.set_stage("none", "seal", StageTime("proof", seconds))
    run_log.finish(a_run("none"), StageTime("manifest", 2.0))

    stages = run_log.stages()
    assert set(stages) == {"proof", "manifest"}
    up_to = dict(stages["proof"].up_to)
    assert list(up_to) == list(BUCKETS)
    assert [up_to[bound] for bound in (0.01, 0.05, 30, 60, 3600, math.inf)] == [2, 3, 3, 4, 4, 5]
    assert stages["proof"].seconds == pytest.approx(1_000_059.0221)
    assert (stages["manifest"].seconds, dict(stages["manifest"].up_to)[math.inf]) == (2.0, 1)


def test_notifications_are_counted_by_result(records: Database) -> None:
    """Sent and failed are counted apart, for whoever opens the records."""
    messages = HostState(records).messages
    results: list[Literal["sent", "failed"]] = ["sent", "failed", "sent"]
    for result in results:
        attempt = SentMessage(INSTANT, "0123", "a title", (), result)
        messages.change((), lambda _: {}, [attempt])

    with closing(open_records(records.path.parent)) as other:
        assert HostState(other).notifications() == {"sent": 2, "failed": 1}


def test_a_run_that_is_not_recorded_is_not_counted(records: Database) -> None:
    """Row and count are written in one transaction: both, or neither."""
    run_log = RunLog(records)
    run_log.start(a_run("one", status="running", finished_at=None))
    with records.transaction() as connection:
        connection.execute("ALTER TABLE run_totals RENAME TO away")
    with pytest.raises(DatabaseError, match="run_totals"):
        run_log.finish(a_run("one"))
    with records.transaction() as connection:
        connection.execute("ALTER TABLE away RENAME TO run_totals")
    assert run_log.get("one").status == "running"
    assert run_log.totals() == {}
