"""Prometheus' own tool, which `tests/tools.sh` gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def promtool(folder: Path, *arguments: str) -> str:
    """What it says of files in a folder; it must be content with them."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    program = shutil.which("promtool", path=path)
    assert program, "promtool is missing: tests/tools.sh gets it"
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
