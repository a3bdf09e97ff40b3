"""Which machine this is, and what its kernel tells of it and its processes.

Where there is no `/proc`, that is nothing.
"""

from __future__ import annotations

import socket
from pathlib import Path

from backups.format.instance import machine_hash

MACHINE_ID = Path("/etc/machine-id")
_PROC = Path("/proc")
# proc_pid_stat(5): stopped by a signal, or by a debugger.
_STOPPED = ("T", "t")


def this_machine() -> str | None:
    """What stands for this machine in the store; None where it has no id of its own."""
    try:
        return machine_hash(MACHINE_ID.read_bytes()[:100].decode("utf-8", "replace"))
    except OSError:
        return None


def this_host() -> str:
    """The name of this host, as far as it can be printed."""
    return "".join(one for one in socket.gethostname() if one.isprintable())[:255]


def boot_id() -> str:
    """Which start of which host this is; empty where the kernel does not say.

    Containers of one host have it in common, as they have the monotonic clock.
    """
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process with this id is there."""
    return _state(pid) not in (None, "Z", "X")


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP, Ctrl-Z, a debugger) and does nothing."""
    return _state(pid) in _STOPPED


def _state(pid: int) -> str | None:
    try:
        # The name in the parentheses may hold anything, parentheses too.
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
