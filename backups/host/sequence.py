"""The counter that numbers sets and increments: their one order, whatever the clocks say.

`BACKUP_DIR/sequence` has three words: the number given last, the number up to which they may be
given, and the start of this host. It is changed under `flock`, so that two processes are in order.
Only the ceiling is made durable: after a crash of the host the next number is above it, so a
number is given once, and some never.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from backups.host.machine import boot_id

_AHEAD = 1000
_WIDTH = 96


class SequenceFile:
    """The counter in the file at `path`. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, above: int = 0) -> int:
        """The next number, above `above`, which the caller knows to be taken already.

        It takes microseconds, but for each thousandth number: inside the gates, after `prepare`.
        """
        return self._move(above, take=True)

    def prepare(self, above: int = 0) -> None:
        """See to it that the next numbers are above `above`, and need not wait for the disk."""
        self._move(above, take=False)

    def _move(self, above: int, *, take: bool) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until the descriptor is closed
            last, ceiling, boot = _parse(os.pread(descriptor, _WIDTH, 0))
            here = boot_id() or "-"
            if boot != here:  # what was given after the ceiling became durable may be forgotten
                last = ceiling
            last = max(last, above) + (1 if take else 0)
            room = ceiling - last
            is_durable = boot == here and room >= (0 if take else _AHEAD // 2)
            if not is_durable:
                ceiling = last + _AHEAD
            os.pwrite(descriptor, f"{last} {ceiling} {here}".ljust(_WIDTH - 1).encode() + b"\n", 0)
            if not is_durable:
                os.fsync(descriptor)
            return last
        finally:
            os.close(descriptor)


def _parse(stored: bytes) -> tuple[int, int, str]:
    """The three words; what cannot be read is a counter that has given nothing."""
    try:
        last, ceiling, boot = stored.decode("ascii").split()
        return int(last), max(int(last), int(ceiling)), boot
    except ValueError:
        return 0, 0, ""
