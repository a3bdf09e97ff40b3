"""Verify: prove a stored set again from its stored bytes, and leave the verdict beside it."""

from __future__ import annotations

from pathlib import Path

from backups.errors import ProofFailed
from backups.model import ProgressSink
from backups.operations.own_sets import LATEST, OwnSets
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.publish import Publisher
from backups.sets.verdicts import Verdicts


class Verify:
    """Proves sets that were published earlier."""

    def __init__(
        self,
        catalogue: Catalogue,
        starter: RunStarter,
        own_sets: OwnSets,
        *,
        publisher: Publisher,
        verdicts: Verdicts,
    ) -> None:
        self._catalogue = catalogue
        self._starter = starter
        self._own_sets = own_sets
        self._publisher = publisher
        self._verdicts = verdicts

    def begin(
        self, target: str | None = None, progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start proving a stored set again, by its id or by default `latest`; the caller executes
        it.

        Raises what `OwnSets.named` does, `StoreError` when the catalogue cannot be refreshed,
        `LeaseHeld`.
        """
        self._catalogue.refresh()
        chosen = self._own_sets.named(target or LATEST)

        def work(recorder: Recorder, staging: Path) -> str:
            recorder.concerns(chosen.id)
            recorder.stage("proof")
            try:
                level = self._publisher.prove(recorder, chosen.objects, staging, restorable=True)
            except ProofFailed as failure:
                self._verdicts.note_proof(chosen.id, "none", failure.message)
                raise
            self._verdicts.note_proof(chosen.id, level, "read back")
            return chosen.id

        return self._starter.begin("verify", "manual", work, progress)
