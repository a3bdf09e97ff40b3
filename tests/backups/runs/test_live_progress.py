"""What is known of the run of this process while it goes on."""

from __future__ import annotations

from pathlib import Path

from backups.model import Progress
from backups.runs.live_progress import LiveProgress, ProgressBoard
from shared.clock import SystemClock
from shared.store.directory import DirectoryStore
from tests.support.bench import open_bench
from tests.support.records import a_run


class Time:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_bytes_and_rate() -> None:
    """The rate is that of the present stage; before anything is measured there is none."""
    time = Time()
    board, run = ProgressBoard(time), a_run(status="running")
    board.note(run, Progress("store"))
    assert board.of(run.id) == LiveProgress("store", (), 0, 0, None)
    board.note(run, Progress("store", "tokens", 0, 4000))
    assert board.of(run.id) == LiveProgress("store", ("tokens",), 0, 4000, None)
    time.now += 2
    board.note(run, Progress("store", "tokens", 3000, 4000))
    assert board.of(run.id) == LiveProgress("store", ("tokens",), 3000, 4000, 1500.0)
    board.note(run, Progress("proof", "tokens", 10, 20))
    assert board.of(run.id) == LiveProgress("proof", ("tokens",), 10, 20, None)


def test_sources_side_by_side() -> None:
    """Several at a time are one stage: their bytes together, and the names of the unfinished."""
    time = Time()
    board, run = ProgressBoard(time), a_run(status="running")
    for done in (0, 500, 1000):
        board.note(run, Progress("store", "tokens", done, 1000))
        board.note(run, Progress("store", "orders", 4 * done, 9000))
        time.now += 1
    assert board.of(run.id) == LiveProgress("store", ("orders",), 5000, 10000, 2500.0)


def test_a_retry_begins_again() -> None:
    """Fewer bytes than before are a new attempt, whose rate counts from there."""
    time = Time()
    board, run = ProgressBoard(time), a_run(status="running")
    board.note(run, Progress("store", "tokens", 4000, 4000))
    time.now += 10
    board.note(run, Progress("store", "tokens", 1000, 4000))
    time.now += 1
    board.note(run, Progress("store", "tokens", 2000, 4000))
    found = board.of(run.id)
    assert found is not None
    assert found.rate == 1000.0


def test_nothing_is_known_of_other_runs() -> None:
    """A run of another process, or an older one, has no bytes here."""
    board = ProgressBoard()
    assert board.of("20261122T010000Z-0000") is None
    board.note(a_run("one"), Progress("store"))
    assert board.of("two") is None


def test_every_run_of_this_process_is_watched(tmp_path: Path) -> None:
    """Whoever starts it: the watcher hears each stage, beside the one who asked for the run."""
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=SystemClock()) as bench:
        heard: list[tuple[str, str]] = []
        bench.service.runs.watch(
            lambda run, progress: heard.append((run.operation, progress.stage))
        )
        bench.made()
        bench.verify()
    assert {"snapshot", "store", "proof"} <= {stage for of, stage in heard if of == "backup"}
    assert ("verify", "proof") in heard
