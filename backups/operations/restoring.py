"""The order of a restore, an undo and a drill, step by step.

    restore   plan -> get (local copy or store) -> unseal -> check -> install -> record
    undo      the record of the last restore -> what it replaced -> install -> record
    drill     get (store only) -> unseal -> check -> open as the application would, timed

Nothing live is touched before every file of the restore has been checked. Each database
changes in one step: a crash leaves it with the old or the new content, and running the same
command again finishes the rest.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from errno import EACCES, ENOTDIR
from pathlib import Path

from backups.decisions.restore_plan import LiveState
from backups.errors import (
    BackupError,
    DrillFailed,
    NothingToUndo,
    ProofFailed,
    RunNotFound,
    TargetOccupied,
    TargetUnusable,
)
from backups.host.state import HostState
from backups.model import (
    BackupSet,
    DrillReport,
    Progress,
    Replaced,
    RestoreRecord,
    SnapshotFile,
    Snapshots,
    Source,
    StoredObject,
)
from backups.operations.installation import Installation, source_log
from backups.operations.making import Maker, SetFacts
from backups.runs.run import Recorder
from backups.sets import proof
from backups.sources import install
from backups.sources.inspection import sha256_of
from backups.sources.snapshot import copy_one
from shared.errors import (
    AppError,
    CipherError,
    DatabaseError,
)
from shared.files import sync_directory, sync_file
from shared.logs import fields

_log = logging.getLogger("backups.run")


class Restorer:
    """Brings data back; runs inside an operation, which holds the lease."""

    def __init__(self, installation: Installation, facts: HostState, maker: Maker) -> None:
        self._installation = installation
        self._plan = installation.plan
        self._directory = installation.directory
        self._clock = installation.clock
        self._facts = facts
        self._maker = maker
        self._record: RestoreRecord
        self._unfinished: tuple[Replaced, ...] = ()

    def live_states(self) -> tuple[LiveState, ...]:
        """How the sources are now."""
        return tuple(
            install.inspect_live(source, self._plan.busy_timeout) for source in self._plan.sources
        )

    # --- restore ------------------------------------------------------------------------

    def restore_to(
        self,
        recorder: Recorder,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        folder: Path,
        staging: Path,
    ) -> str:
        """Write checked `<source>.db` files into `folder`, and overwrite nothing there."""
        recorder.stage("check")
        with _target_errors(folder):
            _refuse_unwritable(folder)
            for stored in objects:
                self._refuse_occupied(folder / f"{stored.source}.db")
        files = self._fetch(recorder, backup_set, objects, staging, copies=True)
        recorder.stage("install")
        for stored in objects:
            path = folder / f"{stored.source}.db"
            try:
                with _target_errors(folder):
                    install.install_new(files[stored.source], path)
            except FileExistsError:
                raise _occupied(path) from None
            source_log(stored.source).info("restored", extra=fields(path=path))
        return backup_set.id

    def restore_in_place(
        self,
        recorder: Recorder,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        staging: Path,
    ) -> str:
        """Replace the live data of the sources in `objects`; what it replaces is kept."""
        recorder.stage("check")
        sources = [self._source(stored.source) for stored in objects]
        for source in sources:
            install.refuse_foreign_owner(source.path)
        files = self._fetch(recorder, backup_set, objects, staging, copies=True)
        self._refuse_unreadable(files)
        recorder.stage("install")
        kept = self._install_all(recorder, backup_set.id, sources, files)
        for source in sources:
            self._facts.forget_started_empty(source.name)
        if backup_set.instance and backup_set.instance != self._directory.instance():
            self._facts.succeed(backup_set.instance)
        recorder.stage("keep")
        self._store_kept(recorder, kept, staging)
        return backup_set.id

    def undo(self, recorder: Recorder, staging: Path) -> str:
        """Put back what the last restore in place replaced; it can itself be undone."""
        recorder.stage("check")
        record = self.undoable()
        sources = [self._source(one.source) for one in record.to_put_back]
        for source in sources:
            install.refuse_foreign_owner(source.path)
        files: dict[str, Path] = {}
        for one in record.to_put_back:
            if one.kind == "copy" and one.path is not None:
                files[one.source] = staging / f"{one.source}.db"
                shutil.copyfile(one.path, files[one.source])
                files[one.source].chmod(0o600)
        recorder.stage("install")
        copied = [source for source in sources if source.name in files]
        moved = [one for one in record.to_put_back if one.kind == "quarantine" and one.path]
        kept = self._install_all(recorder, record.set_id, copied, files, owed=record.to_put_back)
        for one in moved:
            self._put_quarantine_back(recorder, self._source(one.source), one)
        recorder.stage("keep")
        self._store_kept(recorder, kept, staging)
        self._facts.set_last_restore(replace(self._record, owed=()))
        return record.set_id

    def undoable(self) -> RestoreRecord:
        """The record of the last restore in place; raises `NothingToUndo`."""
        record = self._facts.last_restore()
        if record is None or not any(one.kind != "nothing" for one in record.to_put_back):
            raise NothingToUndo(
                "no restore in place on this host has replaced anything",
                "Restore a set by its id instead: python -m backups list",
            )
        for one in record.to_put_back:
            if one.path is not None and not one.path.exists():
                raise NothingToUndo(
                    f"what the last restore replaced of {one.source} is gone: {one.path}",
                    "Restore a set by its id instead: python -m backups list",
                )
        return record

    # --- drill --------------------------------------------------------------------------

    def drill(
        self,
        recorder: Recorder,
        backup_set: BackupSet,
        staging: Path,
        identity_file: Path | None,
    ) -> DrillReport:
        """Rehearse a restore of a set from the store; the report is remembered either way.

        Raises what stopped it, after recording that.
        """
        began = time.perf_counter()
        rows = unreadable = 0
        failure: AppError | None = None
        try:
            files = self._fetch(
                recorder,
                backup_set,
                backup_set.objects,
                staging,
                copies=False,
                identity_file=identity_file,
            )
            recorder.stage("open")
            for stored in backup_set.objects:
                opened = staging / f"drill-{stored.source}.db"
                install.install_new(files[stored.source], opened)
                check = self._plan.content_check(stored.source)
                report = check(opened) if check else None
                rows += report.rows if report else sum(stored.rows.values())
                unreadable += report.unreadable if report else 0
            if unreadable:
                failure = DrillFailed(
                    f"{unreadable} of {rows} rows of set {backup_set.id} cannot be used with "
                    "today's keys",
                    "Add the key that encrypted them to TOKEN_ENCRYPTION_KEYS, behind the first.",
                )
        except AppError as error:
            failure = error
        report_of_all = DrillReport(
            set_id=backup_set.id,
            at=self._clock.now(),
            seconds=time.perf_counter() - began,
            rows=rows,
            unreadable=unreadable,
            failure=failure.message if failure else None,
        )
        self._facts.set_last_drill(report_of_all)
        if failure is not None:
            raise failure
        self._maker.note_drill(report_of_all)
        return report_of_all

    # --- getting ------------------------------------------------------------------------

    def _fetch(
        self,
        recorder: Recorder,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        staging: Path,
        *,
        copies: bool,
        identity_file: Path | None = None,
    ) -> dict[str, Path]:
        """Checked, self-contained database files for `objects`, in the staging folder."""
        recorder.stage("get")
        tools = proof.ProofTools(
            self._installation.store,
            staging,
            identity_file or self._plan.identity_file,
            recorder.progress,
            stage="get",
        )
        files = {}
        for stored in objects:
            target = staging / f"{stored.source}.db"
            if not (copies and self._from_copy(backup_set, stored, target)):
                self._from_store(tools, stored, target)
            install.leave_wal_mode(target)
            files[stored.source] = target
        return files

    def _from_copy(self, backup_set: BackupSet, stored: StoredObject, target: Path) -> bool:
        """Use the local copy if there is one and it is what the manifest describes."""
        copy = self._directory.copy_of(backup_set.id, stored.source)
        if not stored.described or not copy.is_file():
            return False
        shutil.copyfile(copy, target)
        target.chmod(0o600)
        try:
            if sha256_of(target) == stored.snapshot_sha256:
                proof.check_database(target, stored)
                source_log(stored.source).info("local copy", extra=fields(set_id=backup_set.id))
                return True
        except ProofFailed as error:
            _log.warning("local copy: %s", error.message)
        target.unlink()
        return False

    def _from_store(self, tools: proof.ProofTools, stored: StoredObject, target: Path) -> None:
        sealed = target.with_suffix(".sealed")
        try:
            proof.fetch(tools, stored, sealed)
            proof.open_fetched(tools, stored, sealed, target)
        finally:
            sealed.unlink(missing_ok=True)

    def _refuse_unreadable(self, files: dict[str, Path]) -> None:
        """Data that no key of today opens must not replace data that one may open.

        A sample tells: the drill is what opens every value, and a bad day has no time for it.
        """
        for name, path in files.items():
            check = dict(self._plan.readability_checks).get(name)
            report = check(path) if check else None
            if report is None or not report.unreadable:
                continue
            if report.unreadable == report.rows:
                raise CipherError(
                    f"none of {report.rows} sampled values of {name} opens with today's keys. "
                    "Nothing was touched",
                    "Put the key that encrypted them into TOKEN_ENCRYPTION_KEYS, behind the "
                    "first, then restore again. Without keys: restore --to DIR.",
                )
            source_log(name).warning(
                "%d of %d sampled values open with none of today's keys",
                report.unreadable,
                report.rows,
            )

    # --- installing ---------------------------------------------------------------------

    def _install_all(
        self,
        recorder: Recorder,
        set_id: str,
        sources: Sequence[Source],
        files: dict[str, Path],
        *,
        owed: tuple[Replaced, ...] = (),
    ) -> list[SnapshotFile]:
        self._start_record(recorder, set_id, owed)
        kept = []
        for source in sources:
            file = self._install(recorder, source, files[source.name])
            if file is not None:
                kept.append(file)
            source_log(source.name).info("restored", extra=fields(path=source.path, set_id=set_id))
        return kept

    def _install(self, recorder: Recorder, source: Source, staged: Path) -> SnapshotFile | None:
        """Install one source in whichever state it is; the safety copy if it is a sound one."""
        state = install.inspect_live(source, self._plan.busy_timeout).state
        if state == "healthy":
            return self._replace(recorder, source, staged, checked=True)
        # An app that has an emptied file open keeps it locked against its replacement in place.
        if state == "corrupt" and source.path.stat().st_size:
            try:
                self._replace(recorder, source, staged, checked=False)
            except DatabaseError as error:
                _log.warning("%s; moving it aside", error.message)
            else:
                return None
        self._move_aside(recorder, source, missing=state == "missing")
        try:
            install.install_new(staged, source.path)
        except FileExistsError:
            # Someone began a new database there in the meantime: replace its content.
            return self._install(recorder, source, staged)
        return None

    def _replace(
        self, recorder: Recorder, source: Source, staged: Path, *, checked: bool
    ) -> SnapshotFile | None:
        folder = self._directory.pre_restore(recorder.run.id)
        kept: list[SnapshotFile] = []

        def keep_old() -> None:
            (folder / f"{source.name}.db").unlink(missing_ok=True)
            file = copy_one(
                source,
                folder,
                recorder.progress,
                busy_timeout=self._plan.busy_timeout,
                checked=checked,
            )
            _make_durable(file.path)  # before the first live page changes
            kept.append(file)
            self._add_to_record(Replaced(source.name, "copy", file.path))

        def tick(done: int, total: int) -> None:
            recorder.progress(Progress("install", source.name, done, total))

        install.replace_content(staged, source, self._plan.busy_timeout, keep_old, tick)
        return kept[0] if checked else None

    def _move_aside(self, recorder: Recorder, source: Source, *, missing: bool) -> None:
        if missing:
            self._add_to_record(Replaced(source.name, "nothing", None))
            return
        folder = install.quarantine_folder(source.path, recorder.run.id)
        earlier = self._earlier(source.name)
        unfinished = earlier.path if earlier and earlier.kind == "quarantine" else None
        there = source.path.exists()
        if unfinished and not (there and (unfinished / source.path.name).exists()):
            folder = unfinished  # that run ended in the middle of moving
        self._add_to_record(Replaced(source.name, "quarantine", folder, main=there))
        install.quarantine(source.path, folder)
        _log.warning("damaged files were moved aside", extra=fields(folder=folder))

    def _put_quarantine_back(self, recorder: Recorder, source: Source, one: Replaced) -> None:
        assert one.path is not None  # noqa: S101 - asked for by the caller
        earlier = self._earlier(source.name)
        if earlier is None and one.main and not (one.path / source.path.name).exists():
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
            self._move_aside(recorder, source, missing=not install.is_taken(source.path))
        install.bring_back(one.path, source.path, begun=begun)

    # --- what was replaced --------------------------------------------------------------

    def _start_record(self, recorder: Recorder, set_id: str, owed: tuple[Replaced, ...]) -> None:
        self._record = RestoreRecord(recorder.run.id, set_id, self._clock.now(), (), owed)
        self._unfinished = ()
        last = self._facts.last_restore()
        if last is None or last.set_id != set_id:
            return
        if last.owed:  # an undo that did not end: this run finishes it, or the restore before it
            self._unfinished = last.replaced if owed else last.owed
        elif not owed:
            with suppress(RunNotFound):
                if self._installation.runlog.get(last.run_id).status != "succeeded":
                    # This run finishes that one: undo must bring back what was there before it.
                    self._unfinished = last.replaced

    def _earlier(self, source: str) -> Replaced | None:
        """What the run that this one finishes had put aside of a source."""
        return next((one for one in self._unfinished if one.source == source), None)

    def _add_to_record(self, replaced: Replaced) -> None:
        """Remember before the switch, so that a crash right after it can still be undone."""
        others = tuple(one for one in self._record.replaced if one.source != replaced.source)
        earlier = self._earlier(replaced.source)
        if earlier and (earlier.path is None or earlier.path.exists()):
            replaced = earlier
        self._record = replace(self._record, replaced=(*others, replaced))
        self._facts.set_last_restore(self._record)

    def _store_kept(self, recorder: Recorder, kept: list[SnapshotFile], staging: Path) -> None:
        """Store the safety copies as a set too; they stay on this host whatever happens."""
        if not kept:
            return
        linked = []
        for file in kept:
            path = staging / f"kept-{file.source}.db"
            with suppress(FileExistsError):
                os.link(file.path, path)
            linked.append(replace(file, path=path))
        instant = self._maker.free_instant()
        try:
            made = self._maker.store_set(
                recorder,
                Snapshots(instant, tuple(linked), 0.0),
                staging,
                SetFacts("pre-restore", "pre-restore", complete=False, suspect=None),
            )
        except AppError as error:
            _log.warning("what was replaced stays on this host only: %s", error.message)
        else:
            _log.info("what was replaced is stored", extra=fields(set_id=made.id))

    def _source(self, name: str) -> Source:
        found = next((one for one in self._plan.sources if one.name == name), None)
        if found is None:
            raise BackupError(
                f"the source {name} is not one of this installation",
                "Name it in BACKUP_EXTRA_SOURCES, or use --only or --to DIR.",
            )
        return found

    def _refuse_occupied(self, path: Path) -> None:
        for file in (path, *(path.with_name(path.name + end) for end in install.SIDE_FILES)):
            if file.exists():
                raise _occupied(file)


def _make_durable(path: Path) -> None:
    """Bring a safety copy to the disk: its bytes, its name, and the folders made for it."""
    sync_file(path)
    for folder in path.parents[:3]:  # BACKUP_DIR/pre-restore/<run>
        sync_directory(folder)


@contextmanager
def _target_errors(folder: Path) -> Iterator[None]:
    """Raise `TargetUnusable` for an `OSError` on the folder that a person has chosen."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise TargetUnusable(
            f"{error.filename or folder} cannot be written: {error.strerror or error}",
            "Choose a folder for --to that this user may write, on a disk with room.",
        ) from error


def _refuse_unwritable(folder: Path) -> None:
    """Before anything is fetched; a folder that is not there is made later."""
    there = next(found for found in (folder, *folder.absolute().parents) if found.exists())
    if not there.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(there))


def _occupied(path: Path) -> TargetOccupied:
    return TargetOccupied(
        f"{path} exists already, and is not overwritten", "Choose an empty or new directory."
    )
