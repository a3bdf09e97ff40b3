"""The clock of a running scheduler is set: a real process with libfaketime before its clock."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.faked_clock import FakedClock
from tests.support.installation import REPOSITORY

pytestmark = pytest.mark.slow

DAY = 86_400
# More than an adjustment; whole minutes, so that the seconds of the minute go on.
STEPS = [-3 * 3600, -365 * DAY, 20 * 365 * DAY]
PATIENCE_SECONDS = 60.0


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
