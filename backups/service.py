"""What the faces ask for: starting operations, and telling what there is and how it stands."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path

from backups.alerts.dispatch import Teller
from backups.alerts.notifier import Notifier
from backups.decisions.health import Status
from backups.decisions.restore_plan import RestorePlan
from backups.decisions.retention import RetentionPlan
from backups.host.state import HostState
from backups.model import BackupSet, DrillReport, ProgressSink, RestoreRecord, Run, Trigger
from backups.operations.backup_runs import BackupRuns
from backups.operations.installation import Installation
from backups.operations.making import Maker
from backups.operations.own_sets import Standing
from backups.operations.prune import Pruner
from backups.operations.restore_runs import RestoreRuns
from backups.operations.restoring import Restorer
from backups.operations.retention_runs import RetentionRuns
from backups.runs.run import RunWatcher, StartedRun
from backups.runs.run_starter import RunStarter, ignore_progress
from backups.status import drill_is_possible, read_status
from shared.errors import StoreError
from shared.store.object_store import Interruptible

GRACE_AT_SHUTDOWN_SECONDS = 3.0

__all__ = ["BackupService", "ignore_progress"]


class BackupService:
    """Makes sets, proves them, brings them back, and knows what there is.

    Its methods raise `AppError`s; a run that was started tells its failure in its `Run`.
    """

    def __init__(
        self,
        installation: Installation,
        facts: HostState,
        pruner: Pruner,
        notifier: Notifier,
        *,
        notify_success: bool = False,
    ) -> None:
        self.plan = installation.plan
        self.catalogue = installation.catalogue
        self.runlog = installation.runlog
        self.directory = installation.directory
        self.store = installation.store
        self.clock = installation.clock
        self.facts = facts
        self._installation = installation
        self._starter = starter = RunStarter(installation)
        self._standing = standing = Standing(installation, facts)
        self._maker = maker = Maker(installation)
        self._restorer = Restorer(installation, facts, maker)
        self._teller = Teller(self.status, facts, notifier, of_success=notify_success)
        self._retention = RetentionRuns(installation, starter, standing, facts, pruner)
        self._restores = RestoreRuns(installation, starter, standing, facts, self._restorer)
        self._backups = BackupRuns(
            installation,
            starter,
            standing,
            maker,
            retention=self._retention,
            teller=self._teller,
        )

    # --- backup and verify --------------------------------------------------------------

    def begin_backup(
        self,
        trigger: Trigger = "manual",
        *,
        only: str | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """See `BackupRuns.begin_backup`."""
        return self._backups.begin_backup(trigger, only=only, progress=progress)

    def back_up_if_owed(self, trigger: Trigger) -> Run | None:
        """See `BackupRuns.back_up_if_owed`."""
        return self._backups.back_up_if_owed(trigger)

    def back_up_change(self) -> Run:
        """Run a backup because the data changed. Raises `LeaseHeld`."""
        return self._backups.begin_backup("change").execute()

    def begin_verify(
        self, set_id: str | None = None, progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """See `BackupRuns.begin_verify`."""
        return self._backups.begin_verify(set_id, progress)

    # --- restore and drill --------------------------------------------------------------

    def plan_restore(
        self, target: str = "latest", *, at: datetime | None = None, only: str | None = None
    ) -> RestorePlan:
        """See `RestoreRuns.plan_restore`; on a bad day the store may be away too.

        Then local records and copies serve.
        """
        self.refresh()
        return self._restores.plan_restore(target, at=at, only=only)

    def begin_restore(
        self,
        plan: RestorePlan,
        *,
        to: Path | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """See `RestoreRuns.begin_restore`."""
        return self._restores.begin_restore(plan, to=to, progress=progress)

    def undoable(self) -> RestoreRecord:
        """What `begin_undo` would put back; raises `NothingToUndo`."""
        return self._restorer.undoable()

    def begin_undo(self, progress: ProgressSink = ignore_progress) -> StartedRun:
        """See `RestoreRuns.begin_undo`."""
        return self._restores.begin_undo(progress)

    def restore_on_empty(self) -> Run | None:
        """See `RestoreRuns.restore_on_empty`."""
        return self._restores.restore_on_empty()

    def note_missing(self) -> None:
        """See `RestoreRuns.note_missing`."""
        self._restores.note_missing()

    def begin_drill(
        self,
        trigger: Trigger = "manual",
        *,
        identity_file: Path | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """See `RestoreRuns.begin_drill`."""
        return self._restores.begin_drill(trigger, identity_file=identity_file, progress=progress)

    def last_drill(self) -> DrillReport | None:
        """The newest drill on this host."""
        return self.facts.last_drill()

    def drill_is_possible(self) -> bool:
        """Whether this host can open what it seals, and so can rehearse by itself."""
        return drill_is_possible(self.plan)

    # --- prune and accept ---------------------------------------------------------------

    def plan_prune(self) -> RetentionPlan:
        """What retention would keep and drop now, with reasons; from local records."""
        return self._standing.plan_prune()

    def begin_prune(
        self, trigger: Trigger = "manual", progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """See `RetentionRuns.begin_prune`."""
        return self._retention.begin_prune(trigger, progress)

    def accept(self, set_id: str) -> BackupSet:
        """Clear a set of suspicion, and its sources of having been begun anew.

        Raises `SetNotFound`, `ManifestInvalid`, `StoreError`.
        """
        self.catalogue.refresh()
        found = self.catalogue.get(set_id)
        self._maker.accept(set_id)
        for stored in found.objects:
            self.facts.forget_started_empty(stored.source)
        self.tell()
        return self.catalogue.get(set_id)

    # --- messages -----------------------------------------------------------------------

    def tell(self) -> None:
        """Send a message if the alarms have changed since the last one; never raises."""
        self._teller.tell()

    def send_test_message(self) -> bool:
        """Send a test message; whether it reached everybody."""
        return self._teller.send_test_message()

    # --- what there is ------------------------------------------------------------------

    def ours(self) -> frozenset[str]:
        """The instances whose sets are this installation's: its own, and those it succeeds."""
        return self._standing.ours()

    def latest(self) -> BackupSet | None:
        """What `latest` means now, from local records."""
        return self._standing.latest()

    def list_sets(self, limit: int, before: str | None = None) -> tuple[list[BackupSet], bool]:
        """At most `limit` restore points, newest first; whether there are more; no network."""
        found = list(islice(self.catalogue.sets(before), limit + 1))
        return found[:limit], len(found) > limit

    def get_run(self, run_id: str) -> Run:
        """One run; raises `RunNotFound`."""
        self._starter.close_dead_runs()
        return self.runlog.get(run_id)

    def list_runs(self, limit: int, before: str | None = None) -> tuple[list[Run], bool]:
        """At most `limit` runs, newest first; whether there are more."""
        self._starter.close_dead_runs()
        found = self.runlog.page(limit + 1, before)
        return found[:limit], len(found) > limit

    def refresh(self) -> StoreError | None:
        """Refresh the catalogue; the error when the store cannot be asked."""
        return self._standing.refresh()

    def status(self) -> Status:
        """The state of the backups, without the network."""
        self._starter.close_dead_runs()
        return read_status(self._installation, self.facts, self._standing)

    def watch(self, watcher: RunWatcher) -> None:
        """Tell `watcher` of the progress of every run of this process from now on."""
        self._starter.watch(watcher)

    def stop(self) -> None:
        """Ask the work of this process to stop at the next safe place; for shutting down.

        What it then asks of the store, to take back what it put, has a few seconds.
        """
        self._starter.stop()
        if isinstance(self.store, Interruptible):
            self.store.give_up(GRACE_AT_SHUTDOWN_SECONDS)
