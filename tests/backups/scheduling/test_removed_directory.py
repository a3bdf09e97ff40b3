"""`BACKUP_DIR` or its lock files are removed while a process schedules, or while a run goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backups.host.lease import HeldLease, Lease
from backups.model import Progress
from backups.scheduling.scheduler import BackupScheduler
from tests.backups.conftest import LogLines
from tests.support.bench import Bench
from tests.support.waiting import eventually


@pytest.mark.parametrize("delay_seconds", [0, 1])
def test_the_leader_goes_on_in_a_folder_that_was_removed(bench: Bench, delay_seconds: int) -> None:
    """It takes the lease again on the new files, so that no second process leads beside it."""
    config = bench.service.config
    object.__setattr__(config, "change_delay", type(config.change_delay)(seconds=delay_seconds))
    instance = bench.directory.instance()
    scheduler = BackupScheduler(bench.service)
    scheduler.start()
    try:
        eventually(bench.directory.scheduler_lease.holder, "it leads")
        # In one moment: a run that is under way puts files there while a tree is removed.
        gone = bench.directory.path.rename(bench.directory.path.with_name("gone"))
        shutil.rmtree(gone)
        lock = bench.directory.path / "scheduler.lock"

        eventually(lock.exists, "the lock file is there again")
        eventually(lambda: Lease(lock).holder() == (os.uname().nodename, os.getpid()), "it leads")
        assert bench.made().instance == instance
    finally:
        scheduler.stop()
    assert Lease(lock).is_free()


def test_the_leader_gives_up_when_another_has_the_lease(bench: Bench, log_lines: LogLines) -> None:
    """Its lock file was removed and another process was quicker: one of the two schedules."""
    scheduler = BackupScheduler(bench.service)
    scheduler.start()
    try:
        eventually(bench.directory.scheduler_lease.holder, "it leads")
        other = take_from(bench.directory.path / "scheduler.lock")

        eventually(lambda: "another process schedules" in log_lines.text(), "it gives up")

        other.release()
        eventually(bench.directory.scheduler_lease.holder, "it leads again")
    finally:
        scheduler.stop()


def take_from(lock: Path) -> HeldLease:
    """Remove a lock file that is held, and take the new one before its holder looks."""
    lock.unlink()
    held = Lease(lock).try_acquire()
    assert held is not None
    return held


def test_a_run_goes_on_when_its_lock_file_was_removed(bench: Bench) -> None:
    """It takes the new one, so that no other run begins beside it."""
    refused = []

    def at(progress: Progress) -> None:
        if progress == Progress("snapshot"):
            (bench.directory.path / "run.lock").unlink()
        if progress == Progress("manifest"):
            refused.append(bench.directory.run_lease.try_acquire() is None)

    run = bench.service.backup.begin(progress=at).execute()

    assert run.status == "succeeded"
    assert refused == [True]
    assert bench.is_free()


def test_a_run_ends_when_another_one_has_its_lease(bench: Bench) -> None:
    """Two runs at once could delete what the other needs: the first stops before its next stage."""
    others = []

    def at(progress: Progress) -> None:
        if progress == Progress("store"):
            others.append(take_from(bench.directory.path / "run.lock"))

    run = bench.service.backup.begin(progress=at).execute()

    assert run.error is not None
    assert (run.error.code, run.stage) == ("backup_dir_unusable", "store")
    assert bench.manifests() == []
    assert not bench.is_free()
    others[0].release()
    assert bench.made().proof == "full"
