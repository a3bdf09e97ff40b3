"""What the faces ask for: starting operations, and telling what there is and how it stands."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from backups import schedule
from backups.alarms import active_alarms, message_for, success_message, test_message
from backups.errors import NoRestorePoint, RestoreBlocked, SourceUnknown
from backups.health import HealthFacts, Status, assess
from backups.host_facts import HostFacts
from backups.installation import Installation
from backups.making import Maker, SetFacts
from backups.model import (
    BackupSet,
    DrillReport,
    OperationName,
    Progress,
    ProgressSink,
    RestoreRecord,
    Run,
    Source,
    Trigger,
)
from backups.notify import Notifier
from backups.operation import Operations, Recorder, StartedRun
from backups.pruning import Pruner
from backups.restore_plan import KeyFacts, RestorePlan, choose, plan_restore
from backups.restoring import Restorer
from backups.retention import RetentionFacts, RetentionPlan, plan_retention
from backups.seal import identities_fit
from shared.clock import format_utc
from shared.errors import AppError, DatabaseMissing, StoreError
from shared.logs import fields

_log = logging.getLogger("backups.run")

# How long a start waits for another process that restores what is missing.
_RESTORE_ON_EMPTY_PATIENCE_SECONDS = 3600.0
_SWEPT = "swept"
_SWEEP_INTERVAL = timedelta(hours=24)


def ignore_progress(_: Progress) -> None:
    """The `ProgressSink` of a caller that does not watch."""


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
        self.facts = facts
        self._installation = installation
        self.store = installation.store
        self.clock = installation.clock
        self._operations = Operations(
            installation.runlog,
            installation.directory,
            installation.clock,
            installation.log_files,
            installation.plan.timeout.total_seconds(),
        )
        self._maker = Maker(installation)
        self._restorer = Restorer(installation, facts, self._maker)
        self._pruner = pruner
        self._notifier = notifier
        self._notify_success = notify_success

    # --- backup -------------------------------------------------------------------------

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
        sources = self._chosen(only)
        started = self._begin("backup", trigger, self._backup_work(trigger, sources), progress)
        started.afterwards = self._after_backup
        return started

    def back_up_if_owed(self, trigger: Trigger) -> Run | None:
        """Run a backup unless a lasting set is as young as the last due instant.

        Asked again under the lease, so that however many ask, one due instant gets one set.
        Raises `LeaseHeld` when another run is in progress.
        """
        if trigger == "scheduled":
            self.refresh()  # another host may have begun to write here by mistake
        if not self._owed(trigger):
            return None
        started = self._operations.begin(
            "backup",
            trigger,
            self._staged(self._backup_work(trigger, self.plan.sources)),
            ignore_progress,
            needless=lambda: not self._owed(trigger),
        )
        if started is None:
            return None
        started.afterwards = self._after_backup
        return started.execute()

    def _owed(self, trigger: Trigger) -> bool:
        now = self.clock.now()
        due = schedule.owed_since(self.plan.schedule, self._newest_lasting(), now)
        if due is None:
            return False
        failures = self.runlog.automatic_failures_since(due)
        return trigger == "scheduled" or schedule.may_try(failures, now)

    def _newest_lasting(self) -> BackupSet | None:
        """The newest complete, proven set that an instant of the schedule may count as its own.

        A suspect one counts: making it again each minute would not make it better. A change
        set does not: it is gone after a day, and the day's set would be missing for good.
        """
        ours = self.ours()
        return next(
            (
                found
                for found in self.catalogue.sets()
                if found.kind == "set"
                and found.complete
                and found.proof != "none"
                and found.trigger != "change"
                and found.instance in ours
            ),
            None,
        )

    def _chosen(self, only: str | None) -> tuple[Source, ...]:
        if only is None:
            return self.plan.sources
        chosen = tuple(source for source in self.plan.sources if source.name == only)
        if not chosen:
            names = ", ".join(source.name for source in self.plan.sources)
            raise SourceUnknown(f"there is no source {only!r}", f"The sources are: {names}.")
        return chosen

    def _backup_work(
        self, trigger: Trigger, sources: tuple[Source, ...]
    ) -> Callable[[Recorder, Path], str]:
        def work(recorder: Recorder, staging: Path) -> str:
            about = SetFacts(
                kind="set",
                trigger=trigger,
                complete=sources == self.plan.sources,
                suspect=self._suspicions() or None,
            )
            baseline = self.catalogue.newest_protecting(self.ours())
            return self._maker.back_up(recorder, sources, staging, about, baseline).id

        return work

    def _after_backup(self, run: Run) -> None:
        """What follows a backup: prune, heartbeat, messages. None of it changes the run."""
        if run.status == "succeeded" and run.set_id is not None:
            made = self.catalogue.get(run.set_id)
            if made.protects:
                self._prune_quietly()
                self._notifier.heartbeat()
                if self._notify_success:
                    self._notifier.send(success_message(self._name(), made.id))
        self.tell()

    def ours(self) -> frozenset[str]:
        """The instances whose sets are this installation's: its own, and those it succeeds."""
        return self.facts.predecessors() | {self.directory.instance()}

    def latest(self) -> BackupSet | None:
        """What `latest` means now, from local records."""
        return self.catalogue.latest(self.ours())

    def _suspicions(self) -> tuple[str, ...]:
        """Why what is about to be backed up may not be what should be protected."""
        started_empty = self.facts.started_empty()
        if not started_empty:
            return ()
        self.catalogue.refresh()
        return tuple(
            f"{source} was missing at {format_utc(at)}, and was begun anew beside older "
            "restore points"
            for source, at in started_empty.items()
            if any(found.created_at < at for found in self.catalogue.sets())
        )

    # --- verify -------------------------------------------------------------------------

    def begin_verify(
        self, set_id: str | None = None, progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start proving a stored set again, by default the newest; the caller executes it.

        Raises `SetNotFound`, `StoreError` when the catalogue cannot be refreshed, `LeaseHeld`.
        """
        self.catalogue.refresh()
        backup_set = self.catalogue.get(set_id) if set_id else self._latest()

        def work(recorder: Recorder, staging: Path) -> str:
            return self._maker.verify(recorder, backup_set, staging)

        return self._begin("verify", "manual", work, progress)

    def _latest(self) -> BackupSet:
        newest = self.latest()
        if newest is None:
            raise NoRestorePoint(
                "there is no complete, proven restore point", "Make one: python -m backups run"
            )
        return newest

    # --- restore ------------------------------------------------------------------------

    def plan_restore(
        self, target: str = "latest", *, at: datetime | None = None, only: str | None = None
    ) -> RestorePlan:
        """What a restore would do; changes nothing.

        On a bad day the store may be away too: then local records and copies serve.
        Raises `SetNotFound`, `NoRestorePoint`, `SourceUnknown`, `ManifestInvalid`.
        """
        self.refresh()
        if target != "latest":
            self.catalogue.get(target)  # says why, if its manifest cannot be read
        chosen = choose(self.catalogue.sets(), target, at)
        keys = KeyFacts(self._identity_fits(chosen), self.plan.token_keys)
        live = self._restorer.live_states()
        return plan_restore(chosen, live, only, keys, self.clock.now())

    def begin_restore(
        self,
        plan: RestorePlan,
        *,
        to: Path | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start the restore of a plan into the folder `to`, or else in place.

        Raises the plan's first blocker as an error, and `LeaseHeld`.
        """
        chosen = plan.backup_set
        for one in plan.blockers:
            raise RestoreBlocked(chosen.id, one.code, one.message, one.hint)
        wanted = {item.stored.source for item in plan.items}
        if to is not None:
            wanted |= set(plan.foreign)
        objects = tuple(stored for stored in chosen.objects if stored.source in wanted)
        if not objects:
            raise SourceUnknown(
                f"this installation has no source {', '.join(plan.foreign)}",
                "Name it in BACKUP_EXTRA_SOURCES, or use --to DIR.",
            )

        def work(recorder: Recorder, staging: Path) -> str:
            if to is not None:
                return self._restorer.restore_to(recorder, chosen, objects, to, staging)
            return self._restorer.restore_in_place(recorder, chosen, objects, staging)

        return self._begin("restore", "manual", work, progress)

    def undoable(self) -> RestoreRecord:
        """What `begin_undo` would put back; raises `NothingToUndo`."""
        return self._restorer.undoable()

    def begin_undo(self, progress: ProgressSink = ignore_progress) -> StartedRun:
        """Start putting back what the last restore in place replaced."""
        self._restorer.undoable()
        return self._begin("restore", "manual", self._restorer.undo, progress)

    def restore_on_empty(self) -> Run | None:
        """Restore the sources that are missing, if there is a restore point; before any opens.

        Waits while another process of this host does the same. Raises `AppError` when the
        store cannot be asked or the restore fails: then the bot must not start empty.
        """
        missing = self._missing_sources()
        if not missing:
            return None
        self.catalogue.refresh()
        if self.latest() is None:
            return None  # a new installation
        chosen = self._latest()

        def work(recorder: Recorder, staging: Path) -> str:
            objects = tuple(o for o in chosen.objects if o.source in self._missing_sources())
            return self._restorer.restore_in_place(recorder, chosen, objects, staging)

        started = self._operations.begin(
            "restore",
            "manual",
            self._staged(work),
            ignore_progress,
            needless=lambda: not self._missing_sources(),
            patience=_RESTORE_ON_EMPTY_PATIENCE_SECONDS,
        )
        run = started.execute() if started else None
        if run is not None and run.error is not None:
            raise DatabaseMissing(
                f"{', '.join(missing)} missing, and not restored: {run.error.message}",
                f"{run.error.hint} To start empty all the same: BACKUP_RESTORE_ON_EMPTY=false",
            )
        return run

    def note_missing(self) -> None:
        """Remember which sources are missing at a start, which is about to begin them anew."""
        for source in self._missing_sources():
            self.facts.note_started_empty(source, self.clock.now())

    def _missing_sources(self) -> list[str]:
        return [source.name for source in self.plan.sources if not source.path.exists()]

    def _identity_fits(self, chosen: BackupSet) -> bool | None:
        if self.plan.identity_file is None:
            return None
        if not chosen.recipients:
            return True
        return identities_fit(self.plan.identity_file, chosen.recipients)

    # --- drill --------------------------------------------------------------------------

    def begin_drill(
        self,
        trigger: Trigger = "manual",
        *,
        identity_file: Path | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start the rehearsal of a full restore of the newest restore point, from the store.

        Raises `NoRestorePoint`, `StoreError`, `LeaseHeld`.
        """
        self.catalogue.refresh()
        chosen = self._latest()

        def work(recorder: Recorder, staging: Path) -> str:
            return self._restorer.drill(recorder, chosen, staging, identity_file).set_id

        return self._begin("drill", trigger, work, progress)

    def last_drill(self) -> DrillReport | None:
        """The newest drill on this host."""
        return self.facts.last_drill()

    def drill_is_possible(self) -> bool:
        """Whether this host can open what it seals, and so can rehearse by itself."""
        return not self.plan.seal.recipients or self.plan.identity_file is not None

    # --- prune and accept ---------------------------------------------------------------

    def plan_prune(self) -> RetentionPlan:
        """What retention would keep and drop now, with reasons; from local records."""
        ours = self.ours()
        last = self.runlog.last("backup", "succeeded", "failed", "interrupted")
        made = self._newest_made(ours)
        frozen = None
        if last is not None and last.status == "failed":
            frozen = f"the newest run, {last.id}, failed"
        elif made is not None and made.suspect:
            frozen = f"the newest set, {made.id}, is suspect"
        facts = RetentionFacts(
            now=self.clock.now(),
            ours=ours,
            drilled=self.catalogue.newest_drilled(),
            frozen=frozen,
        )
        return plan_retention(self.catalogue.points(), self.plan.retention, facts)

    def begin_prune(
        self, trigger: Trigger = "manual", progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start carrying out the retention plan, and the sweep; the caller executes it."""

        def work(recorder: Recorder, _staging: Path) -> None:
            self.catalogue.refresh()
            self._pruner.prune(recorder, self.plan_prune(), self.ours())
            self.facts.set_time(_SWEPT, self.clock.now())

        return self._begin("prune", trigger, work, progress)

    def _prune_quietly(self) -> None:
        """Prune after a good run, when there is something to do; a failure stays in the log."""
        swept = self.facts.time(_SWEPT)
        if swept is None:  # a new host: nothing of its own can be old enough
            swept = self.clock.now()
            self.facts.set_time(_SWEPT, swept)
        recently = self.clock.now() - swept < _SWEEP_INTERVAL
        try:
            if not recently or self.plan_prune().drop:
                self.begin_prune("scheduled").execute()
        except AppError as error:
            _log.warning("prune: %s [%s]", error.message, error.code)

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

    def _newest_made(self, ours: frozenset[str]) -> BackupSet | None:
        """The newest complete set of this installation, whatever is thought of it."""
        return next(
            (
                found
                for found in self.catalogue.sets()
                if found.kind == "set" and found.complete and found.instance in ours
            ),
            None,
        )

    def _other_writer(self, now: datetime, ours: frozenset[str]) -> BackupSet | None:
        """The newest set of another installation, younger than the last two due instants."""
        last = self.plan.schedule.last_until(now)
        one_before = self.plan.schedule.last_until(last - timedelta(microseconds=1))
        for found in self.catalogue.sets():
            if found.created_at < one_before:
                return None
            if found.kind == "set" and found.instance not in ours:
                return found
        return None

    def _has_budget(self) -> bool:
        return self.plan.retention.max_bytes is not None

    # --- messages -----------------------------------------------------------------------

    def tell(self) -> None:
        """Send a message if the alarms have changed since the last one; never raises."""
        try:
            status = self.status()
            now = active_alarms(status.health.problems)
            told = self.facts.told_alarms()
            last = status.last_run
            if told and not now and (last is None or last.status != "succeeded"):
                return  # a failure that is merely no longer the newest run is no recovery
            message = message_for(told, now, name=self._name())
            if self.facts.claim_alarms([found.code for found in now]) is None or message is None:
                return
            if not self._notifier.send(message):
                self.facts.claim_alarms(told)  # told again at the next occasion
        except AppError as error:
            _log.warning("no message could be sent: %s", error.message)

    def send_test_message(self) -> bool:
        """Send a test message; whether it reached everybody."""
        return self._notifier.send(test_message(self._name()))

    def _name(self) -> str:
        return socket.gethostname()

    # --- changes ------------------------------------------------------------------------

    def back_up_change(self) -> Run:
        """Run a backup because the data changed. Raises `LeaseHeld`."""
        return self.begin_backup("change").execute()

    # --- what there is ------------------------------------------------------------------

    def list_sets(self, limit: int, before: str | None = None) -> tuple[list[BackupSet], bool]:
        """At most `limit` restore points, newest first; whether there are more; no network."""
        found = list(islice(self.catalogue.sets(before), limit + 1))
        return found[:limit], len(found) > limit

    def get_run(self, run_id: str) -> Run:
        """One run; raises `RunNotFound`."""
        self._operations.close_dead_runs()
        return self.runlog.get(run_id)

    def list_runs(self, limit: int, before: str | None = None) -> tuple[list[Run], bool]:
        """At most `limit` runs, newest first; whether there are more."""
        self._operations.close_dead_runs()
        found = self.runlog.page(limit + 1, before)
        return found[:limit], len(found) > limit

    def refresh(self) -> StoreError | None:
        """Refresh the catalogue; the error when the store cannot be asked."""
        try:
            self.catalogue.refresh()
        except StoreError as error:
            return error
        return None

    def status(self) -> Status:
        """The state of the backups, without the network."""
        self._operations.close_dead_runs()
        now = self.clock.now()
        newest = self.catalogue.newest_protecting(self.ours())
        last_run = self.runlog.last("backup", "succeeded", "failed", "interrupted")
        owner = self.directory.scheduler_lease.holder()
        latest = self.latest()
        ours = self.ours()
        health = assess(
            HealthFacts(
                now=now,
                schedule=self.plan.schedule,
                offsite=self.store.offsite,
                location=self.store.location,
                scheduled=owner is not None,
                newest=newest,
                last_run=last_run,
                latest=latest,
                token_keys=self.plan.token_keys,
                last_drill=self.facts.last_drill(),
                drill_possible=self.drill_is_possible(),
                started_empty=self._started_empty_beside(latest),
                newest_made=self._newest_made(ours),
                other_writer=self._other_writer(now, ours),
                retention_warning=self.plan_prune().warning if self._has_budget() else None,
            )
        )
        return Status(
            health=health,
            cron=self.plan.schedule.expression,
            next_run_at=self.plan.schedule.next_after(now).astimezone(UTC),
            owner=owner,
            kind=self.store.kind,
            offsite=self.store.offsite,
            location=self.store.location,
            last_contact_at=self.catalogue.last_contact_at(),
            running=self.runlog.running(),
            last_run=last_run,
            last_success=self.runlog.last("backup", "succeeded"),
            newest_restore_point=latest,
            last_drill=self.facts.last_drill(),
            restore_points=self.catalogue.count(),
        )

    def _started_empty_beside(self, latest: BackupSet | None) -> tuple[str, ...]:
        """Sources that were begun anew although there are older restore points."""
        started_empty = self.facts.started_empty()
        if latest is None or not started_empty:
            return ()
        return tuple(
            source
            for source, at in started_empty.items()
            if any(found.created_at < at for found in self.catalogue.sets())
        )

    def stop(self) -> None:
        """Ask the work of this process to stop at the next safe place; for shutting down."""
        self._operations.stop()

    def _begin(
        self,
        operation: OperationName,
        trigger: Trigger,
        work: Callable[[Recorder, Path], str | None],
        progress: ProgressSink,
    ) -> StartedRun:
        started = self._operations.begin(operation, trigger, self._staged(work), progress)
        assert started is not None  # noqa: S101 - only a needless run is None
        return started

    def _staged(
        self, work: Callable[[Recorder, Path], str | None]
    ) -> Callable[[Recorder], str | None]:
        """Give work a staging folder, for as long as it lasts."""

        def staged(recorder: Recorder) -> str | None:
            with self.directory.staging(recorder.run.id) as staging:
                run = recorder.run
                _log.info("%s begins", run.operation, extra=fields(run=run.id, trigger=run.trigger))
                return work(recorder, staging)

        return staged
