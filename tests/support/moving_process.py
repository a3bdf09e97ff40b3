"""A restore or an undo of a file in a process of its own, which dies at a step of its moving.

Its arguments are the act, the path of the database, and the number of the step on the file system
before which it dies. Another process opens the database, commits a row and dies, when the files
have a second name and another is not in their place; it is kept out where they are held still.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from backups.model import Source
from backups.sources import install
from backups.sources.quarantine import exchange as exchanging
from backups.sources.quarantine import moves
from backups.sources.quarantine.exchange import exchange, forget_exchange, hold_still
from shared.files import sync_directory

_STEPS = ("os.mkdir", "os.link", "os.rename", "os.remove")

# Opens a database, commits a row, and dies as a killed process does: its `-wal` stays.
_WRITER = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=float(sys.argv[2]))
writer.execute("PRAGMA journal_mode=WAL")
writer.execute("CREATE TABLE IF NOT EXISTS foreign_rows(name)")
writer.execute("INSERT INTO foreign_rows VALUES ('of the window')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def write_in_a_process(path: Path, *, refused: bool = False) -> None:
    """Let another process commit a row, and die; or try to, where it has to be `refused`."""
    done = subprocess.run(
        [sys.executable, "-c", _WRITER, str(path), "0.1" if refused else "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if refused:
        assert "database is locked" in done.stderr
    else:
        assert done.returncode == -signal.SIGKILL, done.stderr


def put(act: str, path: Path) -> None:
    """Move what is at the path aside, and bring in another; the same again finishes it.

    `restore` brings in a new file, `undo` the files of a quarantine.
    """
    aside, earlier = path.with_name("aside"), path.with_name("earlier")
    main = aside / path.name
    if main.exists() and main.samefile(path):
        forget_exchange(path, aside)
    done = main.exists()
    with ExitStack() as stack:
        if act == "undo":
            if not done:
                is_still = hold_still(stack, Source("t", path), 5.0)
                exchange(path, aside, earlier / path.name, is_still=is_still, is_copy=False)
            assert moves.bring_sides(earlier, path, aside)
        elif not done:
            new = stack.enter_context(install.durable_beside(path.with_name("staged.db"), path))
            exchange(path, aside, new, is_still=False, is_copy=True)


def _main(act: str, path: Path, last: int) -> None:
    steps = 0
    written = False

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event in _STEPS:
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

    def open_the_window(folder: Path) -> None:
        nonlocal written
        sync_directory(folder)
        if not written:
            written = True
            write_in_a_process(path, refused=act == "undo")

    with patch.object(exchanging, "sync_directory", open_the_window):
        sys.addaudithook(count)
        put(act, path)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
