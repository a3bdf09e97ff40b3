"""Verify: prove a stored set again from its stored bytes, and leave the verdict beside it."""

from __future__ import annotations

from pathlib import Path

from backups.errors import ProofFailed
from backups.format.chain_keys import set_of
from backups.host.removal import remove_file
from backups.increments.replay import Replay
from backups.model import BackupSet, ProgressSink, ProofLevel
from backups.operations.own_sets import LATEST, OwnSets
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.fetch import Fetcher
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
        fetcher: Fetcher,
        replay: Replay,
    ) -> None:
        self._catalogue = catalogue
        self._starter = starter
        self._own_sets = own_sets
        self._publisher = publisher
        self._verdicts = verdicts
        self._fetcher = fetcher
        self._replay = replay

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
            # The verdict lies beside the set: of a point of a chain that is its full.
            proven = set_of(chosen.point.chain) if chosen.point else chosen.id
            try:
                level = self._publisher.prove(recorder, chosen.objects, staging, restorable=True)
            except ProofFailed as failure:
                self._verdicts.note_proof(proven, "none", failure.message)
                raise
            self._verdicts.note_proof(proven, level, "read back")
            if chosen.point is not None:
                self._prove_point(recorder, chosen, level, staging)
            return chosen.id

        return self._starter.begin("verify", "manual", work, progress)

    def _prove_point(
        self, recorder: Recorder, chosen: BackupSet, level: ProofLevel, staging: Path
    ) -> None:
        """Replay its chain as a restore does; where nothing can be decrypted here, only read it."""
        if level == "sealed":
            self._replay.read(chosen, staging, recorder.progress)
            return
        files = self._fetcher.fetch(
            chosen, chosen.objects, staging, recorder.progress, copies=False, check=True
        )
        for path in files.values():
            remove_file(path)
