"""A module of the tests run as a process of its own, on a file system as small as a test wants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.installation import REPOSITORY


def run_on_small_disk(folder: Path, options: str, module: str, *arguments: str) -> str:
    """Run `python -m module` where `folder` is a tmpfs with these mount options; what it printed.

    The mount is in a name space of that process, and ends with it.
    """
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder)),
            *(sys.executable, "-m", module, *arguments),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
