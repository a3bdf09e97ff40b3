"""`Plan`: what one run of the benchmark is to measure, and with which programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).parent / ".peers" / "bin"
VERSION: Mapping[str, Sequence[str]] = {
    "aws": ("--version",),
    "sqlite3": ("--version",),
    "rclone": ("version",),
    "restic": ("version",),
    "litestream": ("version",),
}
_LARGE_MEGABYTES = 500
_RUNS_WHEN_LARGE = 3
_MOST_WHEN_BUSY = 100


@dataclass(frozen=True)
class Plan:
    """Sizes of tokens.db in MB, rounds, and the programs that are there, with their paths.

    `cost_sizes` are those at which bytes and memory are counted, `busy_size` the one at which
    others are watched during a backup: `busy_runs` times, after `idle_seconds` without one.
    """

    sizes: tuple[float, ...]
    runs: int
    programs: Mapping[str, str]
    cost_sizes: tuple[float, ...]
    busy_size: float
    busy_runs: int
    idle_seconds: float
    restore_points: int
    follow_sizes: tuple[float, ...] = ()
    follow_seconds: float = 15.0
    quick: bool = False
    target: str | None = None

    @classmethod
    def of(
        cls, sizes: tuple[float, ...], runs: int, programs: Mapping[str, str], *, quick: bool
    ) -> Plan:
        """What follows from the sizes: the cost at the largest ones, the rest at a middle one."""
        middling = [size for size in sizes if size <= _MOST_WHEN_BUSY] or sizes
        return cls(
            sizes=sizes,
            runs=runs,
            programs=programs,
            cost_sizes=tuple(sorted(sizes)[-1 if quick else -2 :]),
            busy_size=max(middling),
            busy_runs=runs,
            idle_seconds=1.0 if quick else 2.0,
            restore_points=200 if quick else 10_000,
            follow_sizes=tuple(sorted(middling)[-1 if quick else -2 :]),
            follow_seconds=4.0 if quick else 15.0,
            quick=quick,
        )

    def is_large(self, megabytes: float) -> bool:
        """Whether a backup takes so long that fewer rounds and contenders must do."""
        return megabytes > _LARGE_MEGABYTES

    def runs_at(self, megabytes: float) -> int:
        """How many rounds are counted."""
        return min(self.runs, _RUNS_WHEN_LARGE) if self.is_large(megabytes) else self.runs


def find_programs(wanted: Collection[str]) -> dict[str, str]:
    """The peers' programs on this host: what `peers.sh` put beside it, then those on `PATH`."""
    found = {}
    for name in (one for one in VERSION if one in wanted):
        path = PEERS / name
        where = str(path) if path.exists() else shutil.which(name)
        if where:
            found[name] = where
    return found


def missing_programs(programs: Mapping[str, str], wanted: Collection[str]) -> list[str]:
    """Those that are not on this host; `peers.sh` says how to get them."""
    return [name for name in VERSION if name in wanted and name not in programs]


def versions_of(programs: Mapping[str, str]) -> dict[str, str]:
    """What each says as its version, in one line."""
    told = {}
    for name, path in programs.items():
        done = subprocess.run([path, *VERSION[name]], capture_output=True, text=True, check=False)
        told[name] = (done.stdout or done.stderr).strip().splitlines()[0]
    return told
