"""A process that led and does no more: it ends what it does for that, and tries to lead again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.errors import RunInterrupted
from backups.model import Progress
from backups.operations.second.place import Pace
from backups.runs.run import Recorder
from backups.scheduling import scheduler as scheduling
from backups.scheduling.due_runs import DueRuns
from backups.scheduling.scheduler import BackupScheduler, LeaderJob
from shared.crontab import Crontab
from shared.errors import AppError
from shared.process.lasting_work import has_to_end, until
from tests.support.bench import Bench, open_bench
from tests.support.waiting import eventually


class Lease:
    """A lease that a test takes away; `turns` are the times that it was had."""

    def __init__(self) -> None:
        self.turns: list[Held] = []

    def try_acquire(self, timeout: float = 0) -> Held:
        """Always."""
        self.turns.append(Held())
        return self.turns[-1]

    def announce(self) -> None:
        """To nobody."""

    def holder(self) -> None:
        """Nobody that matters."""

    announced = holder


class Held:
    """The lease in the hands of the scheduler."""

    def __init__(self) -> None:
        self.lost = False

    def keep(self) -> bool:
        """Until it is lost."""
        return not self.lost

    def release(self) -> None:
        """Nothing."""


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Lease:
    """That of the scheduler, which tries for it and looks at it all the time."""
    monkeypatch.setattr(scheduling, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(scheduling, "LEAD_RETRY_SECONDS", 0.05)
    return Lease()


@pytest.fixture
def bench(tmp_path: Path, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An installation of which nothing is due."""
    with open_bench(tmp_path) as bench:
        bench.made()
        monkeypatch.setattr(bench.service.directory, "scheduler_lease", lease)
        yield bench


class Working:
    """What a leader does in a job, until that is ended; the errors that ended it are in `ended`."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.begun = threading.Semaphore(0)
        self.ended: list[AppError] = []

    def job(self, work: Callable[[], object], schedule: Crontab | None = None) -> LeaderJob:
        """The job of calling `work` again and again."""

        def go_on() -> None:
            self.begun.release()
            try:
                while not self.stopping.is_set():
                    work()
            except RunInterrupted as error:
                self.ended.append(error)

        return LeaderJob("work", schedule, go_on, nullcontext, self.stopping.set)


def copying(_: Bench, working: Working) -> Callable[[], object]:
    """A copying of gigabytes over a slow line."""
    pace = Pace(1, working.stopping)
    return lambda: pace(1_000_000_000)


def running(bench: Bench, _: Working) -> Callable[[], object]:
    """A run that comes to no end."""

    def work(recorder: Recorder, _: Path) -> None:
        recorder.stage("check")
        while True:
            recorder.progress(Progress("check"))

    def run() -> None:
        run = bench.service.runs.begin("backup", "catch-up", work).execute()
        assert run.status == "interrupted"
        assert run.error is not None
        raise RunInterrupted(run.error.message)

    return run


@pytest.mark.parametrize("kind", [copying, running])
def test_what_a_leader_does_ends_with_its_lease(
    bench: Bench, lease: Lease, kind: Callable[[Bench, Working], Callable[[], object]]
) -> None:
    """However long it would take; and the process leads again, once it can."""
    working = Working()
    scheduler = BackupScheduler(bench.service, [working.job(kind(bench, working))])
    scheduler.start()
    try:
        assert working.begun.acquire(timeout=60)
        lease.turns[0].lost = True
        eventually(lambda: len(lease.turns) == 2, "another turn", seconds=60)
        assert "does not lead any more" in working.ended[0].message
        assert working.begun.acquire(timeout=60)
        eventually(lambda: bench.service.alerts.leads, "it leads", seconds=60)
    finally:
        scheduler.stop()


def test_whoever_lost_the_lease_does_not_lead_while_its_work_ends(
    bench: Bench, lease: Lease
) -> None:
    """It sends no messages as the leader; the work that its schedule began is told to end, too."""
    working, may_end = Working(), threading.Event()
    told: list[bool] = []

    def work() -> None:
        if working.stopping.wait(0.01) or has_to_end():
            told.append(bench.service.alerts.leads)
            may_end.wait(60)
            raise RunInterrupted

    scheduler = BackupScheduler(bench.service, [working.job(work)])
    scheduler.start()
    try:
        assert working.begun.acquire(timeout=60)
        lease.turns[0].lost = True
        eventually(lambda: told, "the work to be told", seconds=60)
        assert told == [False]
        assert len(lease.turns) == 1
        may_end.set()
        eventually(lambda: len(lease.turns) == 2, "another turn", seconds=60)
    finally:
        may_end.set()
        scheduler.stop()


def test_a_copying_that_a_person_asked_for_goes_on(bench: Bench, lease: Lease) -> None:
    """It is of no turn: the end of one does not end it, and the end of the process does."""
    working = Working()
    pace = Pace(0, working.stopping)
    scheduler = BackupScheduler(bench.service, [working.job(copying(bench, working))])
    scheduler.start()
    try:
        assert working.begun.acquire(timeout=60)
        lease.turns[0].lost = True
        eventually(lambda: len(lease.turns) == 2, "another turn", seconds=60)
        pace(1_000)
    finally:
        scheduler.stop()
    with pytest.raises(RunInterrupted, match="shutting down"):
        pace(1_000)


def test_the_work_of_a_schedule_is_of_the_turn(bench: Bench) -> None:
    """APScheduler has threads of its own, in which it is called at its instants."""
    ended, heard = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        if has_to_end():
            heard.release()

    job = LeaderJob("work", Crontab("* * * * *"), work, nullcontext, lambda: None)
    with until(ended):
        plan = BackupScheduler(bench.service, [job])._plan(DueRuns(bench.service))
    plan.start()
    try:
        ended.set()
        plan.modify_job("work", next_run_time=datetime.now(UTC))
        assert heard.acquire(timeout=60)
    finally:
        plan.shutdown()
