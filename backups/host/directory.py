"""`BACKUP_DIR`: this host's own files of the backups, 0700, and the files in it 0600.

instance                who this installation is
runs.db                 run log and catalogue
run.lock, scheduler.lock, follow.lock
sequence                the counter that numbers sets and increments
heartbeats              how the threads of the leader are
staging/<run id>/       what a run is working on; gone when it is over
copies/<set id>/        unsealed copies of the newest sets, for a fast restore
    pre-restore/<run id>/   what restores replaced, for undo; a week

One file, because every path below the folder is named here.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from backups.errors import DirectoryUnusable
from backups.format import naming
from backups.host.heartbeats import Heartbeats
from backups.host.lease import Lease, Right
from backups.host.removal import remove_folder
from backups.host.sequence import SequenceFile
from shared.bounded import HIGHEST_SEQUENCE
from shared.errors import AppError, DiskFull
from shared.files import make_private_directory, open_private, sync_directory, sync_file
from shared.logs import fields

_log = logging.getLogger(__name__)

_DROPPED = "dropped-"


class Counter(Protocol):
    """What numbers sets and increments: see `SequenceFile`."""

    def take(self, above: int = ...) -> int:
        """The next number, above `above`."""

    def prepare(self, above: int = ...) -> None:
        """See to it that the next numbers are above `above`."""


class BackupDirectory:
    """The folder at `path`, made when it is not there; raises `DirectoryUnusable`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._staging = path / "staging"
        self._copies = path / "copies"
        self._pre_restore = path / "pre-restore"
        self._catalogues = path / "catalogues"
        self.run_lease: Right = Lease(path / "run.lock", self.make_missing)
        self.scheduler_lease: Right = Lease(path / "scheduler.lock", self.make_missing)
        self.copy_lease = Lease(path / "copy.lock", self.make_missing)
        self.follow_lease = Lease(path / "follow.lock", self.make_missing)
        self.heartbeats = Heartbeats(path / "heartbeats")
        self._sequence: Counter = SequenceFile(path / "sequence")
        self._held: str | None = None  # the id that this process knows
        self._is_inherited = self._read_id() is not None  # and did not make itself
        self.make_missing()
        self._held = self.instance()

    def join(
        self, instance: str, run_lease: Right, scheduler_lease: Right, counter: Counter
    ) -> None:
        """Be the folder of one of several hosts, which have these in common.

        Raises `DiskFull`, `DirectoryUnusable`.
        """
        self.run_lease, self.scheduler_lease = run_lease, scheduler_lease
        self._sequence = counter
        if self.instance() != instance:
            with disk_errors(self.path):
                self._replace_id(instance)
            self._held = instance

    def make_missing(self) -> None:
        """Make the folder with all that every run needs, also when it was removed meanwhile.

        The id is the one that this process holds. Raises `DirectoryUnusable` and `DiskFull`.
        """
        file = self.path / "instance"
        with disk_errors(self.path):
            removed = not self._copies.exists()
            for folder in (self.path, self._staging, self._copies, self._catalogues):
                make_private_directory(folder)
            if self._read_id() is None and self._write_id(self._held or uuid4().hex) and self._held:
                _log.warning(
                    "%s was removed while the program ran, and was made anew with the same id%s",
                    self.path if removed else file,
                    ". Gone with it: the local copies, and what restores had replaced"
                    if removed
                    else "",
                )

    def instance(self) -> str:
        """The random id of this installation, made once; of a lost file, the one known here."""
        found = self._read_id()
        if found is None:
            self.make_missing()
            found = self._read_id() or self._held or ""
        if self._held not in (None, found) and self._is_inherited:
            # A command made the folder anew before this process did.
            _log.warning("%s had another id (%s), and has that of before", self.path, found)
            with disk_errors(self.path):
                self._replace_id(self._held or found)
            found = self._held or found
        elif self._held not in (None, found):
            _log.warning("%s has another id now: %s", self.path / "instance", found)
        self._held = found
        return found

    def _read_id(self) -> str | None:
        """The id in the file; None when there is no file, or no id in it."""
        file = self.path / "instance"
        try:
            found = file.read_bytes()[:100].decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            if self._held:
                return self._held
            raise disk_error(error, file) from error
        return found if naming.is_instance(found) else None

    def _replace_id(self, instance: str) -> None:
        self._id_beside(instance).replace(self.path / "instance")
        sync_directory(self.path)

    def _id_beside(self, instance: str) -> Path:
        """A new file with an id, on the disk."""
        beside = self.path / f".instance-{uuid4().hex}"
        with open_private(beside) as target:
            target.write(instance.encode())
            target.flush()
            os.fsync(target.fileno())
        return beside

    def _write_id(self, instance: str) -> bool:
        """Write the file, unless another process was first; whether it was written here."""
        file = self.path / "instance"
        beside = self._id_beside(instance)
        try:
            os.link(beside, file)
        except FileExistsError:
            if self._read_id() is not None:
                return False
            beside.replace(file)  # there was a file without an id in it
        finally:
            beside.unlink(missing_ok=True)
        sync_directory(self.path)
        return True

    def prepare_sequence(self, above: int) -> None:
        """Make ready to number what is next, above `above`. Raises as `make_missing`."""
        self.make_missing()
        with disk_errors(self.path):
            self._sequence.prepare(above)

    def next_sequence(self, above: int = 0) -> int:
        """The place of a new set or increment in the order of all; quick after `prepare_sequence`.

        Raises `DiskFull`, `DirectoryUnusable`.
        """
        with disk_errors(self.path):
            return min(self._sequence.take(above), HIGHEST_SEQUENCE)

    @contextmanager
    def staging(self, run_id: str) -> Iterator[Path]:
        """A fresh folder for a run's files, removed when the block ends."""
        folder = self._staging / run_id
        self.make_missing()
        with disk_errors(folder):
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove_folder(folder, ignore_errors=True)

    @property
    def staging_folder(self) -> Path:
        """Where the folders of runs are."""
        return self._staging

    @property
    def pre_restore_folder(self) -> Path:
        """Where restores keep what they replace."""
        return self._pre_restore

    def clear_staging(self) -> None:
        """Remove what dead runs left; call it only with the run lease held."""
        self.make_missing()
        with disk_errors(self._staging):
            found = list(self._staging.iterdir())
        for left in found:
            _log.info(
                "removed the temporary files of a run whose process ended",
                extra=fields(run=left.name),
            )
            remove_folder(left, ignore_errors=True)

    def pre_restore(self, run_id: str) -> Path:
        """The folder for what a restore replaces; made when it is not there."""
        folder = self._pre_restore / run_id
        with disk_errors(folder):
            make_private_directory(folder)
        return folder

    def make_durable(self, kept: Path) -> None:
        """Bring what a restore keeps to the disk: its bytes, its name, and the folders above it."""
        sync_file(kept)
        for folder in kept.parents:
            sync_directory(folder)
            if folder == self.path:
                break

    def drop_pre_restore(self, before: datetime, keep: Collection[Path]) -> None:
        """Remove what restores before a time have replaced, but for the newest, and `keep`.

        A failure is logged, never raised.
        """
        try:
            found = sorted(self._pre_restore.iterdir()) if self._pre_restore.is_dir() else []
            for old in found[:-1]:
                needed = any(path.is_relative_to(old) for path in keep)
                if not needed and old.name < naming.stamp(before):
                    shutil.rmtree(old)
                    _log.info("removed what a restore had replaced", extra=fields(run=old.name))
        except OSError as error:
            _log.warning("could not remove what restores had replaced: %s", error.strerror)

    def keep_copies(self, set_id: str, files: Iterable[Path], newest: int) -> None:
        """Move the staged `files` to the local copies of a set, and drop all but the `newest`.

        They are a convenience: a failure is logged, never raised.
        """
        try:
            if newest:
                folder = self._copies / set_id
                make_private_directory(self._copies)
                folder.mkdir(mode=0o700)
                for file in files:
                    file.replace(folder / file.name)
            for old in self.copies()[newest:]:
                self._drop_copies(old)
        except OSError as error:
            _log.warning("local copies: %s", error.strerror, extra=fields(set_id=set_id))

    def drop_copies(self, set_id: str) -> None:
        """Remove the local copies of a set, if there are any. Raises `DirectoryUnusable`."""
        if set_id in self.copies():
            with disk_errors(self._copies):
                self._drop_copies(set_id)

    def _drop_copies(self, set_id: str) -> None:
        # Out of sight first: what goes in steps must never be taken for a copy.
        gone = self._staging / f"{_DROPPED}{set_id}"
        (self._copies / set_id).rename(gone)
        remove_folder(gone)

    def copies(self) -> list[str]:
        """The ids of the sets that have local copies, newest first."""
        if not self._copies.is_dir():
            return []
        found = (entry.name for entry in self._copies.iterdir() if entry.is_dir())
        return sorted((name for name in found if naming.is_set_id(name)), reverse=True)

    def copy_of(self, set_id: str, source: str) -> Path:
        """Where the local copy of one source of a set is, if there is one."""
        return self._copies / set_id / f"{source}.db"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise `DiskFull` or `DirectoryUnusable` in place of an `OSError` below `path`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> AppError:
    """The error of our tree for an `OSError` on this host's own files."""
    what = error.filename or path
    if error.errno in (ENOSPC, EDQUOT):
        return DiskFull(
            f"the disk of {what} is full",
            "Make room on that disk, or set BACKUP_DIR to a larger one.",
        )
    return DirectoryUnusable(
        f"{what}: {error.strerror or error}",
        "Check the owner and mode of BACKUP_DIR, and the disk it is on.",
    )
