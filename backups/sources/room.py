"""How much room a run needs on the disk of `BACKUP_DIR`: one formula, for run and doctor."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from backups.model import Source
from shared.errors import DiskFull


def needed_for_backup(sources: Sequence[Source]) -> int:
    """Bytes for a backup: the copies and, later, what is read back of them."""
    return 2 * _bytes_of(sources)


def needed_for_restore(sources: Sequence[Source]) -> int:
    """Bytes for a restore: what is fetched, what is unsealed of it, and the safety copies."""
    return 3 * _bytes_of(sources)


def free_bytes(folder: Path) -> int:
    """What this user may still write to the disk of a folder. Raises `OSError`."""
    return shutil.disk_usage(folder).free


def refuse_small_disk(sources: Sequence[Source], staging: Path) -> None:
    """Raise `DiskFull` when a backup of `sources` does not fit on the disk of `staging`."""
    needed, free = needed_for_backup(sources), free_bytes(staging)
    if free < needed:
        raise DiskFull(
            f"the staging directory {staging} has {free:,} bytes free; this run needs {needed:,}",
            "Make room on that disk, or set BACKUP_DIR to a larger one.",
        )


def _bytes_of(sources: Sequence[Source]) -> int:
    """Each main file and its `-wal`, which may hold pages that the copy has in full."""
    total = 0
    for source in sources:
        with suppress(OSError):  # not there: whoever reads the source names it
            real = source.path.resolve()  # SQLite's own files lie beside the file, not a link
            total += real.stat().st_size
            total += real.with_name(f"{real.name}-wal").stat().st_size
    return total
