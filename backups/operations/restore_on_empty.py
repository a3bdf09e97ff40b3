"""Restoring, before the bot opens its databases, those that are missing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from backups.format import naming
from backups.host.state import HostState
from backups.model import BackupSet, Run
from backups.operations.own_sets import OwnSets
from backups.operations.restore import Restore
from backups.runs.run import Recorder, RunStarter
from backups.sets.catalogue import Catalogue
from backups.sources.links import refuse_dangling_link
from shared.clock import Clock
from shared.errors import DatabaseMissing
from shared.logs import fields

_log = logging.getLogger("backups.run")

# How long a start waits for another process that restores what is missing.
_PATIENCE_SECONDS = 3600.0
_START_EMPTY = "To start empty all the same: BACKUP_RESTORE_ON_EMPTY=false"


@dataclass(frozen=True, kw_only=True)
class RestoreOnEmpty:
    """Brings missing databases back at a start, or remembers that they were begun anew."""

    catalogue: Catalogue
    own_sets: OwnSets
    facts: HostState
    clock: Clock
    starter: RunStarter
    restore: Restore

    def restore_missing(self) -> Run | None:
        """Restore the sources that are missing, if there is a restore point; before any opens.

        Waits while another process of this host does the same. Raises `LinkDangling` before
        anything is made; `AppError` when the store cannot be asked, when it has restore points and
        none that may be chosen without a person, or when the restore fails: then the bot must not
        start empty.
        """
        self._refuse_dangling_links()
        missing = self.own_sets.missing_sources()
        if not missing:
            return None
        self.catalogue.refresh()
        chosen = self.own_sets.asked_latest()
        self._refuse_to_forget_unread_sets(missing, chosen)
        if chosen is None:
            self._refuse_to_forget_sets(missing)
            self._refuse_to_forget_unmarked(missing)
            self._refuse_to_forget_future_sets(missing)
            self._refuse_to_forget_parts(missing)
            return None  # a new installation

        def work(recorder: Recorder, staging: Path) -> str:
            still = self.own_sets.missing_sources()
            objects = tuple(o for o in chosen.objects if o.source in still)
            return self.restore.restore_in_place(
                recorder, chosen, objects, staging, passes_over=False
            )

        def still_missing() -> list[str]:
            self.restore.live.bring_up_to_date()  # another host may have restored it meanwhile
            return self.own_sets.missing_sources()

        started = self.starter.begin_unless(
            lambda: not still_missing(),
            "restore",
            "manual",
            work,
            patience=_PATIENCE_SECONDS,
        )
        run = started.execute() if started else None
        if run is not None and run.error is not None:
            raise DatabaseMissing(
                f"{', '.join(missing)} missing, and could not be restored: {run.error.message}",
                f"{run.error.hint} {_START_EMPTY}",
            )
        return run

    def note_missing(self) -> None:
        """Remember which sources are missing at a start, which is about to begin them anew.

        What a run that ended was about to replace is looked at before. Raises `LinkDangling`.
        """
        self._refuse_dangling_links()
        self.restore.replacer.history.settle_if_free()
        for source in self.own_sets.missing_sources():
            self.facts.note_started_empty(source, self.clock.now())
            known = next(self.catalogue.sets(), None) is not None
            _log.log(
                logging.WARNING if known else logging.INFO,
                "%s was missing at this start; a new, empty database will be created%s",
                source,
                f", although backups exist. Restore it: ./bot backups restore --only {source} "
                "--in-place --yes"
                if known
                else "",
            )

    def _refuse_dangling_links(self) -> None:
        for source in self.restore.config.sources:
            refuse_dangling_link(source)

    def _refuse_to_forget_unmarked(self, missing: list[str]) -> None:
        """Raise when there are sets, or groups of the old scripts, that have no valid mark."""
        found = self.own_sets.unmarked()
        if found is not None:
            raise DatabaseMissing(
                f"{', '.join(missing)} missing, and not restored: {found.message}",
                f"{found.hint} {_START_EMPTY}",
            )

    def _refuse_to_forget_sets(self, missing: list[str]) -> None:
        """Raise when there are sets that only a person may choose, or that lost their objects."""
        for found in self.catalogue.sets():
            if found.kind != "legacy" and found.mark != "valid":
                continue
            if found.hollow or found.set_aside:
                raise DatabaseMissing(
                    f"{', '.join(missing)} missing, and could not be restored: the newest restore "
                    f"point, {found.id}, "
                    + ("lacks objects in the store" if found.hollow else "was set aside"),
                    "Choose one (./bot backups list), and restore it by its id. " + _START_EMPTY,
                )
            if found.suspect:
                self._refuse_to_forget_suspect_set(missing, found)

    def _refuse_to_forget_unread_sets(self, missing: list[str], chosen: BackupSet | None) -> None:
        """Raise when sets whose manifest the store does not return are all there is but for objects
        of the old scripts; log those that are newer than what is restored."""
        unread = self.catalogue.unread.sets()
        if unread and (chosen is None or chosen.kind == "legacy"):
            raise DatabaseMissing(
                f"{', '.join(missing)} missing, and could not be restored: the manifest of the "
                f"newest restore point, {unread[0]}, cannot be read",
                f"What the store says: ./bot backups list. {_START_EMPTY}",
            )
        for set_id in unread:
            if chosen is not None and naming.instant_of(set_id) > chosen.created_at:
                _log.warning("a newer restore point cannot be read", extra=fields(set_id=set_id))

    def _refuse_to_forget_suspect_set(self, missing: list[str], suspect: BackupSet) -> None:
        raise DatabaseMissing(
            f"{', '.join(missing)} missing, and could not be restored: the newest restore point, "
            f"{suspect.id}, is suspect ({'; '.join(suspect.suspect or ())})",
            f"If its data is good: ./bot backups accept {suspect.id}, or restore it by its "
            f"id: ./bot backups restore {suspect.id} --in-place --yes. {_START_EMPTY}",
        )

    def _refuse_to_forget_future_sets(self, missing: list[str]) -> None:
        """Where the clock is behind, every restore point lies in the future."""
        future = self.catalogue.future()
        if not future:
            return
        raise DatabaseMissing(
            f"{', '.join(missing)} missing, and could not be restored: the time of the newest "
            f"restore point, {future[0]}, lies in the future",
            "Check the clock of this host (timedatectl set-ntp true), then start again. To restore "
            f"it by its id: ./bot backups restore {future[0]} --in-place --yes. {_START_EMPTY}",
        )

    def _refuse_to_forget_parts(self, missing: list[str]) -> None:
        """Raise when there is any other point: of one source, unproven, or a kept copy."""
        newest = next(self.catalogue.sets(), None)
        if newest is None:
            return
        why = {
            "pre-restore": "is what a restore replaced",
            "legacy": "is not whole",
        }.get(newest.kind, "is not proven" if newest.complete else "does not have all sources")
        raise DatabaseMissing(
            f"{', '.join(missing)} missing, and could not be restored: the newest restore point, "
            f"{newest.id}, {why}",
            f"To restore it: ./bot backups restore {newest.id} --in-place --yes. " + _START_EMPTY,
        )
