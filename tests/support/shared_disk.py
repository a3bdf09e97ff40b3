"""Commands on one small disk with the live databases, filled in the midst of each.

`python -m tests.support.shared_disk FOLDER`: each command's name and the code with which it ended.
The bot commits a row at each report of progress, however little room there is.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from backups.model import Progress, ProgressSink, Run
from backups.sources.room import RESERVE_BYTES
from tests.support.bench import Bench, open_bench
from tests.support.databases import make_sources

_STEP = 1024 * 1024
_ROW = 300_000


def _run(bench: Bench, progress: ProgressSink) -> Run:
    return bench.service.backup.begin(progress=progress).execute()


def _restore(bench: Bench, progress: ProgressSink) -> Run:
    plan = bench.service.restore.plan("latest")
    return bench.service.restore.begin(plan, progress=progress).execute()


def _drill(bench: Bench, progress: ProgressSink) -> Run:
    return bench.service.drill.begin(progress=progress).execute()


def main(folder: Path) -> None:
    """Make a set, then run each command while somebody else fills the disk."""
    sources = make_sources(folder / "data", 400, padding=5_000)
    filler = folder / "filler"
    with open_bench(folder, sources=sources, local_copies=0) as bench:
        bench.made()
        commands: tuple[tuple[str, Callable[[Bench, ProgressSink], Run]], ...] = (
            ("run", _run),
            ("restore", _restore),
            ("drill", _drill),
        )
        for name, command in commands:
            with closing(sqlite3.connect(bench.tokens, isolation_level=None)) as bot:
                bot.execute("CREATE TABLE IF NOT EXISTS more(body BLOB)")

                def fill_and_commit(
                    progress: Progress,
                    bot: sqlite3.Connection = bot,
                    restores: bool = name == "restore",
                ) -> None:
                    if not progress.source:
                        return
                    _fill(folder, filler)
                    if not (restores and progress.stage == "install"):  # it has the write lock
                        bot.execute("INSERT INTO more VALUES (zeroblob(?))", (_ROW,))

                run = command(bench, fill_and_commit)
                filler.unlink()
            print(name, run.error.code if run.error else run.status)


def _fill(folder: Path, filler: Path) -> None:
    """Take what is free down to just below the reserve, once."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if filler.exists():
        return
    with filler.open("wb") as file:
        for _ in range((free - RESERVE_BYTES) // _STEP + 1):
            file.write(bytes(_STEP))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
