"""The report on what a real installation did, from its records alone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.decisions.protection import GRACE
from backups.decisions.retention import RetentionPolicy
from backups.format import naming
from backups.model import DrillReport, RunBy
from backups.view.report import report
from backups.view.report_document import report_document
from shared.clock import format_utc
from shared.crontab import Crontab
from shared.errors import DatabaseError
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import a_failed_run, a_run

FIRST = datetime(2026, 11, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> FixedClock:
    """It stands at a due instant."""
    return FixedClock(FIRST)


@pytest.fixture
def bench(tmp_path: Path, clock: FixedClock) -> Iterator[Bench]:
    """An installation with a daily schedule, and one for drills."""
    with open_bench(
        tmp_path,
        clock=clock,
        drill_schedule=Crontab("0 3 * * 0"),
        retention=RetentionPolicy(all_days=1, daily=0, weekly=0, monthly=0, yearly=0),
    ) as bench:
        yield bench


def test_the_report_on_what_was_done(bench: Bench, clock: FixedClock) -> None:
    """Each backup, proof, drill, restore and undo of the period is in it, as it went."""
    first = bench.made("scheduled")
    clock.advance(hours=2)
    drilled = bench.service.drill.begin().execute()
    assert bench.verify(first.id).status == "succeeded"
    bench.restored(first.id)
    bench.undo()
    bench.restored(first.id, to=bench.folder / "elsewhere")
    clock.advance(days=2)
    bench.tokens.rename(bench.folder / "away")
    assert bench.run("scheduled").status == "failed"
    (bench.folder / "away").rename(bench.tokens)
    part = next(bench.service.catalogue.sets())  # of the source that was there
    clock.advance(hours=1)
    second = bench.made("catch-up")
    clock.advance(hours=1)

    found = bench.service.report("90d")

    assert found.begin == FIRST
    assert (found.points, found.newest_point) == (2, second.created_at)
    (late,) = found.late
    assert (late.gap.start, late.gap.end) == (first.created_at, second.created_at)
    assert late.failures == (("database_missing", 1),)
    assert found.achieved == late
    assert found.promised == DAY + GRACE
    assert [run.operation for run in found.failed] == ["backup"]
    assert found.count("verify", "succeeded") == 1
    assert [(one.run_id, one.status) for one in found.drills] == [(drilled.id, "succeeded")]
    assert found.drills[0].measured is not None
    assert found.drills[0].rows == 120
    assert [one.kind for one in found.restores] == ["in_place", "undo", "into_folder"]
    assert found.never_again is not None
    assert found.never_again.id == part.id
    assert dict(found.proofs)["full"] == 5  # with what the restore and the undo replaced
    assert [(one.kind, one.count) for one in found.kept] == [("set", 3), ("pre-restore", 2)]
    assert found.producer.installation == bench.directory.instance()


def test_the_drill_of_a_removed_set_is_still_there(bench: Bench, clock: FixedClock) -> None:
    """When its report went with its set, the newest one is known on this host."""
    bench.made("scheduled")
    assert bench.service.drill.begin().execute().status == "succeeded"
    bench.forget_copies()
    measured = bench.service.report("1d").drills[0].measured
    bench.service.catalogue.forget(naming.set_id(FIRST))
    assert bench.service.report("1d").drills[0].measured == measured is not None
    clock.advance(days=2)
    assert bench.service.report("1d").drills == ()


def test_points_that_retention_removed_leave_no_gap(bench: Bench, clock: FixedClock) -> None:
    """The run log knows that there was a point each day, when only the newest is kept."""
    for _ in range(5):
        bench.made("scheduled")
        clock.advance(days=1)
    assert bench.service.catalogue.count() < 5

    found = bench.service.report("90d")

    assert (found.points, found.late) == (5, ())
    assert found.achieved is not None
    assert found.achieved.gap.length == DAY


def test_partial_sets_leave_a_gap(bench: Bench, clock: FixedClock) -> None:
    """A run of one source succeeded, and is no point; the gap names its set."""
    whole = bench.made("scheduled")
    clock.advance(days=1)
    partial = bench.made(only="sessions")
    clock.advance(hours=3)
    found = bench.service.report("90d")
    (late,) = found.late
    assert found.never_again is not None
    assert found.never_again.id == whole.id  # the oldest of both
    assert late.gap.until_now
    assert [(one.set_id, one.doubt) for one in late.doubtful] == [(partial.id, "does_not_protect")]


def test_what_led_into_the_period_is_named(bench: Bench, clock: FixedClock) -> None:
    """The gap in which the period begins is whole, with the failures before the period."""
    bench.made("scheduled")
    failed = a_failed_run(started_at=FIRST + DAY, finished_at=FIRST + DAY)
    bench.service.run_log.start(failed)
    bench.service.run_log.finish(failed)
    clock.advance(days=4)
    found = bench.service.report("1d")
    (late,) = found.late
    assert (late.gap.length, late.failures) == (4 * DAY, (("store_unreachable", 1),))
    assert found.failed == ()  # that was before the period


def test_what_the_store_lost_is_no_point(bench: Bench, clock: FixedClock) -> None:
    """A point that vanished is listed, and leaves the gap that its loss made."""
    made = bench.made("scheduled")
    clock.advance(hours=12)
    with bench.known.transaction() as connection:
        connection.execute(
            "INSERT INTO missing_points(id, kind, created_at, noticed_at)"
            " VALUES (?, 'hollow', ?, ?)",
            (made.id, format_utc(made.created_at), format_utc(clock.now())),
        )
    found = bench.service.report("90d")
    assert [(one.id, one.kind) for one in found.missing] == [(made.id, "hollow")]
    assert dict(found.proofs) == {"full": 0, "sealed": 0, "none": 1}
    assert found.points == 0
    assert found.achieved is not None
    assert [one.doubt for one in found.achieved.doubtful] == ["hollow"]


def test_records_that_begin_in_the_future_are_none(bench: Bench, clock: FixedClock) -> None:
    """Of a clock that was put back before the first run, nothing is known, and nothing claimed."""
    bench.facts.note_begun(FIRST + DAY)
    found = bench.service.report("90d")
    assert (found.begin, found.start, found.achieved) == (None, None, None)
    clock.advance(days=2)
    assert bench.service.report("90d").begin == FIRST + DAY


def test_the_records_begin_when_a_process_began_to_schedule(
    bench: Bench, clock: FixedClock
) -> None:
    """The time before the first run counts, from when this host should have made one."""
    bench.facts.note_begun(FIRST - 3 * DAY)
    bench.made("scheduled")
    clock.advance(hours=1)
    found = bench.service.report("90d")
    assert found.start == FIRST - 3 * DAY
    assert [one.gap.length for one in found.late] == [3 * DAY]
    assert not found.late[0].gap.after_point


def test_messages_of_the_period(bench: Bench, clock: FixedClock) -> None:
    """Each is listed with what became of it; those before the period are not."""
    rows = [
        (FIRST - 2 * DAY, "old", "[]", "sent"),
        (FIRST, "one", '["overdue"]', "sent"),
        (FIRST + timedelta(hours=1), "two", "not JSON", "failed"),
    ]
    with bench.records.transaction() as connection:
        connection.executemany(
            "INSERT INTO messages(at, receiver, title, codes, result) VALUES (?, '5f2d', ?, ?, ?)",
            [(format_utc(at), title, codes, result) for at, title, codes, result in rows],
        )
    clock.advance(hours=2)
    alerts = bench.service.report("1d").alerts
    assert [(one.title, one.codes, one.arrived) for one in alerts] == [
        ("one", ("overdue",), True),
        ("two", (), False),
    ]


def test_runs_of_the_future_are_not_counted(bench: Bench, clock: FixedClock) -> None:
    """What a clock that was ahead left in the run log is said, and is no evidence."""
    bench.facts.note_begun(FIRST + 400 * DAY)
    for number, at in enumerate((FIRST + 400 * DAY, FIRST)):
        run = a_run(f"run-{number}", started_at=at, finished_at=at, set_id=naming.set_id(at))
        bench.service.run_log.start(run)
        bench.service.run_log.finish(run)
    clock.advance(hours=1)
    found = bench.service.report("90d")
    assert (found.begin, found.start, found.end) == (FIRST, FIRST, clock.now())
    assert (found.from_future, found.points) == (1, 1)
    assert [one.count for one in found.counts] == [1]
    assert found.future == (naming.set_id(FIRST + 400 * DAY),)


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b'{"set_id": "another", "at": "2026-11-02T01:00:00Z", "seconds": 1.0, "rows": 1,'
        b' "unreadable": 0, "failure": null}',
        b'{"set_id": "20261102T010000Z", "at": "2026-11-02T01:00:00", "seconds": 1.0, "rows": 1,'
        b' "unreadable": 0, "failure": null}',
        b'{"set_id": "20261102T010000Z", "at": "2026-11-02T01:00:00Z", "seconds": -1.0,'
        b' "rows": 1, "unreadable": 0, "failure": null}',
        b'{"set_id": "20261102T010000Z", "at": "2026-11-02T01:00:00Z", "seconds": 1e300,'
        b' "rows": 1, "unreadable": 0, "failure": null}',
        b'{"set_id": "20261102T010000Z", "at": "2026-11-02T01:00:00Z", "seconds": 1.0,'
        b' "rows": 1, "unreadable": 0, "failure": "x"}',
    ],
)
def test_a_drill_report_that_someone_planted(bench: Bench, document: bytes) -> None:
    """One in the store that no drill wrote, or with numbers that are none, is passed over."""
    made = bench.made("scheduled")
    bench.store.put(f"{PREFIX}sets/{made.id}/drill-20261102T010000Z.json", io.BytesIO(document), {})
    bench.service.catalogue.refresh()
    assert "drill-20261102T010000Z" in bench.service.catalogue.verdict_names(made.id)
    found = bench.service.report("1d")
    assert found.drills == ()
    report_document(found)


def test_the_report_of_a_drill_is_read_as_it_was_written(bench: Bench) -> None:
    """What the drill left beside its set is what this host remembers of it."""
    bench.made("scheduled")
    assert bench.service.drill.begin().execute().status == "succeeded"
    written = bench.service.drill.last_report()
    assert isinstance(written, DrillReport)
    assert bench.service.catalogue.drill_reports() == [written]


def test_a_legacy_group_and_proofs_again(bench: Bench, clock: FixedClock) -> None:
    """What the old scripts left is kept without a proof; the newest proof of a set counts."""
    bench.store.put(f"{PREFIX}tokens_2025-07-04.db", io.BytesIO(b"old"), {})
    bench.store.put(f"{PREFIX}sessions_2025-07-04.db", io.BytesIO(b"old"), {})
    made = bench.made("scheduled")
    clock.advance(seconds=5)
    bench.verify(made.id)
    damaged = made.objects[0].key
    bench.replace_object(damaged, b"x" * made.objects[0].bytes)
    clock.advance(seconds=5)
    assert bench.verify(made.id).status == "failed"

    found = bench.service.report("1d")

    assert dict(found.proofs) == {"full": 0, "sealed": 0, "none": 2}
    assert [(one.kind, one.count) for one in found.kept] == [("set", 1), ("legacy", 1)]
    assert found.never_again is None
    assert (found.count("verify", "succeeded"), found.count("verify", "failed")) == (1, 1)


def test_the_report_asks_nobody(bench: Bench) -> None:
    """It is made from this host's records: the store is not called, and hears of nothing."""
    bench.made("scheduled")
    before = len(bench.watched.calls)
    found = bench.service.report("90d")
    assert report(found)
    assert json.dumps(report_document(found))
    assert bench.watched.calls[before:] == []


def test_the_report_needs_nothing_to_write(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, where no run can be closed, what the records have is still told."""
    bench.made("scheduled")

    def full() -> None:
        raise DatabaseError("the disk of runs.db is full", "Make room on that disk.")

    monkeypatch.setattr(bench.service.runs, "close_dead_runs", full)
    assert bench.service.report("1d").points == 1


@pytest.mark.parametrize(("run_by", "promised"), [("app", timedelta(minutes=1)), ("cron", None)])
def test_only_the_app_promises_to_follow_changes(
    tmp_path: Path, run_by: RunBy, promised: timedelta | None
) -> None:
    """Where cron makes the backups, nobody watches for a change."""
    with open_bench(tmp_path, run_by=run_by, change_delay=timedelta(minutes=1)) as bench:
        assert bench.service.report("1d").promised_after_change == promised
