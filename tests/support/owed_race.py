"""`python -m tests.support.owed_race`: many threads that ask for an owed backup at once.

It says that it is ready, waits for a line on standard input, lets its threads go, and prints
one line of JSON: how many runs they made.
"""

from __future__ import annotations

import json
import sys
import threading

from backups.errors import LeaseHeld
from backups.model import Run, Trigger
from backups.wiring import open_service
from shared.settings.load import load_settings, read_environment

THREADS = 8


def main() -> None:
    """Race; odd threads are the catch-up, even ones the schedule."""
    barrier = threading.Barrier(THREADS)
    runs: list[Run] = []

    with open_service(load_settings(read_environment())) as service:

        def ask(trigger: Trigger) -> None:
            barrier.wait()
            try:
                run = service.backup.run_if_owed(trigger)
            except LeaseHeld:
                return
            if run is not None:
                runs.append(run)

        threads = [
            threading.Thread(target=ask, args=("catch-up" if number % 2 else "scheduled",))
            for number in range(THREADS)
        ]
        print("ready", flush=True)
        sys.stdin.readline()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps([run.status for run in runs]), flush=True)


if __name__ == "__main__":
    main()
