"""SQLite's deep check of a snapshot, in a process of its own.

The check looks each row up in its indexes, in the order of their keys: a system call for each of
millions of pages. A process of its own maps the file in place of that, and may: a sector that
cannot be read, or a file that is cut, under a mapped page ends that process (SIGBUS) and not the
app. It does not share the interpreter with the bot, and yields the processor to it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Below that, starting a process takes longer than the check.
LEAST_BYTES = 8 * 1024 * 1024
_SECONDS_BETWEEN_QUESTIONS = 0.25
_PROGRAM = """
import os, sqlite3, sys
os.nice(2)
connection = sqlite3.connect(sys.argv[1], uri=True)
connection.execute("PRAGMA trusted_schema=OFF")
connection.execute(f"PRAGMA mmap_size={sys.argv[2]}")
print(connection.execute("PRAGMA integrity_check(1)").fetchone()[0], flush=True)
"""


def is_sound(path: Path, ask: Callable[[], object]) -> bool:
    """Whether SQLite finds nothing wrong in a file that nobody else writes.

    False where it finds something, or does not come to an end: what it is, `soundness_of` says.
    What `ask` raises ends the check, and is raised from here; it is called four times a second.
    """
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, address, str(path.stat().st_size)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
    except OSError:
        return False  # no process can be started now
    try:
        while True:
            try:
                said, _ = process.communicate(timeout=_SECONDS_BETWEEN_QUESTIONS)
            except subprocess.TimeoutExpired:
                ask()
            else:
                return process.returncode == 0 and said == b"ok\n"
    finally:
        process.kill()
        process.communicate()
