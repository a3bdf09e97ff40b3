"""`python -m tests.support.open_race FOLDER`: processes that open new databases at once.

Prints one line for each that was refused.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

from shared.databases.sqlite import Database
from shared.errors import DatabaseError

PROCESSES = 4
DATABASES = 150


def race(folder: Path, together: Barrier) -> None:
    """Open one database after the other, each at the same moment as the other processes."""
    for number in range(DATABASES):
        together.wait()
        try:
            Database(folder / f"{number}.db", ("CREATE TABLE t(x)",)).close()
        except DatabaseError as error:
            print(error.message, flush=True)


def main(folder: Path) -> None:
    """Race, and wait for all."""
    context = multiprocessing.get_context("fork")
    together = context.Barrier(PROCESSES)
    processes = [context.Process(target=race, args=(folder, together)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
