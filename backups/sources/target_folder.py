"""The folder that a person has chosen to restore into: nothing in it is overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ENOTDIR
from pathlib import Path

from backups.errors import TargetOccupied, TargetUnusable
from backups.sources.live import side_files


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
    there = next(found for found in (folder, *folder.absolute().parents) if found.exists())
    if not there.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(there))


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
