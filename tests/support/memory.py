"""Where the folders of tests are: in memory, for what they wait for is mostly `fsync`.

A disk would show nothing more: a test can kill a process, and not the power of its host.
`TMPDIR=/tmp make test` runs on the disk all the same.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4_000_000_000  # a run leaves at most a third of it at a time


def folder_in_memory(folder: Path = _IN_MEMORY) -> Path | None:
    """`folder` if it has room and runs programs (tests install some); None if not."""
    try:
        runs_programs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    return folder if runs_programs and free >= _ROOM_BYTES else None
