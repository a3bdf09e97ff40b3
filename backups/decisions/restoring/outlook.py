"""What surrounds the plan of a restore: newer points, and how long it takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from backups.decisions.order import is_future
from backups.model import BackupSet, DrillReport
from shared.clock import format_utc

# What a modest line and a modest disk do, where no drill has measured it.
_BYTES_A_SECOND = 10_000_000
_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class PassedOver:
    """A newer restore point than the one of a plan, and why it is not the one."""

    id: str
    created_at: datetime
    why: str


@dataclass(frozen=True)
class Estimate:
    """How many seconds a restore takes, and how that is known."""

    seconds: float
    basis: Literal["drill", "size"]


def passed_over(
    chosen: BackupSet, sets: Iterable[BackupSet], now: datetime
) -> Iterator[PassedOver]:
    """The sets of the same line that are newer than the chosen point, each with the reason.

    `sets` come newest first.
    """
    for one in sets:
        if one.created_at <= chosen.created_at:
            return
        yield PassedOver(one.id, one.created_at, _why(one, now))


def _why(one: BackupSet, now: datetime) -> str:
    if one.suspect:
        return f"suspect (the data looks damaged): {'; '.join(one.suspect)}"
    if one.hollow:
        return "objects of it are missing in the store"
    if one.mark != "valid":
        return "it has no valid mark"
    if not one.complete:
        return "it does not have all sources"
    if not one.protects:
        return "it is not proven"
    if is_future(one.created_at, now):
        return "its time lies in the future"
    if one.set_aside is not None:
        return f"a restore at {format_utc(one.set_aside)} set it aside"
    return "it is good: a restore in place sets it aside"


def estimate(chosen: BackupSet, drill: DrillReport | None, drilled: BackupSet | None) -> Estimate:
    """How long the restore of a point takes: as the last drill did, by the bytes, or by its size.

    `drilled` is the set of that drill, if it is known.
    """
    if drill is not None and drill.failure is None:
        ratio = chosen.bytes / drilled.bytes if drilled is not None and drilled.bytes else 1.0
        return Estimate(drill.seconds * ratio, "drill")
    return Estimate(max(_LEAST_SECONDS, chosen.bytes / _BYTES_A_SECOND), "size")
