"""Undoing the last restore in place: what it replaced comes back; an undo can itself be undone.

check -> install (safety copies) and move back (damaged files) -> keep
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backups.errors import NothingToUndo
from backups.host.removal import remove_file
from backups.increments.lease import LetGo
from backups.model import ProgressSink
from backups.operations.aside import Asides
from backups.operations.replace import Replacer
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sources.engine.live_data import LiveData
from backups.sources.install import borrow
from backups.sources.live import look_at
from backups.sources.room import room_for_restore
from backups.vocabulary.replaced import Replaced, RestoreRecord, Switch

_BY_ID = "Restore a set by its id instead: ./bot backups list"


@dataclass(frozen=True)
class Undo:
    """Knows what an undo would put back, and starts it."""

    starter: RunStarter
    replacer: Replacer
    asides: Asides
    let_go: LetGo
    live: LiveData

    def undoable(self) -> RestoreRecord:
        """The record of the last restore in place; raises `NothingToUndo`."""
        history = self.replacer.history
        unseen = history.unseen()
        if unseen is not None:
            raise _not_seen(unseen)
        record = history.last_record()
        if record is None or not (
            record.owed or any(one.kind != "nothing" for one in record.to_put_back)
        ):
            raise NothingToUndo("no restore in place on this host has replaced anything", _BY_ID)
        if not (record.exact or record.owed or history.has_succeeded(record.run_id)):
            raise NothingToUndo(
                f"restore {record.run_id} did not end, and an earlier version of this program "
                "noted only what it was about to replace",
                f"What it had put aside is in {_places(record)}. {_BY_ID}",
            )
        if self.replacer.facts.deeds.was_restored_elsewhere(record.run_id):
            raise NothingToUndo(
                "another host of this installation has restored in place since",
                f"Undo that there: ./bot backups restore --undo, typed on that host. {_BY_ID}",
            )
        for one in record.to_put_back:
            if one.path is not None and not one.path.exists():
                raise NothingToUndo(
                    f"what the last restore replaced of {one.source} is missing: {one.path}",
                    _BY_ID,
                )
        return record

    def begin(self, progress: ProgressSink = ignore_progress) -> StartedRun:
        """Start putting back what the last restore in place replaced.

        Raises `NothingToUndo`, `LeaseHeld`.
        """
        self.replacer.history.settle_if_free()  # also where there is nothing to undo
        self.undoable()
        return self.starter.begin("restore", "manual", self._undo, progress)

    def _undo(self, recorder: Recorder, staging: Path) -> str:
        self.replacer.facts.note_undo(recorder.run.id)
        recorder.stage("check")
        self.asides.refresh()
        self.live.bring_up_to_date()
        self.replacer.history.settle()
        record = self.undoable()
        put_back = (*record.to_put_back, *self._spoiled_since(record))
        sources = self.replacer.replaceable([one.source for one in put_back])
        put_aside = list(zip(sources, put_back, strict=True))
        kept = self.replacer.directory.pre_restore_folder
        sizes = {
            source.name: one.path.stat().st_size
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
                borrow(one.path, copies[source.name])
        recorder.stage("install")
        with self.let_go.held(None):
            replacement = self.replacer.begin(recorder, record.set_id, record)
            for source in sources:
                if source.name in copies:
                    replacement.install(source, copies[source.name])
                    remove_file(copies[source.name])  # storing what was replaced needs the room
            for source, one in put_aside:
                if one.kind == "quarantine":
                    replacement.bring_back(source, one)
            self.live.put_back(record.run_id, recorder.run.id, sources)
        for one in record.owed or put_back:
            self.replacer.facts.forget_baseline(one.source)
        replacement.conclude()
        recorder.stage("keep")
        self.asides.take_back(recorder, record.taken_back, record.set_id)
        self.replacer.store_kept(replacement, staging)
        return record.set_id

    def _spoiled_since(self, record: RestoreRecord) -> list[Replaced]:
        """What an undo that did not end had put back, and is damaged or gone since then."""
        spoiled = []
        for one in record.owed:
            if one.source in record.back and one.kind == "copy" and one.path is not None:
                (source,) = self.replacer.replaceable([one.source])
                live = look_at(source, self.replacer.busy_timeout)
                if live.state in ("corrupt", "empty", "missing", "leftover"):
                    spoiled.append(one)
        return spoiled


def _not_seen(switch: Switch) -> NothingToUndo:
    source = switch.put_aside.source
    return NothingToUndo(
        f"run {switch.record.run_id} ended while it was about to replace {source}, which was "
        "changed since: nobody can see whether it was replaced",
        f"What the run had put aside is in {switch.put_aside.path}. {_BY_ID}",
    )


def _places(record: RestoreRecord) -> str:
    return ", ".join(str(one.path) for one in record.replaced if one.path is not None)
