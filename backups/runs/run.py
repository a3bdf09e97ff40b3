"""One recorded run of an operation: under the run lease, in the run log, stoppable."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from backups.errors import InternalError, LeaseHeld, RunInterrupted, RunTimedOut
from backups.format import naming
from backups.host.directory import BackupDirectory, disk_error
from backups.host.lease import HeldLease
from backups.host.run_log import RunLog
from backups.host.totals import StageTime
from backups.model import (
    STAGES,
    OperationName,
    Progress,
    ProgressSink,
    Run,
    RunError,
    RunStatus,
    Trigger,
)
from shared.clock import Clock
from shared.errors import AppError, StoreUnreachable
from shared.logs import fields, lines_of_run

_log = logging.getLogger("backups.run")

# Longer than a look at whether the lease is free, shorter than a person's patience.
_LEASE_WAIT_SECONDS = 2.0


# Told of each report of each run of this process, beside the one who began the run.
RunWatcher = Callable[[Run, Progress], None]


def nobody_watches(_run: Run, _progress: Progress) -> None:
    """The `RunWatcher` until there is one."""


class Recorder:
    """What the work of a run tells about itself; it raises `RunInterrupted` to stop it."""

    def __init__(
        self,
        run: Run,
        runlog: RunLog,
        sink: ProgressSink,
        stop: threading.Event,
        seconds: float = float("inf"),
        *,
        watcher: RunWatcher = nobody_watches,
    ) -> None:
        self.run = run
        self._watcher = watcher
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._runlog = runlog
        self._sink = sink
        self._stop = stop
        self._entered = time.monotonic()

    def stage(self, name: str) -> None:
        """Enter a stage; raises `ValueError` for one that the operation does not have."""
        known = [stage.name for stage in STAGES[self.run.operation]]
        if name not in known:
            raise ValueError(
                f"the operation {self.run.operation} has no stage {name!r} in STAGES, "
                f"only {', '.join(known)}"
            )
        left = self.leave_stage()
        self.run = replace(self.run, stage=name)
        self._runlog.set_stage(self.run.id, name, left)
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
            raise _shutting_down()
        if time.monotonic() > self._deadline:
            raise RunTimedOut(
                f"the run was not done after {self._seconds:.0f} s",
                "Look at what was slow (the log has each stage), or raise BACKUP_TIMEOUT.",
            )
        self._sink(progress)
        self._watcher(self.run, progress)


def _shutting_down() -> RunInterrupted:
    return RunInterrupted(
        "the run was stopped because the program is shutting down",
        "Nothing was published. The next start catches up by itself.",
    )


# The work returns the id of the set that it made or looked at.
Work = Callable[[Recorder], str | None]


class StartedRun:
    """A run that holds the lease and has its row in the run log; `execute` it once."""

    def __init__(self, recorder: Recorder, work: Work, held: HeldLease, operations: Operations):
        self._recorder = recorder
        self._work = work
        self._held = held
        self._operations = operations
        self.afterwards: Callable[[Run], None] = lambda _: None

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return self._recorder.run

    def execute(self) -> Run:
        """Do the work and return the finished run; failures are in it, not raised.

        Raises `DatabaseError` when not even the run log can be written.
        """
        with lines_of_run(self.run.id):
            try:
                run = self._operations.finish(self._recorder, self._work)
            finally:
                self._held.release()
            self.afterwards(run)
            return run


class Operations:
    """Starts runs, one at a time on this host."""

    def __init__(
        self,
        runlog: RunLog,
        directory: BackupDirectory,
        clock: Clock,
        log_files: Callable[[], AbstractContextManager[None]],
        seconds: float = float("inf"),
    ) -> None:
        self._seconds = seconds
        self._runlog = runlog
        self._directory = directory
        self._clock = clock
        self._log_files = log_files
        self._stop = threading.Event()
        self.watcher: RunWatcher = nobody_watches

    def stop(self) -> None:
        """Make the running work of this process end at its next report of progress."""
        self._stop.set()

    def begin(
        self,
        operation: OperationName,
        trigger: Trigger,
        work: Work,
        sink: ProgressSink,
        *,
        needless: Callable[[], bool] = lambda: False,
        patience: float = _LEASE_WAIT_SECONDS,
    ) -> StartedRun | None:
        """Take the lease and record the run; None when it is `needless`, asked under the lease.

        Waits for the lease for `patience` seconds, then raises `LeaseHeld` with the id of the
        run that is in the way.
        """
        held = self._directory.run_lease.try_acquire(patience)
        if held is None:
            running = self._runlog.running()
            raise LeaseHeld(running.id if running else None)
        try:
            self._clean_up_after_the_dead()
            if needless():
                held.release()
                return None
            now = self._clock.now()
            run = Run(
                id=f"{naming.stamp(now)}-{secrets.token_hex(2)}",
                operation=operation,
                trigger=trigger,
                status="running",
                started_at=now,
            )
            self._runlog.start(run)
        except BaseException:
            held.release()
            raise
        return StartedRun(
            Recorder(run, self._runlog, sink, self._stop, self._seconds, watcher=self.watcher),
            work,
            held,
            self,
        )

    def close_dead_runs(self) -> None:
        """Mark runs whose process died as interrupted, if nobody holds the lease."""
        if self._runlog.running() is None:
            return
        held = self._directory.run_lease.try_acquire()
        if held is not None:
            try:
                self._clean_up_after_the_dead()
            finally:
                held.release()

    def finish(self, recorder: Recorder, work: Work) -> Run:
        """Do the work and record its outcome; see `StartedRun.execute`."""
        with self._log_files():  # the outcome, too, is one of their lines
            return self._finish(recorder, work)

    def _finish(self, recorder: Recorder, work: Work) -> Run:
        status: RunStatus = "succeeded"
        error: AppError | None = None
        set_id = recorder.run.set_id
        try:
            set_id = work(recorder)
        except RunInterrupted as interruption:
            status, error = "interrupted", interruption
        except StoreUnreachable as failure:
            # At a shutdown the store gives up by itself: it was not what failed.
            stopped = self._stop.is_set()
            status = "interrupted" if stopped else "failed"
            error = _shutting_down() if stopped else failure
        except AppError as failure:
            status, error = "failed", failure
        except OSError as failure:
            status, error = "failed", disk_error(failure, self._directory.path)
        except Exception:  # recorded: a run must end with an outcome, whatever happens
            _log.exception("the run met a fault of this program")
            status = "failed"
            error = InternalError(
                "the run met a fault of this program", "Please report it with the log's traceback."
            )
        run = replace(
            recorder.run,
            status=status,
            finished_at=self._clock.now(),
            set_id=set_id,
            error=RunError(error.code, error.message, error.hint) if error else None,
        )
        self._report(run)
        self._runlog.finish(run, recorder.leave_stage())
        return run

    def _report(self, run: Run) -> None:
        named = fields(run=run.id, operation=run.operation, trigger=run.trigger, set_id=run.set_id)
        if run.error is None:
            _log.info("%s succeeded", run.operation, extra=named)
        else:
            _log.error(
                "%s %s in stage %s: %s [%s] %s",
                run.operation,
                run.status,
                run.stage,
                run.error.message,
                run.error.code,
                run.error.hint,
                extra=named,
            )

    def _clean_up_after_the_dead(self) -> None:
        for run_id in self._runlog.mark_interrupted(self._clock.now()):
            _log.warning("a run was interrupted: its process ended", extra=fields(run=run_id))
        self._directory.clear_staging()
