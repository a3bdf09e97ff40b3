"""Starting what makes sets and proves them: backups, by hand or when owed, and verifying."""

from __future__ import annotations

from pathlib import Path

from backups.alerts.dispatch import Teller
from backups.errors import SourceUnknown
from backups.model import ProgressSink, Run, Source, Trigger
from backups.operations.installation import Installation
from backups.operations.making import Maker, SetFacts
from backups.operations.own_sets import Standing
from backups.operations.retention_runs import RetentionRuns
from backups.runs.run import Recorder, StartedRun
from backups.runs.run_starter import RunStarter, StagedWork, ignore_progress


class BackupRuns:
    """Starts the runs that make sets and prove them."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        standing: Standing,
        maker: Maker,
        *,
        retention: RetentionRuns,
        teller: Teller,
    ) -> None:
        self._plan = installation.plan
        self._catalogue = installation.catalogue
        self._starter = starter
        self._standing = standing
        self._maker = maker
        self._retention = retention
        self._teller = teller

    def begin_backup(
        self,
        trigger: Trigger = "manual",
        *,
        only: str | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start a backup run of all sources, or of `only` one; the caller executes it.

        Raises `LeaseHeld` when another run is in progress, `SourceUnknown` for a bad `only`.
        """
        work = self._work(trigger, self._chosen(only))
        started = self._starter.begin("backup", trigger, work, progress)
        started.afterwards = self._after_backup
        return started

    def back_up_if_owed(self, trigger: Trigger) -> Run | None:
        """Run a backup unless a lasting set is as young as the last due instant.

        Asked again under the lease, so that however many ask, one due instant gets one set.
        Raises `LeaseHeld` when another run is in progress.
        """
        if trigger == "scheduled":
            self._standing.refresh()  # another host may have begun to write here by mistake
        if not self._standing.is_owed(trigger):
            return None
        started = self._starter.begin_unless(
            lambda: not self._standing.is_owed(trigger),
            "backup",
            trigger,
            self._work(trigger, self._plan.sources),
        )
        if started is None:
            return None
        started.afterwards = self._after_backup
        return started.execute()

    def begin_verify(
        self, set_id: str | None = None, progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start proving a stored set again, by default the newest; the caller executes it.

        Raises `SetNotFound`, `StoreError` when the catalogue cannot be refreshed, `LeaseHeld`.
        """
        self._catalogue.refresh()
        chosen = self._catalogue.get(set_id) if set_id else self._standing.required_latest()

        def work(recorder: Recorder, staging: Path) -> str:
            return self._maker.verify(recorder, chosen, staging)

        return self._starter.begin("verify", "manual", work, progress)

    def _chosen(self, only: str | None) -> tuple[Source, ...]:
        if only is None:
            return self._plan.sources
        chosen = tuple(source for source in self._plan.sources if source.name == only)
        if not chosen:
            names = ", ".join(source.name for source in self._plan.sources)
            raise SourceUnknown(f"there is no source {only!r}", f"The sources are: {names}.")
        return chosen

    def _work(self, trigger: Trigger, sources: tuple[Source, ...]) -> StagedWork:
        def work(recorder: Recorder, staging: Path) -> str:
            about = SetFacts(
                kind="set",
                trigger=trigger,
                complete=sources == self._plan.sources,
                suspect=self._standing.suspicions() or None,
            )
            baseline = self._catalogue.newest_protecting(self._standing.ours())
            return self._maker.back_up(recorder, sources, staging, about, baseline).id

        return work

    def _after_backup(self, run: Run) -> None:
        """What follows a backup: prune, heartbeat, messages. None of it changes the run."""
        if run.status == "succeeded" and run.set_id is not None:
            made = self._catalogue.get(run.set_id)
            if made.protects:
                self._retention.prune_if_needed()
                self._teller.tell_success(made.id)
        self._teller.tell()
