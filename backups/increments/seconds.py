"""How long the steps of a host took, from noticing a change to its proof, for all its processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backups.increments.follow_folder import FollowFolder

BUCKETS: Sequence[float] = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 60.0, 600.0)


@dataclass(frozen=True)
class StepSeconds:
    """A histogram: how many steps took at most each of `BUCKETS` seconds, of `count`."""

    buckets: tuple[int, ...] = (0,) * len(BUCKETS)
    count: int = 0
    total: float = 0.0


def read_seconds(folder: FollowFolder) -> StepSeconds:
    """What the steps of this host took so far; nothing where that cannot be read."""
    document = folder.seconds()
    try:
        found = StepSeconds(
            tuple(int(one) for one in document["buckets"]),
            int(document["count"]),
            float(document["sum"]),
        )
    except (KeyError, TypeError, ValueError):
        return StepSeconds()
    return found if len(found.buckets) == len(BUCKETS) else StepSeconds()


def note_seconds(folder: FollowFolder, took: float) -> None:
    """Count a step. Raises `DiskFull`, `DirectoryUnusable`."""
    known = read_seconds(folder)
    counts = [count + (took <= edge) for count, edge in zip(known.buckets, BUCKETS, strict=True)]
    folder.note_seconds({"buckets": counts, "count": known.count + 1, "sum": known.total + took})
