"""Prune: carry out the retention plan, and sweep what no manifest claims.

One file, because what is deleted, and why it may be, are read together.

    finish what an earlier prune began -> drop -> sweep

One object that the store refuses to show or to delete stops neither the other sets nor the sweep;
the run fails at its end, with that refusal, and the next prune tries again.

The manifest goes first, so that a set is either whole or not listed. Which keys are to go is
noted before, so that an interrupted prune is finished by the next one. A dated key is free again
once its object is gone, and the next set may take it: so before each delete the object itself
says, in its metadata, which set it belongs to. Between that answer and the delete nothing can
take its place, since no put of ours overwrites.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from backups.decisions.chains.retention import ChainPlan, DroppedObject
from backups.decisions.keeping.deletion import chain_of
from backups.decisions.retention import PRE_RESTORE_DAYS
from backups.errors import PruneIncomplete, SetNotFound
from backups.format import naming
from backups.format.notes.deletion import DELETED
from backups.host.state import HostState
from backups.increments.keeping.removal import ChainRemoval
from backups.model import BackupSet, Progress, ProgressSink, Trigger
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from shared.databases.sqlite import Database
from shared.errors import AppError, ObjectMissing, StoreAccessDenied, StoreError, StoreFailing
from shared.logs import fields
from shared.words import counted

ORPHAN_AGE = timedelta(hours=24)
# For so long a host that was away learns that a set was deleted, and did not vanish.
DELETION_KEPT = timedelta(days=366)

_log = logging.getLogger("backups.run")

_SWEEP_INTERVAL = timedelta(hours=24)


class Prune:
    """Removes what the retention policy no longer keeps, and orphans."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        own_sets: OwnSets,
        *,
        facts: HostState,
        known: Database,
    ) -> None:
        self._prefix = installation.config.prefix
        self._store = installation.store
        self._directory = installation.directory
        self._catalogue = installation.catalogue
        self._clock = installation.clock
        self._starter = starter
        self._own_sets = own_sets
        self._facts = facts
        self._known = known
        self._chains = ChainRemoval(self._store, known, installation.config.marks)

    def begin(
        self, trigger: Trigger = "manual", progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start carrying out the retention plan, and the sweep; the caller executes it.

        Raises `LeaseHeld`. What a failed prune leaves is left to the next one.
        """
        return self._starter.begin("prune", trigger, self._prune, progress)

    def run_if_needed(self, trigger: Trigger) -> None:
        """Prune after a good run, when there is something to do; a failure stays in the log.

        `trigger` is that of the run.
        """
        swept = self._facts.swept_at()
        if swept is None:  # a new host: nothing of its own can be old enough
            swept = self._clock.now()
            self._facts.set_swept_at(swept)
        recently = abs(self._clock.now() - swept) < _SWEEP_INTERVAL  # the clock may have been ahead
        try:
            plan = self._own_sets.plan_prune()
            deleted = self._catalogue.deleted.unfinished(self._own_sets.ours())
            if not recently or plan.drop or plan.chains.drop or deleted:
                self.begin(trigger).execute()
        except AppError as error:
            _log.warning("prune failed: %s [%s]", error.message, error.code)

    def _prune(self, recorder: Recorder, _staging: Path) -> None:
        self._catalogue.refresh()
        ours = self._own_sets.ours()
        self._chains.describe_packs(ours, lambda: recorder.progress(Progress("finish")))
        plan = self._own_sets.plan_prune()
        recorder.stage("finish")
        refused: list[StoreError] = []
        kept = self.finish(refused)
        recorder.stage("drop")
        for dropped in plan.drop:
            set_id, reason = dropped.backup_set.id, dropped.reason
            with suppress(SetNotFound):  # another process has learnt in between that it is gone
                chosen = self._catalogue.get(set_id)
                kept += [] if chosen.pinned else self._drop(chosen, refused)  # since the plan
                if not self._catalogue.has(set_id):
                    _log.info("dropped", extra=fields(set_id=set_id, reason=reason))
        # Planned anew: a set that the store refused to drop keeps its chain.
        chains = self._own_sets.plan_prune().chains
        kept += self._chains.drop(chains, ours, has_manifest=self._has_manifest, refused=refused)
        recorder.stage("sweep")
        self.sweep(ours)
        if self._own_sets.frozen() is None:
            self._drop_old_safety_copies()
        self._facts.set_swept_at(self._clock.now())
        refuse_rest(kept, refused)

    def finish(self, refused: list[StoreError]) -> list[str]:
        """Delete what an earlier prune or deletion has left of its sets; the keys of what does not
        say that it is theirs. What the store refuses is added to `refused`."""
        return self._finish(refused) + self._finish_deletions(refused)

    def _finish_deletions(self, refused: list[StoreError]) -> list[str]:
        """Remove the sets of ours that a person has deleted, each after its chain.

        The manifest goes when nothing of the chain is listed any more: until then each prune, of
        whatever host, finds the set, and its note.
        """
        kept, ours = [], self._own_sets.ours()
        for one in self._catalogue.deleted.unfinished(ours):
            before = len(refused)
            if chain := chain_of(one, self._own_sets.chains.all()):
                reason = f"set {one.id} was deleted on purpose"
                going = tuple(DroppedObject(chain.id, part, reason) for part in chain.objects)
                plan = ChainPlan(drop=going)
                kept += self._chains.drop(
                    plan, ours, has_manifest=self._has_manifest, refused=refused
                )
            if len(refused) == before:
                kept += self._drop(one, refused)
            if len(refused) == before:
                _log.info("deleted on purpose", extra=fields(set_id=one.id))
        return kept

    def _drop_old_safety_copies(self) -> None:
        """What restores replaced stays here for as long as in the store; the newest for undo."""
        needed = self._facts.needed_for_undo()
        if needed is not None:  # else whatever is there may be needed
            self._directory.drop_pre_restore(
                self._clock.now() - timedelta(days=PRE_RESTORE_DAYS), keep=needed
            )

    def sweep(self, ours: Collection[str]) -> list[str]:
        """Remove what this installation put more than 24 h ago and no manifest claims.

        A listing only names candidates: what belongs to a set is an orphan once the store, asked
        for the manifest of that set by name, has none. A manifest is never one.
        """
        before = self._clock.now() - ORPHAN_AGE
        removed = []
        for key in self._candidates(before):
            try:
                if self._is_orphan(key, ours):
                    self._store.delete(key)
                    removed.append(key)
                    _log.info("swept", extra=fields(key=key))
            except (StoreAccessDenied, StoreFailing) as error:
                _log.warning(
                    "an object that belongs to no set could not be deleted: %s",
                    error.message,
                    extra=fields(key=key),
                )
        removed += self._chains.sweep(ours)
        self._store.abort_unfinished(self._prefix, before, self._could_be_ours)
        return removed

    def _candidates(self, before: datetime) -> list[str]:
        """Keys that no known manifest claims, of objects written before a time; none of them
        while a manifest cannot be read, for nobody knows what it claims. The notes of deletions
        stay longer: another host may know the set."""
        listed = [
            found
            for found in self._store.list(self._prefix)
            if found.modified_at
            < (before - DELETION_KEPT if self._is_deletion(found.key) else before)
        ]
        manifests = {
            parsed[0]
            for found in self._store.list(naming.sets_prefix(self._prefix))
            if (parsed := naming.parse_set_key(self._prefix, found.key))
            and parsed[1] == naming.MANIFEST
        }
        self._catalogue.refresh()
        unfinished = self._catalogue.deleted.unfinished()
        known = {found.id: found for found in (*self._catalogue.sets(), *unfinished)}
        if manifests - known.keys():
            _log.warning("a manifest cannot be read, so no orphan is deleted")
            return []
        claimed = {stored.key for found in known.values() for stored in found.objects}
        return [
            found.key
            for found in listed
            if self._could_be_ours(found.key)
            and found.key not in claimed
            and not self._belongs_to(found.key, known)
        ]

    def _is_deletion(self, key: str) -> bool:
        """Whether a key is that of a note that a set was deleted."""
        parsed = naming.parse_set_key(self._prefix, key)
        return parsed is not None and parsed[1].startswith(DELETED)

    def _could_be_ours(self, key: str) -> bool:
        """Whether a run of ours may have put this key, and may leave it behind when it dies."""
        parsed = naming.parse_set_key(self._prefix, key)
        if parsed is not None:
            return parsed[1] != naming.MANIFEST and not naming.is_legacy_id(parsed[0])
        return naming.parse_data_key(self._prefix, key) is not None

    def _belongs_to(self, key: str, known: Collection[str]) -> bool:
        """Whether a key is that of a document beside the manifest of a known set."""
        parsed = naming.parse_set_key(self._prefix, key)
        return parsed is not None and parsed[0] in known

    def _is_orphan(self, key: str, ours: Collection[str]) -> bool:
        """Whether the object says that it is of a set of `ours`, and that set has no manifest."""
        try:
            metadata = self._store.head(key).metadata
        except ObjectMissing:
            return False
        set_id = metadata.get("set-id", "")
        parsed = naming.parse_set_key(self._prefix, key)
        if parsed is not None and parsed[0] != set_id:
            return False
        return (
            naming.is_set_id(set_id)
            and metadata.get("instance") in ours
            and not self._has_manifest(set_id)
        )

    def _drop(self, backup_set: BackupSet, refused: list[StoreError]) -> list[str]:
        """Remove a set; the keys of what does not say that it is this set's, and is kept.

        What the store refuses is added to `refused`.
        """
        keys = [stored.key for stored in backup_set.objects]
        keys += [
            naming.document_key(self._prefix, backup_set.id, name)
            for name in self._catalogue.verdict_names(backup_set.id)
            if not name.startswith(DELETED)
        ]
        self._facts.deeds.note_doomed(backup_set.id, self._clock.now())
        with self._known.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO doomed(key, set_id) VALUES (?, ?)",
                [(key, backup_set.id) for key in keys],
            )
        key = naming.manifest_key(self._prefix, backup_set.id)
        kept: list[str] = []
        with _going_on(key, refused):
            if self._remove(key, backup_set.id):
                self._catalogue.forget(backup_set.id)
            else:
                kept = [key]
        return kept + self._finish(refused)

    def _finish(self, refused: list[StoreError]) -> list[str]:
        """Delete the doomed keys of sets whose manifest is gone; spare those that still have one.

        A set whose manifest is still there is whole, and planned anew. Returns the keys of
        what does not say that it is the set's, and is kept. What the store refuses is added to
        `refused`, and stays doomed.
        """
        kept = []
        with self._known.reading() as connection:
            rows = connection.execute("SELECT key, set_id FROM doomed ORDER BY set_id").fetchall()
        alive: dict[str, bool] = {}
        for key, set_id in rows:
            if set_id not in alive:
                alive[set_id] = self._has_manifest(set_id)
            with _going_on(key, refused):
                if not alive[set_id] and not self._remove(key, set_id) and not self._was_taken(key):
                    kept.append(key)
                with self._known.transaction() as connection:
                    connection.execute("DELETE FROM doomed WHERE key = ?", (key,))
        return kept

    def _remove(self, key: str, set_id: str) -> bool:
        """Delete an object that says that it belongs to the set; False if it does not say so.

        One that is gone already, by us or by somebody else, is a success.
        """
        try:
            owner = self._store.head(key).metadata.get("set-id")
        except ObjectMissing:
            return True
        if owner != set_id:
            _log.warning(
                "kept an object whose metadata does not name set %s: copy it there again with its "
                "metadata, or delete it by hand",
                set_id,
                extra=fields(key=key, set_id=owner),
            )
            return False
        self._store.delete(key)
        return True

    def _was_taken(self, key: str) -> bool:
        """Whether an object says that it is of a set that there is: it took a key that was free."""
        try:
            owner = self._store.head(key).metadata.get("set-id", "")
        except ObjectMissing:
            return True
        return naming.is_set_id(owner) and self._has_manifest(owner)

    def _has_manifest(self, set_id: str) -> bool:
        """Whether a set has a manifest, or may have one that the store refuses to show."""
        key = naming.manifest_key(self._prefix, set_id)
        try:
            self._store.head(key)
        except ObjectMissing:
            return False
        except (StoreAccessDenied, StoreFailing) as error:
            _log.warning("%s", error.message, extra=fields(key=key))
        return True


def refuse_rest(kept: Sequence[str], refused: Sequence[StoreError]) -> None:
    """Raise what the store refused, or `PruneIncomplete` for the keys that were `kept`."""
    if refused:
        raise refused[0]
    if kept:
        raise PruneIncomplete(
            f"{counted(len(kept), 'object was', 'objects were')} kept, because the metadata "
            "does not name the set that was to be dropped: "
            f"{', '.join(kept[:5])}{' and others' if kept[5:] else ''}",
            "Copy them there again with their metadata, or delete them by hand.",
        )


@contextmanager
def _going_on(key: str, refused: list[StoreError]) -> Iterator[None]:
    """Note what the store refuses for one object, and go on with the next."""
    try:
        yield
    except (StoreAccessDenied, StoreFailing) as error:
        _log.warning("%s", error.message, extra=fields(key=key))
        refused.append(error)
