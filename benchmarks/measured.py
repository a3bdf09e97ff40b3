"""Running a command to its end, and what it took: time, and when watched, memory and bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MEBIBYTE = 1024 * 1024
_SECONDS_BETWEEN_LOOKS = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Traffic:
    """What a process and its ended children asked the kernel for, in bytes.

    `read` and `written` are of read and write calls (in Go programs these include sockets,
    in Python they do not); `to_disk` is what was written to files for the disk.
    """

    read: int
    written: int
    to_disk: int

    def __sub__(self, earlier: Traffic) -> Traffic:
        """What came between two looks at one process."""
        return Traffic(
            self.read - earlier.read,
            self.written - earlier.written,
            self.to_disk - earlier.to_disk,
        )


@dataclass(frozen=True)
class Spent:
    """What a command took; `peak_memory` is the most that its whole process tree had, in bytes.

    `processor_seconds` are those of it and of its ended children, of all processors.
    """

    seconds: float
    traffic: Traffic
    peak_memory: int
    output: str
    processor_seconds: float = 0.0


class CommandFailed(Exception):
    """A command of a contender ended with an error."""


class CommandTooLong(CommandFailed):
    """A command of a contender did not end in the time that it was given."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    patience: float = PATIENCE_SECONDS,
    *,
    own_session: bool = True,
) -> float:
    """Run a command in `folder` to its end; the seconds that it took with its start.

    Without `own_session` it competes for the processors as one of this session's processes.
    Raises `CommandFailed`, and `CommandTooLong` after `patience` seconds.
    """
    found = _run(command, environment, folder, patience, watched=False, own_session=own_session)
    return found.seconds


def run_watched(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Spent:
    """The same, with a look at its memory every 10 ms: not for comparing times."""
    return _run(command, environment, folder, PATIENCE_SECONDS, watched=True, own_session=True)


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    patience: float,
    *,
    watched: bool,
    own_session: bool,
) -> Spent:
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=own_session,
            process_group=None if own_session else 0,
        )
        impatience = threading.Timer(patience, _kill_group, (process.pid,))
        impatience.start()
        try:
            with peak_memory(process.pid) if watched else _nothing() as peak:
                # Not reaped yet: its counters can still be read.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                seconds = time.perf_counter() - began
                traffic = traffic_of(process.pid)
                processor = processor_seconds(process.pid, with_children=True)
        finally:
            impatience.cancel()
            _kill_group(process.pid)
            process.wait()
        output.seek(0)
        told = output.read().decode(errors="replace")
    if process.returncode:
        kind = CommandTooLong if seconds >= patience else CommandFailed
        raise kind(f"{command} ended with {process.returncode}:\n{told}")
    return Spent(seconds, traffic, peak[0], told, processor)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def traffic_of(pid: int) -> Traffic:
    """The counters of a process so far, with those of its ended children."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    found = dict(line.split(": ") for line in lines)
    return Traffic(int(found["rchar"]), int(found["wchar"]), int(found["write_bytes"]))


def processor_seconds(pid: int, *, with_children: bool = False) -> float:
    """What a process has used of all processors so far, with its threads.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: utime, stime, cutime, cstime.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11 : 15 if with_children else 13]) / _TICKS


@contextmanager
def peak_memory(pid: int) -> Iterator[list[int]]:
    """Look at the memory of a process and its children; the list's one item is the most."""
    peak, done = [memory_of(pid)], threading.Event()

    def look() -> None:
        while not done.wait(_SECONDS_BETWEEN_LOOKS):
            peak[0] = max(peak[0], memory_of(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def memory_of(pid: int) -> int:
    """The bytes of memory of a process and its descendants; what they share counts once (PSS)."""
    total, waiting = 0, [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            total += pss_of(process)
            for thread in (process / "task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:  # it has ended in the meantime
            continue
    return total


def pss_of(process: Path) -> int:
    """The proportional set size of a process, in bytes; raises `OSError` when it has ended.

    Without what is mapped from files: the kernel drops that when somebody else needs the memory.
    """
    lines = (process / "smaps_rollup").read_text().splitlines()
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kinds))


@contextmanager
def _nothing() -> Iterator[list[int]]:
    yield [0]
