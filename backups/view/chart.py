"""The size and the duration of the backups over time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backups.model import BackupSet, Run

MOST_POINTS = 120


@dataclass(frozen=True)
class Point:
    """One backup: its stored bytes (None when its set is gone) and how long its run took."""

    set_id: str
    at: datetime
    bytes: int | None
    seconds: float | None


def points(sets: Sequence[BackupSet], runs: Sequence[Run]) -> tuple[Point, ...]:
    """The newest backups of all sources, oldest first.

    Of a set that was pruned the run is still known, of a set that another host made only
    the set.
    """
    known: Mapping[str, BackupSet] = {backup_set.id: backup_set for backup_set in sets}
    took = {
        run.set_id: (run.finished_at - run.started_at).total_seconds()
        for run in runs
        if run.set_id and run.finished_at and run.operation == "backup"
    }
    known_points = {
        backup_set.id: Point(
            backup_set.id, backup_set.created_at, total_bytes(backup_set), took.get(backup_set.id)
        )
        for backup_set in sets
        if backup_set.kind == "set" and backup_set.complete
    }
    for run in runs:
        if run.set_id in took and run.set_id and run.set_id not in known:
            known_points[run.set_id] = Point(run.set_id, run.started_at, None, took[run.set_id])
    ordered = sorted(known_points.values(), key=lambda point: (point.at, point.set_id))
    return tuple(ordered[-MOST_POINTS:])


def total_bytes(backup_set: BackupSet) -> int:
    """The stored bytes of a set."""
    return sum(stored.bytes for stored in backup_set.objects)
