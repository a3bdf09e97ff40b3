"""A process with a scheduler, for tests that set its clock.

It prints `leads`, then a line for each instant of the schedule `* * * * *` at which the scheduler
thread is woken, with the seconds of processor time that the process has used.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from unittest.mock import patch

from backups.scheduling.due_runs import DueRuns
from backups.scheduling.scheduler import BackupScheduler
from shared.clock import SystemClock
from shared.crontab import Crontab
from tests.support.bench import open_bench


def main() -> None:
    """Schedule until the input ends."""
    folder = Path(sys.argv[1])

    def woken(_: DueRuns, due: str) -> None:
        print(due, time.process_time(), flush=True)

    with (
        open_bench(folder, clock=SystemClock(), schedule=Crontab("* * * * *"), rows=3) as bench,
        patch.object(DueRuns, "wake", woken),
        patch.object(DueRuns, "step", lambda _: 1.0),
    ):
        scheduler = BackupScheduler(bench.service)
        scheduler.start()
        while bench.directory.heartbeats.read() is None:
            time.sleep(0.05)
        print("leads", flush=True)
        sys.stdin.readline()
        scheduler.stop()


if __name__ == "__main__":
    main()
