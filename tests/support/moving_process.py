"""A restore or an undo of a file in a process of its own, which dies at a step of its moving.

Its arguments are the act, the path of the database, and the number of the step on the file system
before which it dies. Another process opens the database, commits a row and dies, when the side
files are linked and the main file is not moved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from backups.sources import install
from shared.files import sync_directory

_STEPS = ("os.mkdir", "os.link", "os.rename", "os.remove")

# Opens a database, commits a row, and dies as a killed process does: its `-wal` stays.
_WRITER = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
writer.execute("PRAGMA journal_mode=WAL")
writer.execute("CREATE TABLE IF NOT EXISTS foreign_rows(name)")
writer.execute("INSERT INTO foreign_rows VALUES ('of the window')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def write_in_a_process(path: Path) -> None:
    """Let another process commit a row, and die."""
    done = subprocess.run([sys.executable, "-c", _WRITER, str(path)], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL


def put(act: str, path: Path) -> None:
    """Move what is at the path aside, and bring in another; the same again finishes it.

    `restore` brings in a new file, `undo` the files of a quarantine.
    """
    aside, earlier = path.with_name("aside"), path.with_name("earlier")
    begun = act == "undo" and (aside / path.name).exists()
    if begun:
        install.remove_moved(path, aside, earlier)
    elif not (aside / path.name).exists() or not path.exists():
        install.quarantine(path, aside)
    if act == "undo":
        install.bring_back(earlier, path, begun=begun)
    else:
        with suppress(FileExistsError):
            install.install_new(path.with_name("staged.db"), path)


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
            write_in_a_process(path)

    with patch.object(install, "sync_directory", open_the_window):
        sys.addaudithook(count)
        put(act, path)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
