"""Starting what retention does: pruning by hand, and by itself after a good run."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

from backups.decisions.retention import PRE_RESTORE_DAYS
from backups.host.state import HostState
from backups.model import ProgressSink, Trigger
from backups.operations.installation import Installation
from backups.operations.own_sets import Standing
from backups.operations.prune import Pruner
from backups.runs.run import Recorder, StartedRun
from backups.runs.run_starter import RunStarter, ignore_progress
from shared.errors import AppError

_log = logging.getLogger("backups.run")

_SWEEP_INTERVAL = timedelta(hours=24)


class RetentionRuns:
    """Starts the runs that remove what the retention policy no longer keeps."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        standing: Standing,
        facts: HostState,
        pruner: Pruner,
    ) -> None:
        self._catalogue = installation.catalogue
        self._directory = installation.directory
        self._clock = installation.clock
        self._starter = starter
        self._standing = standing
        self._facts = facts
        self._pruner = pruner

    def begin_prune(
        self, trigger: Trigger = "manual", progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start carrying out the retention plan, and the sweep; the caller executes it."""

        def work(recorder: Recorder, _staging: Path) -> None:
            self._catalogue.refresh()
            self._pruner.prune(recorder, self._standing.plan_prune(), self._standing.ours())
            if self._standing.frozen() is None:
                self._drop_old_safety_copies()
            self._facts.set_swept_at(self._clock.now())

        return self._starter.begin("prune", trigger, work, progress)

    def prune_if_needed(self) -> None:
        """Prune after a good run, when there is something to do; a failure stays in the log."""
        swept = self._facts.swept_at()
        if swept is None:  # a new host: nothing of its own can be old enough
            swept = self._clock.now()
            self._facts.set_swept_at(swept)
        recently = self._clock.now() - swept < _SWEEP_INTERVAL
        try:
            if not recently or self._standing.plan_prune().drop:
                self.begin_prune("scheduled").execute()
        except AppError as error:
            _log.warning("prune: %s [%s]", error.message, error.code)

    def _drop_old_safety_copies(self) -> None:
        """What restores replaced stays here for as long as in the store; the newest for undo."""
        needed = self._facts.needed_for_undo()
        if needed is not None:  # else whatever is there may be needed
            self._directory.drop_pre_restore(
                self._clock.now() - timedelta(days=PRE_RESTORE_DAYS), keep=needed
            )
