"""Running a command to its end, and what it took: time, and when watched, memory and bytes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MEBIBYTE = 1024 * 1024
_SECONDS_BETWEEN_LOOKS = 0.01


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
    """What a command took; `peak_memory` is the most that its whole process tree had, in bytes."""

    seconds: float
    traffic: Traffic
    peak_memory: int
    output: str


class CommandFailed(Exception):
    """A command of a contender ended with an error."""


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> float:
    """Run a command in `folder` to its end; the seconds that it took with its start."""
    return _run(command, environment, folder, watched=False).seconds


def run_watched(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Spent:
    """The same, with a look at its memory every 10 ms: not for comparing times."""
    return _run(command, environment, folder, watched=True)


def _run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, *, watched: bool
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
        )
        try:
            with peak_memory(process.pid) if watched else _nothing() as peak:
                # Not reaped yet: its counters can still be read.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                seconds = time.perf_counter() - began
                traffic = traffic_of(process.pid)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        told = output.read().decode(errors="replace")
    if process.returncode:
        raise CommandFailed(f"{command[0]} ended with {process.returncode}:\n{told}")
    return Spent(seconds, traffic, peak[0], told)


def traffic_of(pid: int) -> Traffic:
    """The counters of a process so far, with those of its ended children."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    found = dict(line.split(": ") for line in lines)
    return Traffic(int(found["rchar"]), int(found["wchar"]), int(found["write_bytes"]))


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
    """The resident bytes of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


@contextmanager
def _nothing() -> Iterator[list[int]]:
    yield [0]
