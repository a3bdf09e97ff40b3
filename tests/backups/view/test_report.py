"""The report of a period: its text and its JSON, word for word."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backups.decisions.evidence import (
    Alert,
    Evidence,
    EvidenceFacts,
    KeptProof,
    Producer,
    RunCount,
    report_on,
)
from backups.decisions.gaps import Doubtful, Points
from backups.model import DrillReport, MissingPoint, RestorePoint, Run, RunError
from backups.view.report import MOST_LINES, report
from backups.view.report_document import report_document
from shared.crontab import Crontab
from tests.support.contract import check_times
from tests.support.records import a_failed_run, a_run

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
SINCE = datetime(2026, 8, 24, 12, tzinfo=UTC)
SET = "20261101T010000Z"

NO_ANSWER = RunError("store_unreachable", "there was no answer", "Check the network.")
UNREADABLE = RunError("drill_failed", "1 of 120 rows cannot be decrypted", "Add the key.")


def at(day: int, hour: int = 1, minute: int = 0) -> datetime:
    """A time in that November."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def ended(run_id: str, day: int, hour: int, **other: Any) -> Run:
    """A run of four seconds."""
    began = at(day, hour)
    times = {"started_at": began, "finished_at": began + timedelta(seconds=4)}
    return a_run(run_id, **{**times, "set_id": SET, **other})


def a_period() -> EvidenceFacts:
    """Three weeks with long gaps, a drill that failed, a restore, its undo, and a lost point."""
    drill_failure = ended(
        "drill-2",
        8,
        3,
        operation="drill",
        status="failed",
        set_id=None,
        stage="open",
        error=UNREADABLE,
    )
    return EvidenceFacts(
        producer=Producer(
            "0123456789abcdef", "a-host", "the-bot 1.0", "a bucket", True, at(22, 11)
        ),
        now=NOW,
        since=SINCE,
        begin=BEGIN,
        schedule=Crontab("0 1 * * *"),
        change_delay=timedelta(seconds=60),
        drill_schedule=Crontab("0 3 * * 0"),
        drill_possible=True,
        points=Points(
            tuple(at(day) for day in range(1, 22) if day not in (10, 11, 16)),
            (Doubtful("20261116T010000Z", at(16), "vanished"),),
            ("20991231T000000Z",),
        ),
        kept=[
            RestorePoint(SET, "set", at(1), "scheduled", "us", True, 24_576),
            RestorePoint("20261121T010000Z", "set", at(21), "scheduled", "us", True, 24_576),
            RestorePoint(
                "20261109T100000Z", "pre-restore", at(9, 10), "pre-restore", "us", False, 9
            ),
            RestorePoint("20261105T000000Z", "set", at(5), "scheduled", "another", True, 7_000),
        ],
        ours=frozenset({"us"}),
        proofs=[
            KeptProof(SET, "full", again=True),
            KeptProof("20261121T010000Z", "sealed", again=False),
            KeptProof("20261109T100000Z", "full", again=False),
            KeptProof("20261105T000000Z", "none", again=False),
        ],
        counts=[
            RunCount("backup", "catch-up", "failed", 1),
            RunCount("backup", "scheduled", "failed", 2),
            RunCount("backup", "scheduled", "succeeded", 19),
            RunCount("drill", "scheduled", "failed", 1),
            RunCount("drill", "scheduled", "succeeded", 1),
            RunCount("restore", "manual", "succeeded", 3),
            RunCount("verify", "manual", "failed", 1),
            RunCount("verify", "manual", "succeeded", 1),
        ],
        from_future=2,
        failed=[
            drill_failure,
            a_failed_run("b-1", started_at=at(10), finished_at=at(10, 1, 1), stage="store"),
            a_failed_run("b-2", started_at=at(10, 2), finished_at=at(10), trigger="catch-up"),
            ended(
                "v-1",
                10,
                5,
                operation="verify",
                trigger="manual",
                status="failed",
                stage="proof",
                error=RunError("proof_failed", "other bytes are stored", "Choose another."),
            ),
            a_failed_run(
                "b-3",
                started_at=at(11),
                finished_at=at(11),
                status="interrupted",
                stage=None,
                error=RunError("interrupted", "the process ended during the run", "Nothing."),
            ),
        ],
        drills=[ended("drill-1", 1, 3, operation="drill", stage="open"), drill_failure],
        drill_reports=[DrillReport(SET, at(1, 3) + timedelta(seconds=3), 3.25, 1200, 0, None)],
        restores=[
            ended("r-1", 9, 9, operation="restore", stage="install"),
            ended("r-2", 9, 10, operation="restore", stage="manifest"),
            ended("r-3", 9, 11, operation="restore", stage="keep"),
        ],
        undos=frozenset({"r-3"}),
        alerts=[
            Alert(at(10, 2), "5f2d", "The last backup failed", ("last_run_failed",), "sent"),
            Alert(at(12, 2), "5f2d", "Backups on a-host are healthy again", (), "failed"),
        ],
        missing=[MissingPoint("20261116T010000Z", "vanished", at(16), at(17))],
    )


