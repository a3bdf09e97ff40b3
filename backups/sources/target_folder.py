"""The folder that a person has chosen to restore into: nothing in it is overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ENOTDIR
from pathlib import Path
from tempfile import mkdtemp

from backups.errors import TargetOccupied, TargetUnusable
from backups.host.removal import remove_folder
from backups.sources.live import side_files
from shared.files import create_private_file, link

_HIDDEN = ".restore-"


@contextmanager
def target_errors(folder: Path) -> Iterator[None]:
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


def refuse_unwritable(folder: Path) -> None:
    """Before anything is fetched; a folder that is not there is made later."""
    there = _nearest(folder)
    if not there.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(there))


@contextmanager
def beside(folder: Path, staging: Path) -> Iterator[Path]:
    """Where to make files that get a name in `folder` without being copied: `staging`, or a hidden
    folder there, for as long as the block lasts, where that is another file system."""
    probe = staging / "probe"
    create_private_file(probe)
    with target_errors(folder):
        there = _nearest(folder)
        named = there / f"{_HIDDEN}{staging.name}"
        is_one = link(probe, named)  # asked so: the same disk may be mounted twice
        named.unlink(missing_ok=True)
        place = staging if is_one else Path(mkdtemp(prefix=_HIDDEN, dir=there))
    probe.unlink()
    try:
        yield place
    finally:
        if place is not staging:
            remove_folder(place, ignore_errors=True)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    return next(found for found in (folder, *folder.absolute().parents) if found.exists())


def refuse_occupied(path: Path) -> None:
    """Raise `TargetOccupied` for a database, or what belongs to one, at a path."""
    for file in (path, *side_files(path)):
        if file.exists():
            raise occupied(file)


def occupied(path: Path) -> TargetOccupied:
    """The error for a file that is in the way."""
    return TargetOccupied(
        f"{path} exists already, and was not overwritten", "Choose an empty or new directory."
    )
