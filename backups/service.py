"""What the faces ask for: starting operations, and telling what there is and how it stands."""

from __future__ import annotations

from itertools import islice

from backups.alerts.dispatch import Teller
from backups.alerts.notifier import Notifier
from backups.decisions.health import Status
from backups.decisions.retention import RetentionPlan
from backups.host.state import HostFacts
from backups.model import BackupSet, ProgressSink, Run, Trigger
from backups.operations.backup_runs import BackupRuns
from backups.operations.drill import Drill
from backups.operations.installation import Installation
from backups.operations.making import Maker
from backups.operations.own_sets import Standing
from backups.operations.prune import Pruner
from backups.operations.replace import Replacer
from backups.operations.restore import Restore
from backups.operations.restore_on_empty import RestoreOnEmpty
from backups.operations.retention_runs import RetentionRuns
from backups.operations.undo import Undo
from backups.runs.run import RunWatcher, StartedRun
from backups.runs.run_starter import RunStarter, ignore_progress
from backups.sets.fetch import Fetcher
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
        facts: HostFacts,
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
        self._teller = Teller(self.status, facts, notifier, of_success=notify_success)
        self._retention = RetentionRuns(installation, starter, standing, facts, pruner)
        self._backups = BackupRuns(
            installation,
            starter,
            standing,
            maker,
            retention=self._retention,
            teller=self._teller,
        )
        fetcher = Fetcher(self.store, self.directory, self.plan.identity_file)
        replacer = Replacer(
            sources=self.plan.sources,
            busy_timeout=self.plan.busy_timeout,
            directory=self.directory,
            facts=facts,
            runlog=self.runlog,
            clock=self.clock,
            publisher=maker,
            instants=maker,
        )
        self.restore = Restore(
            config=self.plan,
            catalogue=self.catalogue,
            own_sets=standing,
            directory=self.directory,
            facts=facts,
            clock=self.clock,
            starter=starter,
            fetcher=fetcher,
            replacer=replacer,
        )
        self.undo = Undo(starter=starter, replacer=replacer)
        self.restore_on_empty = RestoreOnEmpty(
            catalogue=self.catalogue,
            own_sets=standing,
            facts=facts,
            clock=self.clock,
            starter=starter,
            restore=self.restore,
        )
        self.drill = Drill(
            config=self.plan,
            catalogue=self.catalogue,
            own_sets=standing,
            facts=facts,
            clock=self.clock,
            starter=starter,
            fetcher=fetcher,
            verdicts=maker,
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

    # --- drill --------------------------------------------------------------------------

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