def a_report() -> Evidence:
    """The report on that period."""
    return report_on(a_period())


def golden(name: str) -> str:
    """What the report on that period is, word for word."""
    return (Path(__file__).parent / "golden" / name).read_text()


def test_the_text_of_a_period() -> None:
    """A person reads on one page what was promised, what was kept, and each thing that was not."""
    assert report(a_report()).splitlines() == golden("report.txt").splitlines()


def test_the_document_of_a_period() -> None:
    """A program reads the same facts, times with Z and durations in seconds."""
    document = report_document(a_report())
    check_times(document)
    assert json.loads(json.dumps(document)) == json.loads(golden("report.json"))


def test_long_lists_end_and_say_so() -> None:
    """The page stays one, however many runs failed; the document has them all."""
    failed = [
        a_failed_run(f"f-{number}", started_at=at(2, 0, number), finished_at=at(2, 0, number))
        for number in range(MOST_LINES + 7)
    ]
    found = report_on(replace(a_period(), failed=failed))
    shown = [line for line in report(found).splitlines() if line.startswith("    2026-11-02T")]
    assert [line.split()[0] for line in shown] == [
        f"2026-11-02T00:{minute:02d}:00Z" for minute in range(MOST_LINES + 6, 6, -1)
    ]
    assert "    and 7 older ones, in the report with --json" in report(found)
    assert len(report_document(found)["runs"]["failed"]) == MOST_LINES + 7


def test_what_is_not_known_is_not_claimed() -> None:
    """Without records there is no achieved RPO, and the report says so first."""
    empty = replace(
        a_period(),
        begin=None,
        points=Points(()),
        counts=(),
        failed=(),
        drills=(),
        drill_reports=(),
        restores=(),
        alerts=(),
        drill_schedule=None,
        drill_possible=False,
        change_delay=timedelta(0),
        kept=(),
        proofs=(),
        missing=(),
        from_future=0,
    )
    found = report_on(empty)
    text, document = report(found), report_document(found)
    assert "NO RECORDS" in text
    assert "achieved  unknown" in text
    assert "promise   " not in text
    assert "not in this period" in text
    assert "no schedule" in text
    assert "is not possible" in text
    assert "after a change" not in text
    assert document["period"]["from"] is None
    assert (document["rpo"]["kept"], document["rpo"]["achieved"]) == (None, None)
    assert document["rto"]["measured_seconds"] is None


def test_records_that_reach_back_are_not_remarked_on() -> None:
    """When the whole period is in the records, it begins when it was asked to."""
    found = report_on(replace(a_period(), since=at(5)))
    assert "Records begin" not in report(found)
    assert report_document(found)["period"]["from"] == "2026-11-05T01:00:00Z"


def test_a_time_without_any_point_is_a_gap() -> None:
    """From the beginning of the records to now, when nothing was ever made."""
    found = report_on(replace(a_period(), points=Points(()), since=BEGIN))
    assert "21 d 12 h, from 2026-11-01T00:00:00Z (no point before) to now" in report(found)
    assert report_document(found)["rpo"]["late"][0]["after_point"] is False
