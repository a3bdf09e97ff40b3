"""The clock of a running scheduler is set: a real process with libfaketime before its clock."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.installation import REPOSITORY

pytestmark = pytest.mark.slow

DAY = 86_400
# More than an adjustment; whole minutes, so that the seconds of the minute go on.
STEPS = [-3 * 3600, -365 * DAY, 20 * 365 * DAY]
PATIENCE_SECONDS = 60.0


class FakedClock:
    """The clock of a process, by an offset that libfaketime reads anew each time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.offset = 0.0
        self.set_by(0)

    def set_by(self, seconds: float) -> None:
        """Set it, forward or back."""
        self.offset += seconds
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{self.offset:+.3f}\n")
        beside.replace(self._file)

    def to_second(self, second: float) -> None:
        """Set it to a second of its minute."""
        of_this_process = float(os.environ.get("FAKETIME") or 0)  # under `tests/dates.sh`
        self.set_by(second - (time.time() - of_this_process + self.offset) % 60)

    @property
    def command(self) -> list[str]:
        """What a command line begins with."""
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        return [
            "env",
            "-u",
            "FAKETIME",  # of `tests/dates.sh`, which would win over the file
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "NO_FAKE_STAT=1",
            "DONT_FAKE_MONOTONIC=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            f"PYTHONPATH={REPOSITORY / 'tests' / 'faked_clock'}:{REPOSITORY}",
        ]


class Scheduling:
    """The lines that the process prints, and its log."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        assert process.stdout is not None
        self._output = process.stdout
        self._log = log
        self._lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        for line in self._output:
            self._lines.put(line)

    def said(self, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """The words of the next line; raises `queue.Empty` when none comes."""
        try:
            return self._lines.get(timeout=seconds).split()
        except queue.Empty:
            raise AssertionError(f"it said nothing more, but logged: {self.log()}") from None

    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()


@contextmanager
def scheduling(clock: FakedClock, folder: Path) -> Iterator[Scheduling]:
    """A process that leads, at the beginning of a minute."""
    clock.to_second(5)
    log = folder / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [
                *clock.command,
                sys.executable,
                "-m",
                "tests.support.stepped_scheduler",
                str(folder),
            ],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        started = Scheduling(process, log)
        try:
            assert started.said()[0] == "leads"
            yield started
        finally:
            process.kill()
            started.reader.join()


def test_the_next_instant_comes_after_any_step(tmp_path: Path) -> None:
    """Set by hours or years, back or forward: the next minute is served, at no cost.

    A process for each step, side by side, for what they do most is to wait for the minute.
    """
    clocks = {}
    with ExitStack() as stack:
        processes = {}
        for step in STEPS:
            folder = tmp_path / str(step)
            folder.mkdir()
            clocks[step] = FakedClock(folder / "offset")
            processes[step] = stack.enter_context(scheduling(clocks[step], folder))
        for clock in clocks.values():
            clock.to_second(58)
        # The schedule is due at each full minute.
        before = {step: float(process.said()[1]) for step, process in processes.items()}

        for step, clock in clocks.items():
            clock.set_by(step)
            clock.to_second(53)
        for step, process in processes.items():
            found, after = process.said(25)
            assert found == "backup", step
            assert float(after) - before[step] < 1.5, step
            assert "the clock was set by" in process.log(), step
