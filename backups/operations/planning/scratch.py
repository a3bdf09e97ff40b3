"""A folder for temporary files that no killed process leaves behind for long.

Who works in one holds a lock in it, which the kernel frees; the next one removes what nobody holds.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backups.errors import DirectoryUnusable
from backups.host.lease import Lease
from backups.host.removal import remove_folder

PREFIX = "bot-restore-from-"
_LOCK = "lock"
_log = logging.getLogger(__name__)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new private folder below TMPDIR, removed at the end; raises `DirectoryUnusable`."""
    try:
        new = Path(tempfile.mkdtemp(prefix="bot-restore-new-"))
    except OSError as error:
        raise DirectoryUnusable(
            f"there is no folder for temporary files: {error.strerror or error}",
            "Set TMPDIR to a folder that this user can write to.",
        ) from error
    _remove_leftovers(new.parent)
    held = Lease(new / _LOCK).try_acquire()
    # Under the name by which others find it only once it is locked.
    folder = new.rename(new.with_name(PREFIX + new.name.rpartition("-")[2]))
    try:
        yield folder
    finally:
        remove_folder(folder, ignore_errors=True)
        if held is not None:
            held.release()


def _remove_leftovers(parent: Path) -> None:
    """Remove the folders of processes that died; nothing of another user, and nothing in use."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(DirectoryUnusable, OSError):  # what cannot be removed is in nobody's way
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            held = Lease(folder / _LOCK).try_acquire()
            if held is None:
                continue
            try:
                remove_folder(folder)
                _log.info("removed %s, which a restore from files had left", folder)
            finally:
                held.release()
