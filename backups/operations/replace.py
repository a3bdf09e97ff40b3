"""Replacing live databases, for a restore and an undo: what goes away is kept and recorded.

A `Replacer` lasts as long as the process. The state of one run is its `Replacement`:

1. What is about to go away is put aside: a healthy database as a durable safety copy, whose rows
   that no restore takes back are carried over; a damaged one as its files with a second name.
2. It is noted as a `Switch` before, so that a crash right after it can still be undone: whoever
   comes next looks whether the database was replaced.
3. The switch: a crash leaves the database with the old or the new content.
4. It is looked at, and only then is the record of the restore that which an undo takes back.
5. At the end, the safety copies are measured, and checked while they are stored as a set too.

One file, because every step of a run reads or writes its one record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from backups.decisions.restore_plan import LiveState
from backups.errors import BackupError, PageSizeDiffers, TargetUnusable
from backups.host.directory import BackupDirectory
from backups.host.state import HostState
from backups.model import Progress, SnapshotFile, Snapshots, Source
from backups.operations.carrying.rows import CarriedRows
from backups.runs.log_files import source_log
from backups.runs.run import Recorder
from backups.sets.publish import Publisher, SetFacts
from backups.sets.puts import Instants
from backups.sources import install
from backups.sources.checking.soundness_checks import open_checks
from backups.sources.links import real_source, refuse_dangling_link
from backups.sources.live import inspect_live, is_taken, still_sound
from backups.sources.pins import what
from backups.sources.quarantine import moves
from backups.sources.quarantine.exchange import exchange, hold_still
from backups.sources.restore_history import RestoreHistory
from backups.sources.snapshot import copy_one, measured
from backups.sources.switched import (
    has_same_content,
    is_aside,
    schema_of,
    schema_version,
    was_replaced,
)
from backups.vocabulary.replaced import Replaced, RestoreRecord, Switch
from shared.clock import Clock
from shared.errors import (
    AppError,
    DatabaseCorrupt,
    DatabaseDiskFault,
    DatabaseError,
    DatabaseNotSqlite,
)
from shared.logs import fields

_log = logging.getLogger("backups.run")

# How often a database may be begun anew in the moment between moving aside and installing.
_MOST_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Replacer:
    """Begins the replacements of an installation, and stores what they have kept."""

    sources: Sequence[Source]
    busy_timeout: float
    directory: BackupDirectory
    facts: HostState
    history: RestoreHistory
    clock: Clock
    publisher: Publisher
    instants: Instants
    carried: CarriedRows

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
        databases = [real_source(source).path for source in self.sources]
        for source in found:
            refuse_dangling_link(source)
            install.refuse_foreign_owner(source.path, databases)
        return found

    def begin(
        self, recorder: Recorder, set_id: str, undone: RestoreRecord | None = None
    ) -> Replacement:
        """The replacement of a run; an undo names what it takes back."""
        if self.history.settle() is not None:
            _log.warning("what an earlier run was about to replace is forgotten: nobody can see it")
        began = self.clock.now()
        if undone is None:
            record = RestoreRecord(recorder.run.id, set_id, began, (), exact=True)
            return Replacement(self, recorder, record, self.history.unfinished(set_id))
        record = RestoreRecord(
            run_id=recorder.run.id,
            set_id=set_id,
            at=began,
            # An undo that did not end is finished: the next one takes back all of it.
            replaced=undone.replaced if undone.owed and undone.exact else (),
            owed=undone.owed or undone.replaced,
            back=undone.back,
            undoes=undone.taken_back,
            exact=True,
        )
        return Replacement(self, recorder, record, record.replaced)

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
        try:
            snapshots = Snapshots(self.instants.free(), tuple(map(measured, linked)))
            about = SetFacts("pre-restore", "pre-restore", complete=False, suspect=None)
            with open_checks(linked) as checks:
                made = self.publisher.store_set(
                    replacement.recorder, snapshots, staging, about, checks
                )
        except AppError as error:
            _log.warning("what was replaced could not be stored, and stays here: %s", error.message)
        else:
            _log.info("what was replaced is stored", extra=fields(set_id=made.id))


class Replacement:
    """What one run puts into the places of live databases, and the record that undoes it.

    `kept` are the safety copies of what was healthy; `unfinished` is what the run it finishes left.
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
        self._carried = replacer.carried

    def install(self, source: Source, staged: Path, seen: LiveState | None = None) -> None:
        """Bring a checked file to the place of a source, in whichever state that is.

        What was just `seen` sound is not looked at again, if it is still there. Raises
        `TargetUnusable` when another process makes the source anew all the time.
        """
        for _ in range(_MOST_TRIES):
            if self._install(source, staged, still_sound(seen)):
                source_log(source.name).info(
                    "restored", extra=fields(path=source.path, set_id=self.record.set_id)
                )
                return
            seen = None
        raise TargetUnusable(
            f"{what(source)} was made anew by another process each time that it had been moved "
            "aside. The former files are beside it",
            "Stop the processes that use it, then restore again.",
        )

    def bring_back(self, source: Source, quarantine: Replaced) -> None:
        """Move the damaged files of a source back out of their quarantine, for an undo."""
        folder, path = quarantine.path, source.path
        if folder is not None and quarantine.main and path.exists():
            if (folder / path.name).exists():
                self._exchange(source, folder / path.name, is_copy=False)
            # Also of an undo that did not end; where none has begun, nothing is to be brought.
            begun = self._find(self.record.replaced, source.name)
            if begun is not None and begun.kind == "quarantine" and begun.path is not None:
                with install.errors_beside(source):
                    if not moves.bring_sides(folder, path, begun.path):
                        _log.warning("%s is in use: %s stays", what(source), folder)
        elif folder is not None and is_aside(path, quarantine):
            begun = self._find(self.record.replaced, source.name)
            if begun is not None and not path.exists():
                # An undo that did not end had made room already.
                if begun.path is not None:
                    with install.errors_beside(source):
                        moves.remove_moved(path, begun.path, folder)
            elif is_taken(path):
                begun = None
                self._move_aside(source)
            else:
                self._remember(self._record_with(Replaced(source.name, "nothing", None)))
            with install.errors_beside(source):
                moves.bring_back(folder, path, begun=begun is not None)
            if is_aside(path, quarantine) or not is_taken(path):
                raise _not_replaced(source)
        self._remember(self._with_back(self.record, source.name))

    def conclude(self) -> None:
        """Let the record name this run, also when an undo that did not end had done all."""
        self._remember(self.record)

    def _install(self, source: Source, staged: Path, known: LiveState | None) -> bool:
        """False when the source was made anew or damaged in the meantime: what to look at again."""
        live = known or inspect_live(source, self._busy_timeout)
        try:
            if self._is_replaced_in_place(source, staged, live):
                return True
        except (DatabaseCorrupt, DatabaseNotSqlite):
            if known is None:
                raise
            return False
        if source.path.exists():
            return self._install_over(source, staged)
        switch = None
        if live.state == "missing":
            switch = self._begin_switch(Replaced(source.name, "nothing", None), finishes=True)
        else:
            self._move_aside(source)
        try:
            with install.errors_beside(source):
                install.install_new(staged, source.path)
        except FileExistsError:
            return False
        if switch is not None:
            self._end_switch(source, switch)
        elif self.record.owed:
            self._remember(self._with_back(self.record, source.name))
        return True

    def _is_replaced_in_place(self, source: Source, staged: Path, live: LiveState) -> bool:
        """Replace the content of what can be written to; False where its files have to go."""
        sound = live.state == "healthy"
        # An app that has an emptied file open keeps it locked against its replacement in place, and
        # nothing is written to a file that its disk does not return.
        if not sound and (live.state != "corrupt" or live.on_disk):
            return False
        # The disk may have failed in pages that no table uses, where none has looked.
        why_not = (DatabaseDiskFault, PageSizeDiffers) if sound else (DatabaseError,)
        try:
            copy = self._replace_content(source, staged, sound=sound)
        except why_not as error:
            _log.warning("%s; moving it aside", error.message)
            return False
        if sound:
            self.kept.append(copy)
        return True

    def _install_over(self, source: Source, staged: Path) -> bool:
        try:
            with install.errors_beside(source), install.durable_beside(staged, source.path) as new:
                self._exchange(source, new, is_copy=True)
        except FileExistsError:
            self._facts.end_switch(None)  # the other process has replaced it
            return False
        return True

    def _replace_content(self, source: Source, staged: Path, *, sound: bool) -> SnapshotFile:
        """Replace the content of a live database, `sound` or not; the copy of the old one."""
        folder = self._directory.pre_restore(self.recorder.run.id)
        kept: list[SnapshotFile] = []
        begun: list[Switch] = []
        may_write = install.RefusedOnce()

        def keep_old() -> None:
            (folder / f"{source.name}.db").unlink(missing_ok=True)
            file = copy_one(
                source,
                folder,
                self.recorder.progress,
                busy_timeout=self._busy_timeout,
                sound=sound,
            )
            self._directory.make_durable(file.path)  # before the first live page changes
            self._carried.from_former(source.name, file.path, staged, may_write)
            kept.append(file)
            switch = self._begin_switch(
                Replaced(source.name, "copy", file.path),
                # What was written since the run that this one finishes has to come back, too.
                finishes=bool(self.unfinished) and has_same_content(file.path, staged),
                schema_version=schema_version(source, self._busy_timeout),
                schema=schema_of(staged),
            )
            begun.append(switch)

        def tick(done: int, total: int) -> None:
            self.recorder.progress(Progress("install", source.name, done, total))

        install.replace_content(staged, source, self._busy_timeout, keep_old, tick)
        self._end_switch(source, begun[0])
        return kept[0]

    def _exchange(self, source: Source, coming: Path, *, is_copy: bool) -> None:
        """Put a file in the place of a database, whose own files are kept in quarantine.

        Raises `FileExistsError` when another process has put a file there meanwhile.
        """
        put_aside, folder, finishes = self._quarantine(source)
        with ExitStack() as stack:
            is_still = hold_still(stack, source, self._busy_timeout)
            switch = self._begin_switch(put_aside, finishes=finishes)
            with install.errors_beside(source):
                exchange(source.path, folder, coming, is_still=is_still, is_copy=is_copy)
        self._end_switch(source, switch, back=is_copy)  # a damaged file has side files to come
        _log.warning("the files that were replaced are kept", extra=fields(folder=folder))

    def _move_aside(self, source: Source) -> None:
        put_aside, folder, finishes = self._quarantine(source)
        switch = self._begin_switch(put_aside, finishes=finishes)
        with install.errors_beside(source):
            moves.quarantine(source.path, folder)
        self._end_switch(source, switch, back=False)
        _log.warning("damaged files were moved aside", extra=fields(folder=folder))

    def _quarantine(self, source: Source) -> tuple[Replaced, Path, bool]:
        """Where what is at a place goes, and whether that finishes what an earlier run began."""
        folder = moves.quarantine_folder(source.path, self.recorder.run.id)
        earlier = self._find(self.unfinished, source.name)
        unfinished = earlier.path if earlier and earlier.kind == "quarantine" else None
        there = source.path.exists()
        finishes = unfinished is not None and not (
            there and (unfinished / source.path.name).exists()
        )
        if unfinished is not None and finishes:
            folder = unfinished  # that run ended in the middle of moving
        while there and (folder / source.path.name).exists():
            folder = folder.with_name(f"{folder.name}-again")
        return Replaced(source.name, "quarantine", folder, main=there), folder, finishes

    def _begin_switch(
        self,
        put_aside: Replaced,
        *,
        finishes: bool,
        schema_version: int | None = None,
        schema: str = "",
    ) -> Switch:
        """Note what is about to be replaced; `finishes` says that an earlier run had begun it."""
        record = self._record_with(put_aside, finishes=finishes)
        switch = Switch(record, put_aside, schema_version, schema)
        self._facts.begin_switch(switch)
        return switch

    def _end_switch(self, source: Source, switch: Switch, *, back: bool = True) -> None:
        """Look, and remember what was replaced; `back` says that what was put there is all."""
        if was_replaced(source, switch, self._busy_timeout) is False:
            raise _not_replaced(source)
        record = switch.record
        self.record = self._with_back(record, source.name) if back else record
        self._facts.end_switch(self.record)

    def _record_with(self, put_aside: Replaced, *, finishes: bool = False) -> RestoreRecord:
        """The record once that is replaced; what this run, or the one before, put aside stays."""
        first = self._find(self.record.replaced, put_aside.source)
        if first is None and finishes:
            first = self._find(self.unfinished, put_aside.source)
        if first is not None and first.path is not None and first.path.exists():
            put_aside = first
        others = (one for one in self.record.replaced if one.source != put_aside.source)
        return replace(self.record, replaced=(*others, put_aside))

    def _remember(self, record: RestoreRecord) -> None:
        self.record = record
        self._facts.set_last_restore(record)

    @staticmethod
    def _with_back(record: RestoreRecord, source: str) -> RestoreRecord:
        if not record.owed or source in record.back:
            return record
        return replace(record, back=(*record.back, source))

    @staticmethod
    def _find(found: tuple[Replaced, ...], source: str) -> Replaced | None:
        return next((one for one in found if one.source == source), None)


def _not_replaced(source: Source) -> TargetUnusable:
    return TargetUnusable(
        f"{what(source)} is not what was put in its place",
        "Try again; if it happens twice, check this host's disk, and what else uses the file.",
    )
