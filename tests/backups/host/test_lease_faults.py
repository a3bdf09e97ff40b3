"""Tests of `backups.host.lease_faults`: a lease that is held by a process that does nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.host.directory import BackupDirectory
from backups.host.heartbeats import Heartbeat, Heartbeats
from backups.host.lease import Lease
from backups.host.lease_faults import AFTER_THE_DEADLINE, MOST_SILENCE, lease_faults
from backups.model import Finding
from shared.process.lasting_work import Sign
from tests.support.clock import FixedClock
from tests.support.installation import REPOSITORY
from tests.support.waiting import eventually

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIMEOUT = timedelta(hours=1)
SECOND = timedelta(seconds=1)
HOST = os.uname().nodename

_HOLD = """
import sys
from pathlib import Path
from backups.host.lease import Lease
held = [Lease(Path(path)).try_acquire() for path in sys.argv[1:]]
for path in sys.argv[1:]:
    Lease(Path(path)).announce()
print("held", flush=True)
sys.stdin.readline()
"""


class Later(FixedClock):
    """The monotonic clock of this host, as it will be after `advance`."""

    def monotonic(self) -> float:
        return time.monotonic() + super().monotonic() - FixedClock().monotonic()


@pytest.fixture
def clock() -> Later:
    return Later(NOW)


@pytest.fixture
def directory(tmp_path: Path, clock: Later) -> BackupDirectory:
    """A `BACKUP_DIR` that is looked at by the test's clock."""
    directory = BackupDirectory(tmp_path / "backups")
    directory.run_lease = Lease(directory.path / "run.lock", monotonic=clock.monotonic)
    directory.scheduler_lease = Lease(directory.path / "scheduler.lock", monotonic=clock.monotonic)
    directory.heartbeats = Heartbeats(directory.path / "heartbeats", clock.monotonic)
    return directory


@contextmanager
def held_by_another(directory: BackupDirectory, *leases: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds leases and has announced itself."""
    paths = [str(directory.path / f"{lease}.lock") for lease in leases]
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, *paths],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def faults(directory: BackupDirectory, heartbeat: Heartbeat | None = None) -> tuple[Finding, ...]:
    return lease_faults(directory, heartbeat, TIMEOUT, NOW)


def stop(process: subprocess.Popen[str]) -> None:
    """SIGSTOP, and wait until it stands still."""
    process.send_signal(signal.SIGSTOP)
    state = Path(f"/proc/{process.pid}/stat")
    eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")


@pytest.mark.parametrize("lease", ["run", "scheduler"])
def test_a_stopped_holder_is_named_after_two_minutes(
    directory: BackupDirectory, clock: Later, lease: str
) -> None:
    """Who holds it, since when, and how to end that; not while it goes on, or is gone."""
    with held_by_another(directory, lease) as process:
        clock.advance(seconds=(MOST_SILENCE + SECOND).total_seconds())
        assert faults(directory) == ()
        stop(process)

        (found,) = faults(directory)

        assert found.code == "lease_stuck"
        assert found.message.startswith(
            f"process {process.pid} on {HOST} has held the {lease} lease since 2026-11-22T11:57:"
        )
        assert found.message.endswith("and is stopped (by SIGSTOP, Ctrl-Z or a debugger)")
        assert f"kill -9 {process.pid}" in found.hint

        process.send_signal(signal.SIGCONT)
        eventually(lambda: faults(directory) == (), "it goes on, and is no fault")
        process.kill()
        process.wait()
        assert faults(directory) == ()


def test_a_holder_that_was_stopped_just_now_is_left_alone(
    directory: BackupDirectory, clock: Later
) -> None:
    """Somebody may look at it with a debugger."""
    with held_by_another(directory, "run") as process:
        stop(process)
        clock.advance(seconds=60)
        assert faults(directory) == ()


def test_a_run_past_its_deadline_is_named(directory: BackupDirectory, clock: Later) -> None:
    """A run ends at `BACKUP_TIMEOUT`; one that is there minutes later reports no progress."""
    with held_by_another(directory, "run"):
        clock.advance(seconds=(TIMEOUT + AFTER_THE_DEADLINE).total_seconds() - 30)
        assert faults(directory) == ()
        clock.advance(seconds=60)
        (found,) = faults(directory)
        assert "past the end that BACKUP_TIMEOUT sets" in found.message


def test_the_scheduler_lease_has_no_deadline(directory: BackupDirectory, clock: Later) -> None:
    """A leader leads for as long as the app runs."""
    with held_by_another(directory, "scheduler"):
        clock.advance(days=900)
        assert faults(directory) == ()


@pytest.mark.parametrize("silence", [MOST_SILENCE - SECOND, MOST_SILENCE + SECOND])
def test_a_leader_that_gives_no_sign_of_life_is_named_once(
    directory: BackupDirectory, clock: Later, silence: timedelta
) -> None:
    """Whatever keeps it from writing its heartbeats; with both leases it is one fault."""
    with held_by_another(directory, "scheduler", "run") as process:
        clock.advance(minutes=5)
        found = faults(directory, Heartbeat(HOST, process.pid, silence, ()))
        assert len(found) == (silence > MOST_SILENCE)
        if found:
            assert "has given no sign of life for 2 min" in found[0].message
        # Those of a leader that is gone say nothing of this one.
        assert faults(directory, Heartbeat(HOST, process.pid + 1, timedelta(days=1), ())) == ()


def test_an_announcement_whose_lease_is_free_is_no_fault(
    directory: BackupDirectory, clock: Later
) -> None:
    """A process that ran a backup an hour ago and lives on holds nothing any more."""
    held = directory.run_lease.try_acquire()
    assert held is not None
    directory.run_lease.announce()
    clock.advance(days=1)
    assert len(faults(directory)) == 1

    held.release()
    assert faults(directory) == ()


@pytest.mark.parametrize(
    "left",
    ["", "[]", '{"host": "h", "pid": 1}',
     '{"host": "h", "pid": 1, "boot": "another", "since": 0}',
     '{"host": "h", "pid": 1, "boot": "", "since": "x"}',
     '{"host": "h", "pid": 1, "boot": "", "since": NaN}'],
)  # fmt: skip
def test_an_announcement_that_says_nothing_names_nobody(
    directory: BackupDirectory, clock: Later, left: str
) -> None:
    """Of an older version, of another start of the host, or damaged."""
    with held_by_another(directory, "run"):
        clock.advance(days=1)
        (directory.path / "run.json").write_text(left)
        assert faults(directory) == ()


def test_looking_costs_a_leader_and_a_run_no_waiting(
    directory: BackupDirectory, clock: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all is well no lock is tried: status is asked often."""
    with held_by_another(directory, "scheduler", "run"):
        clock.advance(minutes=30)
        monkeypatch.setattr(Lease, "try_acquire", None)
        signs = [Sign("scheduler", 1, 180)]
        directory.heartbeats.write(signs)
        assert faults(directory, directory.heartbeats.read()) == ()
