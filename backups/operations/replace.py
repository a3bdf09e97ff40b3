"""Replacing live databases, for a restore and an undo: what goes away is kept and recorded.

A `Replacer` lasts as long as the process. The state of one run is its `Replacement`:

1. What is about to go away is put aside: a healthy database as a safety copy, which is durable
   before the first live page changes; a damaged one as its files, moved.
2. It is recorded before the switch, so that a crash right after it can still be undone.
3. The switch: a crash leaves the database with the old or the new content.
4. At the end, the safety copies are stored as a set too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from backups.errors import BackupError, RunNotFound
from backups.host.directory import BackupDirectory
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.model import (
    Progress,
    Replaced,
    RestoreRecord,
    SnapshotFile,
    Snapshots,
    Source,
)
from backups.runs.log_files import source_log
from backups.runs.run import Recorder
from backups.sets.instants import Instants
from backups.sets.publish import Publisher, SetFacts
from backups.sources import install
from backups.sources.links import real_source, refuse_dangling_link
from backups.sources.live import inspect_live, is_taken
from backups.sources.snapshot import copy_one
from shared.clock import Clock
from shared.errors import AppError, DatabaseError
from shared.files import sync_directory, sync_file
from shared.logs import fields

_log = logging.getLogger("backups.run")


@dataclass(frozen=True, kw_only=True)
class Replacer:
    """Begins the replacements of an installation, and stores what they have kept."""

    sources: Sequence[Source]
    busy_timeout: float
    directory: BackupDirectory
    facts: HostState
    run_log: RunLog
    clock: Clock
    publisher: Publisher
    instants: Instants

    def replaceable(self, names: Sequence[str]) -> list[Source]:
        """The sources of these names, at paths that can take a database.

        Raises `BackupError` for another name, `LinkDangling`, `OwnerDiffers`.
        """
        by_name = {source.name: source for source in self.sources}
        for name in names:
            if name not in by_name:
                raise BackupError(
                    f"this installation has no source named {name}",
                    "Add it to BACKUP_EXTRA_SOURCES, or use --only or --to DIR.",
                )
        found = [real_source(by_name[name]) for name in names]
        for source in found:
            refuse_dangling_link(source)
            install.refuse_foreign_owner(source.path)
        return found

    def begin(
        self, recorder: Recorder, set_id: str, owed: tuple[Replaced, ...] = ()
    ) -> Replacement:
        """The replacement of a run; an undo names what it is `owed`, which it puts back."""
        record = RestoreRecord(recorder.run.id, set_id, self.clock.now(), (), owed)
        return Replacement(self, recorder, record, self._unfinished(set_id, owed=bool(owed)))

    def last_record(self) -> RestoreRecord | None:
        """What the newest restore or undo replaced; an undo owes until its run has succeeded.

        A run that dies after its last switch is not recorded as a success: the same command
        again must finish that undo, and not undo it.
        """
        record = self.facts.last_restore()
        if record is not None and record.owed and self._has_succeeded(record.run_id):
            return replace(record, owed=())
        return record

    def _has_succeeded(self, run_id: str) -> bool:
        try:
            return self.run_log.get(run_id).status == "succeeded"
        except RunNotFound:  # nothing says that it has to be finished
            return True

    def _unfinished(self, set_id: str, *, owed: bool) -> tuple[Replaced, ...]:
        """What the run that this one finishes had put aside, if the last one did not end.

        Undo must bring back what was there before that run, not what it left half done.
        """
        last = self.last_record()
        if last is None or last.set_id != set_id:
            return ()
        if last.owed:  # an undo that did not end: this run finishes it, or the restore before it
            return last.replaced if owed else last.owed
        return () if owed or self._has_succeeded(last.run_id) else last.replaced

    def store_kept(self, replacement: Replacement, staging: Path) -> None:
        """Store the safety copies as a set too; they stay on this host whatever happens."""
        if not replacement.kept:
            return
        linked = []
        for file in replacement.kept:
            path = staging / f"kept-{file.source}.db"
            with suppress(FileExistsError):
                os.link(file.path, path)
            linked.append(replace(file, path=path))
        instant = self.instants.free()
        try:
            made = self.publisher.store_set(
                replacement.recorder,
                Snapshots(instant, tuple(linked), 0.0),
                staging,
                SetFacts("pre-restore", "pre-restore", complete=False, suspect=None),
            )
        except AppError as error:
            _log.warning(
                "what was replaced could not be stored, and stays on this host only: %s",
                error.message,
            )
        else:
            _log.info("what was replaced is stored", extra=fields(set_id=made.id))


class Replacement:
    """What one run puts into the places of live databases, and the record that undoes it.

    `kept` are the safety copies of what was healthy; `unfinished` is what the run that this
    one finishes had put aside.
    """

    def __init__(
        self,
        replacer: Replacer,
        recorder: Recorder,
        record: RestoreRecord,
        unfinished: tuple[Replaced, ...],
    ) -> None:
        self.recorder = recorder
        self.record = record
        self.unfinished = unfinished
        self.kept: list[SnapshotFile] = []
        self._directory = replacer.directory
        self._facts = replacer.facts
        self._busy_timeout = replacer.busy_timeout

    def install(self, source: Source, staged: Path) -> None:
        """Bring a checked file to the place of a source, in whichever state that is."""
        self._install(source, staged)
        source_log(source.name).info(
            "restored", extra=fields(path=source.path, set_id=self.record.set_id)
        )

    def bring_back(self, source: Source, folder: Path, *, main: bool) -> None:
        """Move the damaged files of a source back out of their quarantine, for an undo.

        `main` says whether its main file was among them, or to be among them.
        """
        earlier = self._earlier(source.name)
        if earlier is None and main and not (folder / source.path.name).exists():
            return  # the restore ended before it had moved anything
        begun = earlier is not None and (
            earlier.path is None or (earlier.path / source.path.name).exists()
        )
        if earlier is not None and begun:
            # An undo that did not end had made room already: what is there, it had brought back.
            self._add_to_record(earlier)
            if earlier.path is not None:
                install.remove_moved(source.path, earlier.path)
        else:
            self._move_aside(source, missing=not is_taken(source.path))
        install.bring_back(folder, source.path, begun=begun)

    def _install(self, source: Source, staged: Path) -> None:
        state = inspect_live(source, self._busy_timeout).state
        if state == "healthy":
            self.kept.append(self._replace_content(source, staged, checked=True))
            return
        # An app that has an emptied file open keeps it locked against its replacement in place.
        if state == "corrupt" and source.path.stat().st_size:
            try:
                self._replace_content(source, staged, checked=False)
            except DatabaseError as error:
                _log.warning("%s; moving it aside", error.message)
            else:
                return
        self._move_aside(source, missing=state == "missing")
        try:
            install.install_new(staged, source.path)
        except FileExistsError:
            # Someone began a new database there in the meantime: replace its content.
            self._install(source, staged)

    def _replace_content(self, source: Source, staged: Path, *, checked: bool) -> SnapshotFile:
        """Replace a live database's content; the copy of the old one, `checked` if it is sound."""
        folder = self._directory.pre_restore(self.recorder.run.id)
        kept: list[SnapshotFile] = []

        def keep_old() -> None:
            (folder / f"{source.name}.db").unlink(missing_ok=True)
            file = copy_one(
                source,
                folder,
                self.recorder.progress,
                busy_timeout=self._busy_timeout,
                checked=checked,
            )
            _make_durable(file.path)  # before the first live page changes
            kept.append(file)
            self._add_to_record(Replaced(source.name, "copy", file.path))

        def tick(done: int, total: int) -> None:
            self.recorder.progress(Progress("install", source.name, done, total))

        install.replace_content(staged, source, self._busy_timeout, keep_old, tick)
        return kept[0]

    def _move_aside(self, source: Source, *, missing: bool) -> None:
        if missing:
            self._add_to_record(Replaced(source.name, "nothing", None))
            return
        folder = install.quarantine_folder(source.path, self.recorder.run.id)
        earlier = self._earlier(source.name)
        unfinished = earlier.path if earlier and earlier.kind == "quarantine" else None
        there = source.path.exists()
        if unfinished and not (there and (unfinished / source.path.name).exists()):
            folder = unfinished  # that run ended in the middle of moving
        self._add_to_record(Replaced(source.name, "quarantine", folder, main=there))
        install.quarantine(source.path, folder)
        _log.warning("damaged files were moved aside", extra=fields(folder=folder))

    def _earlier(self, source: str) -> Replaced | None:
        """What the run that this one finishes had put aside of a source."""
        return next((one for one in self.unfinished if one.source == source), None)

    def _add_to_record(self, replaced: Replaced) -> None:
        """Remember before the switch, so that a crash right after it can still be undone."""
        others = tuple(one for one in self.record.replaced if one.source != replaced.source)
        earlier = self._earlier(replaced.source)
        if earlier and (earlier.path is None or earlier.path.exists()):
            replaced = earlier
        self.record = replace(self.record, replaced=(*others, replaced))
        self._facts.set_last_restore(self.record)


def _make_durable(path: Path) -> None:
    """Bring a safety copy to the disk: its bytes, its name, and the folders made for it."""
    sync_file(path)
    for folder in path.parents[:3]:  # BACKUP_DIR/pre-restore/<run>
        sync_directory(folder)
