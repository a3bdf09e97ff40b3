"""`FakedClock`: a clock that a test sets, of processes that are started with its `command`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support.installation import REPOSITORY


class FakedClock:
    """The clock of some processes, by an offset that libfaketime reads anew each time."""

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
        self.set_by(second - self._seconds() % 60)

    def now(self) -> datetime:
        """The instant that it shows."""
        return datetime.fromtimestamp(self._seconds(), UTC)

    def _seconds(self) -> float:
        of_this_process = float(os.environ.get("FAKETIME") or 0)  # under `tests/dates.sh`
        return time.time() - of_this_process + self.offset

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
