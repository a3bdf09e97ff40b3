"""A check that SQLite would not end: its run stops when asked, and frees the lease."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backups.model import Run
from shared.clock import SystemClock
from tests.support.bench import Bench, open_bench
from tests.support.generations import SOURCES
from tests.support.planting import plant, without_end
from tests.support.waiting import eventually

_SECONDS = 30  # how long the slowest machine takes to stop; the check itself takes minutes


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set whose `sessions` has an index that SQLite checks for ever, and `genlive` in place."""
    with open_bench(tmp_path, settings={}, clock=SystemClock()) as bench:
        plant_in(bench)
        yield bench


def plant_in(bench: Bench) -> str:
    """Make that set; its id."""
    bench.write("genset")
    set_id = bench.made().id
    plant(bench, set_id, "sessions", without_end("sessions", "uuid"))
    bench.write("genlive")
    return set_id


def is_checking(bench: Bench) -> bool:
    """Whether a run has fetched and unsealed the file, which it checks next."""
    wanted = (bench.folder / "planted-sessions.db").stat().st_size
    staged = (bench.directory.path / "staging").glob("*/sessions.db")
    return any(file.stat().st_size == wanted for file in staged)


def test_the_deadline_ends_a_check_without_end(tmp_path: Path) -> None:
    """BACKUP_TIMEOUT holds while SQLite evaluates what a planted file says."""
    with open_bench(tmp_path, settings={}, timeout=timedelta(seconds=2)) as bench:
        set_id = plant_in(bench)
        for run in (
            bench.restore(check=True),
            bench.verify(set_id),
            bench.service.drill.begin().execute(),
        ):
            assert run.error is not None
            assert run.error.code == "timeout", run.operation
        assert bench.is_free()
        assert bench.generations() == dict.fromkeys(SOURCES, "genlive")
        assert bench.service.catalogue.get(set_id).protects  # no verdict on the bytes


def test_a_shutdown_of_the_app_ends_a_check_without_end(bench: Bench) -> None:
    """The run of a thread ends as an interrupted one."""
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(bench.restore(check=True)))
    thread.start()
    eventually(lambda: is_checking(bench), "the check")
    bench.service.stop()
    thread.join(_SECONDS)
    assert [run.status for run in runs] == ["interrupted"]
    assert bench.is_free()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_check_without_end(bench: Bench, number: signal.Signals) -> None:
    """A command ends at once, gives the lease back, and has touched nothing live."""
    with subprocess.Popen(
        bench.installation.command("restore", "latest", "--check", "--in-place", "--yes"),
        cwd=bench.folder,
        env=bench.installation.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        eventually(lambda: process.poll() is not None or is_checking(bench), "the check")
        assert process.poll() is None
        assert not bench.is_free()
        process.send_signal(number)
        try:
            output, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 128 + number, output
    assert b"Traceback" not in output
    assert bench.is_free()
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")
