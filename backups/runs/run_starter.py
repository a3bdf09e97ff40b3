"""Starting a run whose work gets a staging folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from backups.model import OperationName, Progress, ProgressSink, Trigger
from backups.operations.installation import Installation
from backups.runs.run import Operations, Recorder, RunWatcher, StartedRun
from shared.logs import fields

_log = logging.getLogger("backups.run")

# Given the staging folder; returns the id of the set that it made or looked at.
StagedWork = Callable[[Recorder, Path], str | None]


def ignore_progress(_: Progress) -> None:
    """The `ProgressSink` of a caller that does not watch."""


class RunStarter:
    """Starts the runs of an installation, one at a time on this host."""

    def __init__(self, installation: Installation) -> None:
        self._directory = installation.directory
        self._operations = Operations(
            installation.runlog,
            installation.directory,
            installation.clock,
            installation.log_files,
            installation.plan.timeout.total_seconds(),
        )

    def watch(self, watcher: RunWatcher) -> None:
        """Tell `watcher` of the progress of every run of this process from now on."""
        self._operations.watcher = watcher

    def begin(
        self,
        operation: OperationName,
        trigger: Trigger,
        work: StagedWork,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Take the lease and record the run. Raises `LeaseHeld`."""
        started = self._operations.begin(operation, trigger, self._staged(work), progress)
        assert started is not None  # noqa: S101 - only a needless run is None
        return started

    def begin_unless(
        self,
        needless: Callable[[], bool],
        operation: OperationName,
        trigger: Trigger,
        work: StagedWork,
        *,
        patience: float | None = None,
    ) -> StartedRun | None:
        """The same, but None when it is `needless`, which is asked under the lease.

        Waits for the lease for `patience` seconds, by default as long as a person would.
        """
        waiting = {} if patience is None else {"patience": patience}
        return self._operations.begin(
            operation, trigger, self._staged(work), ignore_progress, needless=needless, **waiting
        )

    def close_dead_runs(self) -> None:
        """Mark runs whose process died as interrupted, if nobody holds the lease."""
        self._operations.close_dead_runs()

    def stop(self) -> None:
        """Make the running work of this process end at its next report of progress."""
        self._operations.stop()

    def _staged(self, work: StagedWork) -> Callable[[Recorder], str | None]:
        """Give work a staging folder, for as long as it lasts."""

        def staged(recorder: Recorder) -> str | None:
            with self._directory.staging(recorder.run.id) as staging:
                run = recorder.run
                _log.info("%s begins", run.operation, extra=fields(run=run.id, trigger=run.trigger))
                return work(recorder, staging)

        return staged
