"""What a person types in the folder of an installation, into a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.installation import REPOSITORY, Installation


def type_in(host: Installation, script: str) -> subprocess.CompletedProcess[str]:
    """Type lines into a shell in the folder of a host, which has `./bot` as a checkout has it."""
    shutil.copy2(REPOSITORY / "bot", host.folder / "bot")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=host.folder,
        env={**host.environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
