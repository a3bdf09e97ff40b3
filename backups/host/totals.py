"""Running totals in this host's records: runs, time spent in stages, notifications.

They only grow, whatever becomes of the rows of the run log, so that a counter made of them is
one, in every process and after every restart.
"""

from __future__ import annotations

import math
import sqlite3
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

# Upper bounds in seconds; what is recorded under a bound stays there if bounds are added.
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, math.inf)


@dataclass(frozen=True)
class RunKind:
    """What runs are counted by."""

    operation: str
    trigger: str
    status: str


@dataclass(frozen=True)
class StageTime:
    """How long a run was in a stage."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class StageTotals:
    """All times spent in one stage: how many took at most each of `BUCKETS`, and their sum."""

    up_to: tuple[tuple[float, int], ...]
    seconds: float


def count_run(connection: sqlite3.Connection, kind: RunKind) -> None:
    """Count a run that is over; within a transaction."""
    connection.execute(
        "INSERT INTO run_totals(operation, trigger, status, total) VALUES (?, ?, ?, 1)"
        " ON CONFLICT DO UPDATE SET total = total + 1",
        (kind.operation, kind.trigger, kind.status),
    )


def run_totals(connection: sqlite3.Connection) -> Mapping[RunKind, int]:
    """How many runs there have been of each kind."""
    rows = connection.execute("SELECT operation, trigger, status, total FROM run_totals")
    return {RunKind(*kind): int(total) for *kind, total in rows}


def count_stage(connection: sqlite3.Connection, time: StageTime) -> None:
    """Add a stage that is over; within a transaction."""
    connection.execute(
        "INSERT INTO stage_totals(stage, up_to, total, seconds) VALUES (?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET total = total + 1, seconds = seconds + excluded.seconds",
        (time.stage, BUCKETS[bisect_left(BUCKETS, time.seconds)], time.seconds),
    )


def stage_totals(connection: sqlite3.Connection) -> Mapping[str, StageTotals]:
    """The times of each stage."""
    found: dict[str, list[tuple[float, int, float]]] = {}
    rows = connection.execute("SELECT stage, up_to, total, seconds FROM stage_totals")
    for stage, up_to, total, seconds in rows:
        found.setdefault(stage, []).append((up_to, total, seconds))
    return {
        stage: StageTotals(
            tuple((b, sum(total for up_to, total, _ in times if up_to <= b)) for b in BUCKETS),
            math.fsum(seconds for _, _, seconds in times),
        )
        for stage, times in found.items()
    }


def count_notification(connection: sqlite3.Connection, result: str) -> None:
    """Count a notification that was tried; within a transaction."""
    connection.execute(
        "INSERT INTO notification_totals(result, total) VALUES (?, 1)"
        " ON CONFLICT DO UPDATE SET total = total + 1",
        (result,),
    )


def notification_totals(connection: sqlite3.Connection) -> Mapping[str, int]:
    """How many notifications were tried, by what became of them."""
    return dict(connection.execute("SELECT result, total FROM notification_totals").fetchall())
