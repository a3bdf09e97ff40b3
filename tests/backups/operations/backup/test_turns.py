"""Tests of `backups.service`: who may run, when, and how a run that goes on is stopped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backups.errors import LeaseHeld
from backups.model import Progress
from shared.errors import DatabaseUnreadable
from tests.support.bench import SESSIONS, TOKENS, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.store_wrappers import WatchedStore, fail


def test_one_run_at_a_time(bench: Bench) -> None:
    """While a run holds the lease the next one is refused with its id, and then let in."""
    started = bench.service.backup.begin()

    with pytest.raises(LeaseHeld) as caught:
        bench.service.backup.begin()
    assert caught.value.run_id == started.run.id
    assert started.run.id in caught.value.message
    status = bench.service.status()
    assert status.running is not None
    assert (status.running.id, status.running.status) == (started.run.id, "running")

    assert started.execute().status == "succeeded"
    assert bench.service.status().running is None
    assert bench.made().protects


def test_a_run_that_cannot_be_recorded_is_not_begun(bench: Bench) -> None:
    """Without its records a run is refused by name, and the lease is free again."""
    for file in bench.directory.path.glob("runs.db*"):
        file.unlink()
    (bench.directory.path / "runs.db").mkdir()  # one that is missing would be made anew

    with pytest.raises(DatabaseUnreadable):
        bench.run()

    assert bench.is_free()
    assert bench.all_keys() == []


def test_a_due_instant_gets_one_set(bench: Bench, clock: FixedClock) -> None:
    """Once there is a set as young as the due instant, further asking does nothing."""
    assert bench.service.backup.run_if_owed("catch-up") is not None
    assert bench.service.backup.run_if_owed("scheduled") is None
    clock.advance(hours=23, minutes=59)
    assert bench.service.backup.run_if_owed("catch-up") is None

    clock.advance(minutes=1)
    run = bench.service.backup.run_if_owed("scheduled")
    assert run is not None
    assert (run.status, run.trigger) == ("succeeded", "scheduled")
    assert len(bench.manifests()) == 2
    backups = [one for one in bench.service.run_log.page(9) if one.operation == "backup"]
    assert len(backups) == 2


def test_however_many_ask_at_once_one_set_is_made(
    tmp_path: Path, store: WatchedStore, clock: FixedClock
) -> None:
    """Services that share a `BACKUP_DIR` ask again under the lease."""
    with (
        open_bench(tmp_path, store, clock=clock) as bench,
        open_bench(tmp_path, store, clock=clock, sources=bench.sources) as other,
        ThreadPoolExecutor(4) as pool,
    ):

        def ask(one: Bench) -> object:
            try:
                return one.service.backup.run_if_owed("catch-up")
            except LeaseHeld as error:
                return error

        answers = list(pool.map(ask, [bench, other] * 4))

        assert len(bench.manifests()) == 1
        assert [run.status for run in bench.service.run_log.page(9)] == ["succeeded"]
    assert sum(answer is not None and not isinstance(answer, LeaseHeld) for answer in answers) == 1


def test_a_failure_is_tried_again_after_a_pause(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The catch-up of every minute waits five minutes after a first failure, then runs."""
    clock.advance(seconds=0.005)  # as a scheduler wakes up
    store.before("put", TOKENS, fail)
    failed = bench.service.backup.run_if_owed("scheduled")
    assert failed is not None
    assert failed.status == "failed"

    for _ in range(4):
        clock.advance(minutes=1)
        assert bench.service.backup.run_if_owed("catch-up") is None
    clock.advance(minutes=1)
    again = bench.service.backup.run_if_owed("catch-up")

    assert again is not None
    assert again.status == "succeeded"
    assert len(bench.service.run_log.page(9)) == 2


def test_a_set_of_one_source_does_not_count_as_the_days_backup(bench: Bench) -> None:
    """After `--only` the whole set is still owed."""
    bench.made(only="tokens")

    run = bench.service.backup.run_if_owed("catch-up")

    assert run is not None
    assert run.status == "succeeded"


@pytest.mark.parametrize("stage", ["check", "snapshot", "store", "proof", "manifest"])
def test_stopping_ends_a_run_in_any_stage(
    either_bench: Bench, tmp_path: Path, clock: FixedClock, stage: str
) -> None:
    """`stop` ends the run at its next step as interrupted: nothing published, nothing left."""
    bench = either_bench
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if progress.stage == stage:
            bench.service.stop()

    # The manifest stage is entered by a progress, and from then on there is no way back.
    run = bench.service.backup.begin("scheduled", progress=stop).execute()

    if stage == "manifest":
        assert run.status == "succeeded"
        return
    assert (run.status, run.set_id) == ("interrupted", None)
    assert run.error is not None
    assert run.error.code == "interrupted"
    assert bench.service.run_log.get(run.id) == run
    assert bench.all_keys() == []
    assert bench.staged() == []
    assert bench.is_free()
    assert [one.code for one in bench.service.status().health.warnings if "run" in one.code] == [
        "last_run_interrupted"
    ]
    with open_bench(tmp_path, bench.store, clock=clock, sources=bench.sources) as restarted:
        assert restarted.made().protects


def test_stopping_in_the_middle_of_a_put_keeps_no_part(
    tmp_path: Path, either_store: WatchedStore, clock: FixedClock
) -> None:
    """A put that is under way ends without an object when the run is stopped."""
    sources = make_sources(tmp_path / "data", 3_000, padding=1_000)
    sent: list[Progress] = []

    def stop(progress: Progress) -> None:
        if (progress.stage, progress.source) == ("store", "sessions"):
            sent.append(progress)
            opened.service.stop()

    with open_bench(tmp_path, either_store, clock=clock, sources=sources) as opened:
        run = opened.service.backup.begin(progress=stop).execute()

        assert (run.status, run.stage) == ("interrupted", "store")
        assert 0 < sent[-1].done < sent[-1].total
        assert SESSIONS in either_store.keys("put")
        assert opened.all_keys() == []
        assert opened.staged() == []


def test_an_exit_in_the_middle_cleans_up_and_is_seen_later(bench: Bench) -> None:
    """When the process is told to exit, what was put is taken back and the lease is freed."""

    def leave(progress: Progress) -> None:
        if progress.stage == "proof":
            raise SystemExit(143)

    started = bench.service.backup.begin(progress=leave)
    with pytest.raises(SystemExit):
        started.execute()

    assert bench.all_keys() == []
    assert bench.staged() == []
    assert bench.is_free()
    (run,), _ = bench.service.list_runs(9)
    assert (run.id, run.status) == (started.run.id, "interrupted")
