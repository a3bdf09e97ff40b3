"""`Plan`: what one run of the benchmark is to measure, and with which programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).parent / ".peers" / "bin"
_VERSION: Mapping[str, Sequence[str]] = {
    "aws": ("--version",),
    "sqlite3": ("--version",),
    "rclone": ("version",),
    "restic": ("version",),
    "litestream": ("version",),
}
_LARGE_MEGABYTES = 500
_RUNS_WHEN_LARGE = 3


@dataclass(frozen=True)
class Plan:
    """Sizes of tokens.db in MB, rounds, and the programs that are there, with their paths."""

    sizes: tuple[float, ...]
    runs: int
    programs: Mapping[str, str]
    quick: bool = False
    target: str = "/healthz"

    def runs_at(self, megabytes: float) -> int:
        """Large databases get fewer rounds."""
        return min(self.runs, _RUNS_WHEN_LARGE) if megabytes > _LARGE_MEGABYTES else self.runs


def find_programs() -> dict[str, str]:
    """The contenders' programs on this host: what `peers.sh` put beside it, then `PATH`."""
    found = {}
    for name in _VERSION:
        path = PEERS / name
        where = str(path) if path.exists() else shutil.which(name)
        if where:
            found[name] = where
    return found


def versions_of(programs: Mapping[str, str]) -> dict[str, str]:
    """What each says as its version, in one line."""
    told = {}
    for name, path in programs.items():
        done = subprocess.run(
            [path, *_VERSION[name]], capture_output=True, text=True, check=False
        )
        told[name] = (done.stdout or done.stderr).strip().splitlines()[0]
    return told
