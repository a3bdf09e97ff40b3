"""The right to run, or to schedule, on this host: a file lock that is freed when its holder dies.

Whether a lease is held is asked of the lock alone, never of a process id: those are reused.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from backups.errors import DirectoryUnusable
from backups.host.processes import boot_id, is_alive, is_stopped

# Longer than a look at whether the lease is free.
_LOOK_SECONDS = 0.2


class HeldLease:
    """A lease in this process's hands until `release`."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def release(self) -> None:
        """Let another holder in; releasing twice is allowed."""
        self._lock.release()


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and for how long; `stopped` by a signal, if it is on this host."""

    host: str
    pid: int
    held_for: timedelta
    stopped: bool


class Lease:
    """A lease that at most one holder on this host has at a time, threads included."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._holder_path = path.with_suffix(".json")

    def try_acquire(self, timeout: float = 0) -> HeldLease | None:
        """The lease, or None when another holder keeps it for `timeout` seconds.

        Raises `DirectoryUnusable` when the lock file cannot be made.
        """
        # A new object each time: one FileLock counts how often it was acquired.
        lock = FileLock(self._path, mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=timeout, poll_interval=0.02)
        except Timeout:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        return HeldLease(lock)

    def is_free(self) -> bool:
        """Whether nobody holds it now."""
        held = self.try_acquire()
        if held is None:
            return False
        held.release()
        return True

    def announce(self) -> None:
        """Leave this process's host and pid beside the lock, for people; needs the lease.

        Raises `DirectoryUnusable` when that cannot be written.
        """
        beside = self._holder_path.with_suffix(".new")
        announced = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot": boot_id(),
            "since": self._monotonic(),
        }
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(announced, file)
            beside.replace(self._holder_path)
        except OSError as error:
            raise self._unusable(error) from error

    def holder(self) -> tuple[str, int] | None:
        """`(host, pid)` of who holds it and has announced it, or None when it is free."""
        if self.is_free():
            return None
        try:
            found = json.loads(self._holder_path.read_text())
            return str(found["host"]), int(found["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def announced(self) -> Holder | None:
        """Who announced it last, in this start of this host, if that process is still there.

        It may have released it meanwhile: `is_kept` tells.
        """
        try:
            found = json.loads(self._holder_path.read_text())
            host, pid, boot = str(found["host"]), int(found["pid"]), str(found["boot"])
            held_for = timedelta(seconds=self._monotonic() - float(found["since"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        here = host == socket.gethostname()
        if boot != boot_id() or (here and not is_alive(pid)):
            return None
        return Holder(host, pid, held_for, stopped=here and is_stopped(pid))

    def is_kept(self) -> bool:
        """Whether somebody holds it for longer than a look at whether it is free takes."""
        held = self.try_acquire(_LOOK_SECONDS)
        if held is None:
            return True
        held.release()
        return False

    def _unusable(self, error: OSError) -> DirectoryUnusable:
        return DirectoryUnusable(
            f"the lock {self._path} cannot be made: {error.strerror}",
            "Check the owner, mode and free space of BACKUP_DIR.",
        )
