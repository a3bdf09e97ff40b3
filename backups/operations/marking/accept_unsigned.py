"""Marking the sets of an installation that carry no mark, because a person knows whose they are.

Each set is proven from its stored bytes first. Those that do not prove stay as they are, and the
run fails by their names. The others are marked all the same, and count as this installation's.
"""

from __future__ import annotations

from pathlib import Path

from backups.errors import ProofFailed
from backups.model import ProgressSink
from backups.operations.adopt import Adopt, unknown_instance
from backups.operations.installation import Installation
from backups.operations.marking.later_marks import LaterMarks
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.publish import Publisher
from shared.errors import SettingsError

_MOST_NAMED = 20


class UnsignedSets:
    """Marks the unsigned sets of an installation whose objects prove."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        *,
        publisher: Publisher,
        adopt: Adopt,
        later_marks: LaterMarks,
    ) -> None:
        self._directory = installation.directory
        self._marks = installation.config.marks
        self._catalogue = installation.catalogue
        self._starter = starter
        self._publisher = publisher
        self._adopt = adopt
        self._later_marks = later_marks

    def begin(self, instance: str, progress: ProgressSink = ignore_progress) -> StartedRun:
        """Start to prove and mark them, and to adopt the installation; the caller executes it.

        Raises `SettingsError` where there are no keys, `InstanceUnknown`, `StoreError` when the
        catalogue cannot be refreshed, `LeaseHeld`.
        """
        if not self._marks.keys:
            raise SettingsError(("TOKEN_ENCRYPTION_KEYS is not set: no set can be marked",))
        self._catalogue.refresh()
        its_own = [
            one
            for one in self._catalogue.sets()
            if one.instance == instance and one.kind != "legacy"
        ]
        is_mine = instance == self._directory.instance()
        can_count = any(one.mark in ("valid", "unsigned") for one in its_own)
        if not its_own or not (is_mine or can_count):
            raise unknown_instance(instance, its_own)
        chosen = [one for one in its_own if one.mark == "unsigned"]

        def work(recorder: Recorder, staging: Path) -> None:
            recorder.stage("proof")
            failed: list[str] = []
            for one in chosen:
                try:
                    self._publisher.prove(recorder, one.objects, staging)
                except ProofFailed as error:
                    failed.append(f"{one.id} ({error.message})")
                else:
                    self._later_marks.note({one.id: self._later_marks.unsigned(one.id)})
            self._later_marks.finish(recorder.progress)
            if not is_mine and len(failed) < len(its_own):
                self._adopt.adopt(instance)
            if failed:
                raise ProofFailed(
                    f"{len(failed)} of {len(chosen)} unsigned sets of installation {instance} do "
                    f"not prove, and stay unsigned: {'; '.join(failed[:_MOST_NAMED])}"
                    + (" and others" if len(failed) > _MOST_NAMED else ""),
                    "The others are marked. What cannot be restored protects nothing: leave it.",
                )

        return self._starter.begin("verify", "manual", work, progress)
