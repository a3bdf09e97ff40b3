"""Delete: a person removes one set on purpose, whatever the rules of retention say.

    check -> note in the store -> local copies -> chain -> manifest -> the rest of the set

From the note on the set is none, for every host that reads the store. Whatever stops the rest is
finished by the next prune, or by the next deletion.
"""

from __future__ import annotations

from pathlib import Path

from backups.decisions.chains.points import PointRange
from backups.decisions.keeping.deletion import DeletionPlan, chain_of, plan_deletion
from backups.errors import SetDeleted
from backups.model import ProgressSink
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.operations.prune import Prune, refuse_rest
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.verdicts import Verdicts
from shared.errors import StoreError


class Delete:
    """Removes a set, and the points that are made from it."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        own_sets: OwnSets,
        *,
        verdicts: Verdicts,
        prune: Prune,
    ) -> None:
        self._catalogue = installation.catalogue
        self._directory = installation.directory
        self._starter = starter
        self._own_sets = own_sets
        self._verdicts = verdicts
        self._prune = prune

    def plan(self, set_id: str) -> DeletionPlan:
        """What would go; asks the store first.

        Raises `SetNotFound` (`SetDeleted` where it is gone already), `ManifestInvalid`,
        `NotDeletable`, `StoreError`.
        """
        self._catalogue.refresh()
        chains, ours = self._own_sets.chains.all(), self._own_sets.ours()
        try:
            chosen = self._own_sets.named(set_id)
        except SetDeleted:
            for left in self._catalogue.deleted.unfinished(ours):
                if left.id == set_id:
                    return DeletionPlan(left, chain_of(left, chains), again=True)
            raise
        points, facts = self._catalogue.points(), self._own_sets.retention()
        return plan_deletion(chosen, points, chains, facts, own=self._directory.instance())

    def points(self, plan: DeletionPlan) -> list[PointRange]:
        """Those that can be restored, and would go."""
        ranges = self._catalogue.chains.ranges(None)
        return [one for one in ranges if plan.chain and one.chain == plan.chain.id]

    def begin(self, set_id: str, progress: ProgressSink = ignore_progress) -> StartedRun:
        """Start deleting a set, which a person has confirmed; the caller executes it.

        Raises `LeaseHeld`. What `plan` raises fails the run.
        """

        def work(recorder: Recorder, _staging: Path) -> str:
            recorder.concerns(set_id)
            recorder.stage("check")
            plan = self.plan(set_id)
            if not plan.again:
                recorder.stage("note")
                self._verdicts.note_deletion(plan.backup_set.id)
            recorder.stage("drop")
            self._directory.drop_copies(set_id)
            refused: list[StoreError] = []
            refuse_rest(self._prune.finish(refused), refused)
            return set_id

        return self._starter.begin("delete", "manual", work, progress)
