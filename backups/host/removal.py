"""Removing large files in small steps, so that nobody's commit waits for it.

A file system frees all blocks of a file in one transaction of its journal, for which every
`fsync` on that disk waits: ext4 held commits up for 17 ms and more while it freed 100 MB at once,
and for 1 to 3 ms while it freed them in steps of 4 MiB (see docs/performance.md).
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

STEP_BYTES = 4 * 1024 * 1024
_PAUSE_SECONDS = 0.001


def remove_file(path: Path) -> None:
    """Remove a file that nobody reads, if it is there; a second name of it keeps its bytes.

    Raises `OSError`.
    """
    _shorten(path)
    path.unlink(missing_ok=True)


def remove_folder(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, none of which anybody reads. Raises `OSError`."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _shorten(Path(parent, name))
    shutil.rmtree(folder, ignore_errors=ignore_errors)


def _shorten(path: Path) -> None:
    """Down to one step, never to nothing: a file that is cut to 0 bytes and closed is synced.

    What cannot be cut is removed as it is.
    """
    with suppress(OSError):
        found = path.lstat()
        size = found.st_size if S_ISREG(found.st_mode) and found.st_nlink == 1 else 0
        while size > STEP_BYTES:
            size -= STEP_BYTES
            os.truncate(path, size)
            time.sleep(_PAUSE_SECONDS)
