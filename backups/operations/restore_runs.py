"""Starting what brings data back: restore, undo, the restore at an empty start, the drill."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from backups.decisions.restore_plan import KeyFacts, RestorePlan, choose, plan_restore
from backups.errors import RestoreBlocked, SourceUnknown
from backups.host.state import HostState
from backups.model import BackupSet, ProgressSink, Run, Trigger
from backups.operations.installation import Installation
from backups.operations.own_sets import Standing
from backups.operations.restoring import Restorer
from backups.runs.run import Recorder, StartedRun
from backups.runs.run_starter import RunStarter, ignore_progress
from backups.sets.seal import identities_fit
from shared.errors import DatabaseMissing

# How long a start waits for another process that restores what is missing.
_RESTORE_ON_EMPTY_PATIENCE_SECONDS = 3600.0
_START_EMPTY = "To start empty all the same: BACKUP_RESTORE_ON_EMPTY=false"


class RestoreRuns:
    """Plans and starts the runs that bring data back, or rehearse that."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        standing: Standing,
        facts: HostState,
        restorer: Restorer,
    ) -> None:
        self._plan = installation.plan
        self._catalogue = installation.catalogue
        self._clock = installation.clock
        self._starter = starter
        self._standing = standing
        self._facts = facts
        self._restorer = restorer

    def plan_restore(
        self, target: str = "latest", *, at: datetime | None = None, only: str | None = None
    ) -> RestorePlan:
        """What a restore would do, by the catalogue as it is; changes nothing.

        Raises `SetNotFound`, `NoRestorePoint`, `SourceUnknown`, `ManifestInvalid`.
        """
        # `get` says why, if a manifest cannot be read.
        sets = self._catalogue.sets() if target == "latest" else [self._catalogue.get(target)]
        chosen = choose(sets, target, at)
        keys = KeyFacts(self._identity_fits(chosen), self._plan.token_keys)
        live = self._restorer.live_states()
        return plan_restore(chosen, live, only, keys, self._clock.now())

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

        return self._starter.begin("restore", "manual", work, progress)

    def begin_undo(self, progress: ProgressSink = ignore_progress) -> StartedRun:
        """Start putting back what the last restore in place replaced."""
        self._restorer.undoable()
        return self._starter.begin("restore", "manual", self._restorer.undo, progress)

    def restore_on_empty(self) -> Run | None:
        """Restore the sources that are missing, if there is a restore point; before any opens.

        Waits while another process of this host does the same. Raises `AppError` when the
        store cannot be asked, when all that could be restored is suspect, or when the restore
        fails: then the bot must not start empty.
        """
        missing = self._standing.missing_sources()
        if not missing:
            return None
        self._catalogue.refresh()
        chosen = self._standing.latest()
        if chosen is None:
            self._refuse_to_forget_suspect_sets(missing)
            return None  # a new installation

        def work(recorder: Recorder, staging: Path) -> str:
            still = self._standing.missing_sources()
            objects = tuple(o for o in chosen.objects if o.source in still)
            return self._restorer.restore_in_place(recorder, chosen, objects, staging)

        started = self._starter.begin_unless(
            lambda: not self._standing.missing_sources(),
            "restore",
            "manual",
            work,
            patience=_RESTORE_ON_EMPTY_PATIENCE_SECONDS,
        )
        run = started.execute() if started else None
        if run is not None and run.error is not None:
            raise DatabaseMissing(
                f"{', '.join(missing)} missing, and not restored: {run.error.message}",
                f"{run.error.hint} {_START_EMPTY}",
            )
        return run

    def _refuse_to_forget_suspect_sets(self, missing: list[str]) -> None:
        suspect = next((found for found in self._catalogue.sets() if found.suspect), None)
        if suspect is None:
            return
        raise DatabaseMissing(
            f"{', '.join(missing)} missing, and not restored: the newest restore point, "
            f"{suspect.id}, is suspect ({'; '.join(suspect.suspect or ())})",
            f"If its data is good: python -m backups accept {suspect.id}, or restore it by its "
            f"id: python -m backups restore {suspect.id} --in-place --yes. {_START_EMPTY}",
        )

    def note_missing(self) -> None:
        """Remember which sources are missing at a start, which is about to begin them anew."""
        for source in self._standing.missing_sources():
            self._facts.note_started_empty(source, self._clock.now())

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
        self._catalogue.refresh()
        chosen = self._standing.required_latest()

        def work(recorder: Recorder, staging: Path) -> str:
            return self._restorer.drill(recorder, chosen, staging, identity_file).set_id

        return self._starter.begin("drill", trigger, work, progress)

    def _identity_fits(self, chosen: BackupSet) -> bool | None:
        if self._plan.identity_file is None:
            return None
        if not chosen.recipients:
            return True
        return identities_fit(self._plan.identity_file, chosen.recipients)
