"""What the kernel tells of this host and its processes; nothing where it has no `/proc`."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")
# proc_pid_stat(5): stopped by a signal, or by a debugger.
_STOPPED = ("T", "t")


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
