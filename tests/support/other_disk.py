"""A restore into a folder on a disk of its own: `python -m tests.support.other_disk FOLDER`.

The disk is mounted on `FOLDER/disk`. It prints a JSON document, see `main`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from backups.model import Progress
from benchmarks.measured import traffic_of
from tests.support.bench import open_bench
from tests.support.generations import rows_of


def main(folder: Path) -> None:
    """Restore to `FOLDER/disk/to`; print what lies where meanwhile and afterwards."""
    disk = folder / "disk"
    with open_bench(folder, settings={}) as bench:
        bench.write("genset", bytes_a_row=100_000)
        made = bench.made()
        bench.forget_copies()
        size = sum(stored.snapshot_bytes for stored in made.objects)
        staged: set[str] = set()
        hidden: set[str] = set()

        def look(progress: Progress) -> None:
            if progress.stage == "get" and progress.done:
                staged.update(one.name for folder in bench.staged() for one in folder.iterdir())
                hidden.update(path.name for path in disk.iterdir())

        before = traffic_of(os.getpid())
        bench.restored(to=disk / "to", progress=look)
        written = (traffic_of(os.getpid()) - before).written
        answer = {
            "staged": sorted(staged),
            "hidden while it is fetched": all(name.startswith(".restore-") for name in hidden),
            "left": sorted(path.name for path in disk.iterdir()),
            "files": sorted(path.name for path in (disk / "to").iterdir()),
            "rows": len(rows_of(disk / "to" / "tokens.db")),
            "written once": written < 1.5 * size,
        }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
