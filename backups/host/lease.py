"""The right to run, or to schedule, on this host: a file lock that is freed when its holder dies.

Whether a lease is held is asked of the lock alone, never of a process id: those are reused.
All processes meet at the file that is at the path now: a lock on one that was removed keeps nobody
out, so who holds a lease for long asks `HeldLease.keep`.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from errno import ENOSYS
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from backups.errors import DirectoryUnusable
from backups.host.machine import boot_id, is_alive, is_stopped
from shared.databases.engines.holder import Holder

# Longer than a look at whether the lease is free.
_LOOK_SECONDS = 0.2


class HeldLease:
    """A lease in this process's hands until `release`."""

    def __init__(self, lease: Lease, lock: FileLock, identity: tuple[int, int]) -> None:
        self._lease = lease
        self._lock = lock
        self._identity = identity

    def keep(self) -> bool:
        """Whether it is still held; when the lock file was removed, the new one is taken.

        False when another holder was quicker: then this one has nothing any more. Raises
        `DirectoryUnusable` when the lock file cannot be made.
        """
        if self._lease.identity() == self._identity:
            return True
        self._lock.release()  # of a file that nobody else can find
        again = self._lease.try_acquire()
        if again is None:
            return False
        self._lock, self._identity = again._lock, again._identity
        if self._lease.is_announced:
            self._lease.announce()
        return True

    def tell(self, text: str) -> None:
        """Nobody asks from another host."""

    def release(self) -> None:
        """Let another holder in; releasing twice is allowed."""
        self._lock.release()


class HeldRight(Protocol):
    """A lease that is held, on this host or among several."""

    def keep(self) -> bool:
        """Whether it is still held."""

    def tell(self, text: str) -> None:
        """Let other hosts know how the holder is."""

    def release(self) -> None:
        """Let another holder in; releasing twice is allowed."""


class Right(Protocol):
    """A lease: `Lease` of one host, or one of several hosts, which is in their database."""

    def try_acquire(self, timeout: float = ...) -> HeldRight | None:
        """The lease, or None when another holder keeps it for `timeout` seconds."""

    def is_free(self) -> bool:
        """Whether nobody holds it now."""

    def announce(self) -> None:
        """Say who holds it; needs the lease."""

    def holder(self) -> tuple[str, int] | None:
        """`(host, pid)` of who holds it, or None when it is free."""

    def announced(self) -> Holder | None:
        """Who announced it last, if that process is still there."""

    def is_kept(self) -> bool:
        """Whether somebody holds it for longer than a look takes."""


class Lease:
    """A lease that at most one holder on this host has at a time, threads included.

    `make_folder` is called before the lock file is made.
    """

    def __init__(
        self,
        path: Path,
        make_folder: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._make_folder = make_folder
        self._monotonic = monotonic
        self._holder_path = path.with_suffix(".json")
        self.is_announced = False

    def try_acquire(self, timeout: float = 0) -> HeldLease | None:
        """The lease, or None when another holder keeps it for `timeout` seconds.

        Raises `DirectoryUnusable` when the lock file cannot be made.
        """
        self._make_folder()
        try:
            while True:
                self._make_file()
                before = self.identity()
                # A new object each time: one FileLock counts how often it was acquired.
                lock = FileLock(self._path, mode=0o600, thread_local=False, fallback_to_soft=False)
                lock.acquire(timeout=timeout, poll_interval=0.02)
                if before is not None and before == self.identity():
                    return HeldLease(self, lock, before)
                lock.release()  # the file was removed meanwhile
        except Timeout:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the lock file that is there now; None when there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _make_file(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self._path, flags, 0o600))

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
            self.is_announced = True
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
        if error.errno == ENOSYS:
            return DirectoryUnusable(
                f"the disk of {self._path.parent} has no file locks (flock), so nothing can keep "
                "two runs apart",
                "Set BACKUP_DIR to a folder on a disk of this host.",
            )
        return DirectoryUnusable(
            f"the lock {self._path} cannot be made: {error.strerror}",
            "Check the owner, mode and free space of BACKUP_DIR.",
        )
