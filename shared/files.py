"""Files and folders that only their owner can reach. Everything here raises `OSError`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1024 * 1024
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - what is put there has no name, or a random one


def make_private_directory(path: Path) -> None:
    """Create `path` and its parents, 0700 where they are new."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)


def create_private_file(path: Path) -> bool:
    """Make an empty 0600 file at `path` unless one is there; True when it was made here.

    The descriptor is closed before the name exists, so that no descriptor of a database
    file is ever closed in a process where SQLite may hold locks on it.
    """
    make_private_directory(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
    return True


def open_private(path: Path) -> BinaryIO:
    """Open the new 0600 file `path` for writing; `FileExistsError` when there is one."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def copy_private(path: Path, into: Path) -> None:
    """Copy a file into the new 0600 file `into`; `FileExistsError` when there is one."""
    with open_private(into) as target, path.open("rb") as source:
        shutil.copyfileobj(source, target, _CHUNK)


def link(path: Path, name: Path) -> bool:
    """Give a file another name, where its file system can; `FileExistsError` when it is taken."""
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:  # on another file system, or on one without such names
        return False
    return True


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable. Never call it on a database that SQLite has open."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_in_memory(room: int) -> Path | None:
    """The folder whose files are in memory, if this host has one with so many bytes of room.

    Linux has it for POSIX shared memory: https://man7.org/linux/man-pages/man7/shm_overview.7.html
    """
    try:
        free = shutil.disk_usage(_IN_MEMORY).free
    except OSError:
        return None
    return _IN_MEMORY if free >= room and os.access(_IN_MEMORY, os.W_OK | os.X_OK) else None
