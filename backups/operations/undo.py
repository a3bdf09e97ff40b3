"""Undoing the last restore in place: what it replaced comes back; an undo can itself be undone.

check -> install (safety copies) and move back (damaged files) -> keep
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from backups.errors import NothingToUndo
from backups.host.removal import remove_file
from backups.model import ProgressSink, RestoreRecord
from backups.operations.aside import Asides
from backups.operations.replace import Replacer
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sources.room import FileSize, room_for_restore


@dataclass(frozen=True, kw_only=True)
class Undo:
    """Knows what an undo would put back, and starts it."""

    starter: RunStarter
    replacer: Replacer
    asides: Asides

    def undoable(self) -> RestoreRecord:
        """The record of the last restore in place; raises `NothingToUndo`."""
        record = self.replacer.last_record()
        if record is None or not any(one.kind != "nothing" for one in record.to_put_back):
            raise NothingToUndo(
                "no restore in place on this host has replaced anything",
                "Restore a set by its id instead: python -m backups list",
            )
        for one in record.to_put_back:
            if one.path is not None and not one.path.exists():
                raise NothingToUndo(
                    f"what the last restore replaced of {one.source} is missing: {one.path}",
                    "Restore a set by its id instead: python -m backups list",
                )
        return record

    def begin(self, progress: ProgressSink = ignore_progress) -> StartedRun:
        """Start putting back what the last restore in place replaced.

        Raises `NothingToUndo`, `LeaseHeld`.
        """
        self.undoable()
        return self.starter.begin("restore", "manual", self._undo, progress)

    def _undo(self, recorder: Recorder, staging: Path) -> str:
        self.replacer.facts.note_undo(recorder.run.id)
        recorder.stage("check")
        record = self.undoable()
        sources = self.replacer.replaceable([one.source for one in record.to_put_back])
        put_aside = list(zip(sources, record.to_put_back, strict=True))
        kept = self.replacer.directory.pre_restore_folder
        sizes = {
            source.name: FileSize(one.path.stat().st_size)
            for source, one in put_aside
            if one.kind == "copy" and one.path is not None
        }
        replaced = [source for source in sources if source.name in sizes]
        recorder.keep_room(room_for_restore(sizes, replaced, staging=staging, kept=kept))
        recorder.stage("get")
        copies: dict[str, Path] = {}
        for source, one in put_aside:
            if one.kind == "copy" and one.path is not None:
                copies[source.name] = staging / f"{source.name}.db"
                shutil.copyfile(one.path, copies[source.name])
                copies[source.name].chmod(0o600)
        recorder.stage("install")
        replacement = self.replacer.begin(recorder, record.set_id, owed=record.to_put_back)
        for source in sources:
            if source.name in copies:
                replacement.install(source, copies[source.name])
                remove_file(copies[source.name])  # storing what was replaced needs the room
        for source, one in put_aside:
            if one.kind == "quarantine" and one.path is not None:
                replacement.bring_back(source, one.path, main=one.main)
            self.replacer.facts.forget_baseline(source.name)
        recorder.stage("keep")
        self.asides.take_back(recorder, record)
        self.replacer.store_kept(replacement, staging)
        return record.set_id
