"""One recorded run of an operation: under the run lease, in the run log, stoppable.

One file, because the lease, the log, the deadline and the stop of a run end together.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from backups.errors import DirectoryUnusable, InternalError, LeaseHeld, RunInterrupted, RunTimedOut
from backups.format import naming
from backups.host.directory import BackupDirectory, disk_error
from backups.host.lease import HeldRight
from backups.host.run_log import RunLog
from backups.host.totals import StageTime
from backups.model import (
    FailedBeginning,
    OperationName,
    Progress,
    ProgressSink,
    Run,
    RunError,
    RunStatus,
    Trigger,
)
from backups.runs.kept_room import KeptRoom
from backups.vocabulary.stages import STAGES
from shared.clock import Clock
from shared.errors import AppError, DatabaseUnreachable, StoreUnreachable
from shared.logs import fields, lines_of_run
from shared.process.lasting_work import beat, has_to_end, patience
from shared.process.termination import signal_in

_log = logging.getLogger("backups.run")

# Longer than a look at whether the lease is free, shorter than a person's patience.
_LEASE_WAIT_SECONDS = 2.0


def ignore_progress(_: Progress) -> None:
    """The `ProgressSink` of a caller that does not watch."""


# Told of each report of each run of this process, beside the one who began the run.
RunWatcher = Callable[[Run, Progress], None]


def nobody_watches(_run: Run, _progress: Progress) -> None:
    """The `RunWatcher` until there is one."""


class Recorder:
    """What the work of a run reports about itself; it raises `RunInterrupted` to stop it."""

    def __init__(
        self,
        run: Run,
        run_log: RunLog,
        sink: ProgressSink,
        stop: threading.Event,
        seconds: float = float("inf"),
        *,
        watcher: RunWatcher = nobody_watches,
        keep_lease: Callable[[], bool] = lambda: True,
    ) -> None:
        self.run = run
        self._keep_lease = keep_lease
        self._watcher = watcher
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._run_log = run_log
        self._sink = sink
        self._stop = stop
        self._entered = time.monotonic()
        self._watch_room: Callable[[], None] = lambda: None

    def keep_room(self, room: KeptRoom) -> None:
        """Raise `DiskFull` unless there is room; from now on, also when a reserve is taken.

        It takes the place of the room of the step before.
        """
        room.refuse_lack()
        self._watch_room = room.refuse_taken_reserve

    def stage(self, name: str) -> None:
        """Enter a stage; raises `ValueError` for one that the operation does not have.

        Raises `DirectoryUnusable` when another run has the lease, whose file was removed.
        """
        known = [stage.name for stage in STAGES[self.run.operation]]
        if name not in known:
            raise ValueError(
                f"the operation {self.run.operation} has no stage {name!r} in STAGES, "
                f"only {', '.join(known)}"
            )
        if not self._keep_lease():
            raise DirectoryUnusable(
                "BACKUP_DIR was removed during the run, and another run has begun since",
                "Wait until that run is over (./bot backups runs), then try again.",
            )
        left = self.leave_stage()
        self.run = replace(self.run, stage=name)
        self._run_log.set_stage(self.run.id, name, left)
        self.progress(Progress(name))

    def leave_stage(self) -> StageTime | None:
        """How long the run was in the stage that ends now; None before the first."""
        entered, self._entered = self._entered, time.monotonic()
        return StageTime(self.run.stage, self._entered - entered) if self.run.stage else None

    def concerns(self, set_id: str) -> None:
        """Note which set the run is about, whatever becomes of it."""
        self.run = replace(self.run, set_id=set_id)

    def progress(self, progress: Progress) -> None:
        """Report how far the stage is; the one place where a run notices that it must stop."""
        if self._stop.is_set():
            raise RunInterrupted
        if has_to_end():
            raise RunInterrupted.as_leader()
        if time.monotonic() > self._deadline:
            raise RunTimedOut(
                f"the run did not finish within {self._seconds:.0f} s",
                "Find the slow stage in the log, or raise BACKUP_TIMEOUT.",
            )
        beat()
        if progress.source:  # work; between two stages nothing is written
            self._watch_room()
        self._sink(progress)
        self._watcher(self.run, progress)


def _known(failure: Exception, folder: Path) -> AppError:
    """The failure of a run that works in `folder` as an error of our tree."""
    match failure:
        case AppError():
            return failure
        case OSError():
            return disk_error(failure, folder)
    return InternalError(
        "the run failed because of a bug in this program",
        "Report it, with the traceback in the log.",
    )


# Given the staging folder; returns the id of the set that it made or looked at.
Work = Callable[[Recorder, Path], str | None]


class StartedRun:
    """A run that holds the lease and has its row in the run log; `execute` it once."""

    def __init__(self, recorder: Recorder, work: Work, held: HeldRight, starter: RunStarter):
        self._recorder = recorder
        self._work = work
        self._held = held
        self._starter = starter
        self.afterwards: Callable[[Run], None] = lambda _: None

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return self._recorder.run

    def execute(self) -> Run:
        """Do the work and return the finished run; failures are in it, not raised.

        Raises `DatabaseError` when not even the run log can be written.
        """
        with lines_of_run(self.run.id), patience(self._starter.seconds):
            try:
                # The outcome is a line of the log files, too. What is staged goes after it.
                with self._starter.log_files(), ExitStack() as stack:
                    failure = None
                    try:
                        staging = stack.enter_context(self._starter.staging(self.run))
                        set_id = self._work(self._recorder, staging)
                    except Exception as error:  # recorded: a run must end with an outcome
                        if (interruption := signal_in(error)) is not None:
                            raise interruption from error
                        failure, set_id = error, self.run.set_id
                    run = self._starter.finish(self._recorder, set_id, failure)
            finally:
                self._held.release()
            self.afterwards(run)
            return run


class RunStarter:
    """Starts the runs of an installation, one at a time on this host."""

    def __init__(
        self,
        run_log: RunLog,
        directory: BackupDirectory,
        clock: Clock,
        *,
        log_files: Callable[[], AbstractContextManager[None]],
        seconds: float = float("inf"),
    ) -> None:
        self.seconds = seconds
        self._run_log = run_log
        self._directory = directory
        self._clock = clock
        self._stop = threading.Event()
        self._watcher: RunWatcher = nobody_watches
        self._failed_asking: FailedBeginning | None = None
        self._failed_beginning: FailedBeginning | None = None
        self.log_files = log_files

    def watch(self, watcher: RunWatcher) -> None:
        """Tell `watcher` of the progress of every run of this process from now on."""
        self._watcher = watcher

    def stop(self) -> None:
        """Make the running work of this process end at its next report of progress."""
        self._stop.set()

    def begin(
        self,
        operation: OperationName,
        trigger: Trigger,
        work: Work,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Take the lease and record the run. Raises `LeaseHeld`."""
        started = self.begin_unless(lambda: False, operation, trigger, work, progress)
        assert started is not None  # noqa: S101 - only a needless run is None
        return started

    def begin_unless(
        self,
        needless: Callable[[], bool],
        operation: OperationName,
        trigger: Trigger,
        work: Work,
        progress: ProgressSink = ignore_progress,
        *,
        patience: float = _LEASE_WAIT_SECONDS,
    ) -> StartedRun | None:
        """The same, but None when it is `needless`, which is asked under the lease.

        Waits for the lease for `patience` seconds, by default as long as a person would; then
        raises `LeaseHeld` with the id of the run that is in the way.
        """
        with self._beginning(operation):
            held = self._directory.run_lease.try_acquire(patience)
            if held is None:
                running = self._run_log.running()
                raise LeaseHeld(running.id if running else None)
            try:
                with suppress(AppError):  # for people: the run itself meets a full disk
                    self._directory.run_lease.announce()
                self._clean_up_after_the_dead()
                if needless():
                    held.release()
                    return None
                now = self._clock.now()
                run = Run(
                    id=f"{naming.stamp(now)}-{secrets.token_hex(4)}",
                    operation=operation,
                    trigger=trigger,
                    status="running",
                    started_at=now,
                )
                self._run_log.start(run)
            except BaseException:
                held.release()
                raise
        self._failed_asking = self._failed_beginning = None
        recorder = Recorder(
            run,
            self._run_log,
            progress,
            self._stop,
            self.seconds,
            watcher=self._watcher,
            keep_lease=held.keep,
        )
        return StartedRun(recorder, work, held, self)

    @property
    def failed_beginning(self) -> FailedBeginning | None:
        """What keeps runs from beginning in this process: no run log can say it."""
        return self._failed_beginning or self._failed_asking

    @contextmanager
    def asking(self, operation: OperationName) -> Iterator[None]:
        """Ask in this block whether a run is owed; a failure counts as one that could not begin."""
        try:
            yield
        except Exception as error:
            self._failed_asking = self._failed(operation, error)
            raise
        self._failed_asking = None

    @contextmanager
    def _beginning(self, operation: OperationName) -> Iterator[None]:
        try:
            yield
        except LeaseHeld:
            raise
        except Exception as error:
            self._failed_beginning = self._failed(operation, error)
            raise

    def _failed(self, operation: OperationName, error: Exception) -> FailedBeginning:
        known = _known(error, self._directory.path)
        reason = RunError(known.code, known.message, known.hint)
        return FailedBeginning(operation, self._clock.now(), reason)

    def look_again(self) -> None:
        """Forget that a run could not begin once one could: until then nothing else does."""
        if self._failed_beginning is None:
            return
        with suppress(AppError):
            held = self._directory.run_lease.try_acquire()
            if held is None:
                return
            try:
                self._run_log.prove_writable()
                with self._directory.staging(f"probe-{secrets.token_hex(4)}"):
                    self._failed_beginning = None
            finally:
                held.release()

    def close_dead_runs(self) -> None:
        """Mark runs whose process died as interrupted, if nobody holds the lease."""
        if not self._run_log.running():
            return
        with suppress(DatabaseUnreachable):  # of several hosts: then who holds it is not known
            if held := self._directory.run_lease.try_acquire():
                try:
                    self._clean_up_after_the_dead()
                finally:
                    held.release()

    @contextmanager
    def staging(self, run: Run) -> Iterator[Path]:
        """A folder for the work of a run, for as long as it lasts."""
        with self._directory.staging(run.id) as staging:
            _log.info("%s begins", run.operation, extra=fields(run=run.id, trigger=run.trigger))
            yield staging

    def finish(self, recorder: Recorder, set_id: str | None, failure: Exception | None) -> Run:
        """Record how the work of a run ended; see `StartedRun.execute`."""
        status, error = self._outcome(failure)
        run = replace(
            recorder.run,
            status=status,
            finished_at=self._clock.now(),
            set_id=set_id,
            error=RunError(error.code, error.message, error.hint) if error else None,
        )
        self._report(run)
        self._run_log.finish(run, recorder.leave_stage())
        return run

    def _outcome(self, failure: Exception | None) -> tuple[RunStatus, AppError | None]:
        match failure:
            case None:
                return "succeeded", None
            case RunInterrupted():
                return "interrupted", failure
            case StoreUnreachable() if self._stop.is_set():
                # At a shutdown the store gives up by itself: it was not what failed.
                return "interrupted", RunInterrupted()
        known = _known(failure, self._directory.path)
        if isinstance(known, InternalError):
            _log.error("the run failed because of a bug in this program", exc_info=failure)
        return "failed", known

    def _report(self, run: Run) -> None:
        named = fields(run=run.id, operation=run.operation, trigger=run.trigger, set_id=run.set_id)
        if run.error is None:
            _log.info("%s succeeded", run.operation, extra=named)
        else:
            _log.error(
                "%s %s %s: %s [%s] %s",
                run.operation,
                run.status,
                f"in stage {run.stage}" if run.stage else "before its first stage",
                run.error.message,
                run.error.code,
                run.error.hint,
                extra=named,
            )

    def _clean_up_after_the_dead(self) -> None:
        for run_id in self._run_log.mark_interrupted(self._clock.now()):
            _log.warning("a run was interrupted: its process ended", extra=fields(run=run_id))
        self._directory.clear_staging()
