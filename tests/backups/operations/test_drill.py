"""The drill: a full restore from the store, rehearsed with today's keys, and its report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from cryptography.fernet import Fernet

from backups.errors import NoRestorePoint
from backups.model import Run
from backups.scheduling import scheduler as scheduler_module
from backups.scheduling.scheduler import DRILL_JOB_ID, JOB_ID, BackupScheduler
from backups.sets.seal import generate_key_pair
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.generations import SOURCES
from tests.support.marks import MARK_KEY
from tests.support.store_wrappers import put
from tests.support.waiting import eventually

SECRET, PUBLIC = generate_key_pair()
SEALED = {"BACKUP_COMPRESSION": "zstd", "BACKUP_AGE_RECIPIENTS": PUBLIC}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set of 12 tokens and 12 sessions, with local copies."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        yield bench


def drill(bench: Bench, **options: Any) -> Run:
    """Rehearse; the finished run."""
    return bench.service.drill.begin(**options).execute()


def problems(bench: Bench) -> dict[str, str]:
    """Code and message of the problems in status."""
    return {found.code: found.message for found in bench.service.status().health.problems}


def test_a_drill_reports_rows_and_seconds(bench: Bench) -> None:
    """A good drill counts every row, measures the time, and is in status."""
    run = drill(bench)
    assert (run.status, run.operation) == ("succeeded", "drill")
    report = bench.service.drill.last_report()
    assert report is not None
    assert report == bench.service.status().last_drill
    assert (report.rows, report.unreadable, report.failure) == (24, 0, None)
    assert 0 < report.seconds < 60
    assert report.set_id == run.set_id
    assert "drill_failed" not in problems(bench)


def test_a_drill_touches_nothing_and_leaves_nothing(bench: Bench) -> None:
    """The live databases and the staging folder are as before, and there is nothing to undo."""
    bench.write("genlive")
    before = {s: bench.live(s).stat().st_mtime_ns for s in SOURCES}
    drill(bench)
    assert {s: bench.live(s).stat().st_mtime_ns for s in SOURCES} == before
    assert list((bench.directory.path / "staging").iterdir()) == []
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_drill_fetches_every_object_from_the_store(bench: Bench) -> None:
    """Local copies that match are there, and are not used."""
    bench.watched.calls.clear()
    drill(bench)
    latest = bench.service.catalogue.latest()
    assert latest is not None
    assert {stored.key for stored in latest.objects} <= set(bench.watched.keys("get"))


@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
def test_a_damaged_object_fails_the_drill_although_a_local_copy_is_there(
    bench: Bench, harm: str
) -> None:
    """What counts is what is in the store; a failed drill is a problem until one succeeds."""
    latest = bench.service.catalogue.latest()
    assert latest is not None
    key = latest.objects[1].key
    body, metadata = bench.bytes_of(key), bench.store.head(key).metadata

    def do_harm() -> None:
        if harm == "gone":
            bench.store.delete(key)
        else:
            bench.replace_object(key, body[:-1] + (b"!" if harm == "changed" else b""))

    bench.watched.before("get", key, do_harm)  # no listing has shown it
    run = drill(bench)
    assert run.error is not None
    assert run.error.code == "proof_failed"
    report = bench.service.drill.last_report()
    assert report is not None
    assert key in str(report.failure)
    assert key in problems(bench)["drill_failed"]

    if harm == "gone":
        (bench.folder / "data" / "spaces" / key).write_bytes(body)
    else:
        bench.replace_object(key, body)
    assert metadata
    assert drill(bench).status == "succeeded"
    assert "drill_failed" not in problems(bench)


def test_tokens_that_todays_keys_do_not_open_fail_the_drill(tmp_path: Path) -> None:
    """A drill decrypts every token as the app would, and says how many fail and what to do."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
    with open_bench(
        tmp_path,
        settings={"TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode()},
        mark_keys=(MARK_KEY,),  # else its mark would not be believed
    ) as bench:
        run = drill(bench)
        assert run.error is not None
        assert run.error.code == "drill_failed"
        assert "12 of 24" in run.error.message
        assert "TOKEN_ENCRYPTION_KEYS" in run.error.hint
        report = bench.service.drill.last_report()
        assert report is not None
        assert (report.rows, report.unreadable) == (24, 12)
        assert "12 of 24" in problems(bench)["drill_failed"]


def test_the_report_of_a_drill_is_beside_the_manifest(bench: Bench) -> None:
    """A good drill leaves a small object beside the manifest of its set."""
    run = drill(bench)
    (key,) = (one.key for one in bench.store.list(f"{PREFIX}sets/{run.set_id}/drill-"))
    document = json.loads(bench.bytes_of(key))
    assert document["set_id"] == run.set_id
    assert document["rows"] == 24
    assert document["failure"] is None


def test_two_drills_in_one_second_both_succeed(bench: Bench) -> None:
    """That the report's key is taken does not fail a drill."""
    assert drill(bench).status == drill(bench).status == "succeeded"


def test_without_a_restore_point_there_is_no_drill(tmp_path: Path) -> None:
    """An empty store is named, and no run begins."""
    with open_bench(tmp_path, settings={}) as bench:
        with pytest.raises(NoRestorePoint):
            drill(bench)
        assert bench.service.run_log.page(10) == []


def test_a_sealed_set_is_drilled_with_the_identity(tmp_path: Path) -> None:
    """Without the identity on this host it has to be brought; status says how, as a warning."""
    identity = tmp_path / "identity"
    identity.write_text(SECRET)
    with open_bench(tmp_path, settings=SEALED) as bench:
        bench.write("genset")
        bench.made()
        (warning,) = (
            found
            for found in bench.service.status().health.warnings
            if found.code == "drill_not_possible"
        )
        assert "drill --identity FILE" in warning.hint
        assert not bench.service.drill_is_possible()
        run = drill(bench)
        assert run.error is not None
        assert run.error.code == "identity_missing"
        assert drill(bench, identity_file=identity).status == "succeeded"
        report = bench.service.drill.last_report()
        assert report is not None
        assert (report.rows, report.unreadable) == (24, 0)
    with open_bench(
        tmp_path, settings={**SEALED, "BACKUP_AGE_IDENTITY_FILE": str(identity)}
    ) as bench:
        assert bench.service.drill_is_possible()
        assert drill(bench).status == "succeeded"


def test_a_legacy_group_is_not_drilled(tmp_path: Path) -> None:
    """Nobody knows who put it there: the drill names it, and the line that restores it."""
    with open_bench(tmp_path / "old", settings={}) as old:
        old.write("genold")
        made = old.made()
        bodies = {stored.source: old.bytes_of(stored.key) for stored in made.objects}
    with open_bench(tmp_path / "new", settings={}) as bench:
        bench.write("genlive")
        for source, body in bodies.items():
            put(bench.store, f"{PREFIX}{source}_2025-07-04.db", body)
        with pytest.raises(NoRestorePoint, match="legacy-2025-07-04") as none:
            drill(bench)
        assert "./bot backups restore legacy-2025-07-04 --in-place --yes" in none.value.hint


@pytest.mark.parametrize("possible", [True, False])
def test_the_scheduled_drill_is_only_there_when_it_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, possible: bool
) -> None:
    """The scheduler rehearses by `BACKUP_DRILL_SCHEDULE` where this host can open what it seals."""
    jobs: dict[str, Any] = {}

    class Watched(BackgroundScheduler):  # type: ignore[misc]
        def add_job(self, *arguments: Any, **options: Any) -> Any:
            job = super().add_job(*arguments, **options)
            jobs[options["id"]] = job
            return job

    monkeypatch.setattr(scheduler_module, "BackgroundScheduler", Watched)
    with open_bench(tmp_path, settings={} if possible else SEALED) as bench:
        bench.write("genset")
        bench.made()
        scheduler = BackupScheduler(bench.service)
        scheduler.start()
        try:
            eventually(lambda: bench.service.status().owner, "this process schedules")
            eventually(lambda: JOB_ID in jobs, "the backup is scheduled")
            eventually(lambda: not possible or DRILL_JOB_ID in jobs, "the drill is scheduled")
            if possible:
                due = jobs[DRILL_JOB_ID].trigger.get_next_fire_time(None, FixedClock().now())
                assert (due.isoweekday(), due.hour, due.minute) == (7, 3, 0)
                jobs[DRILL_JOB_ID].func()
                last = eventually(
                    lambda: bench.service.run_log.last("drill", "succeeded"), "the drill"
                )
                assert last.trigger == "scheduled"
        finally:
            scheduler.stop()
    assert (DRILL_JOB_ID in jobs) is possible
