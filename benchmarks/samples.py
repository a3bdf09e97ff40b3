"""Latencies with the instants at which they began, and what they come to within a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Window = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """Something that took `seconds`, from a monotonic instant on."""

    began: float
    seconds: float


def within(samples: Sequence[Sample], windows: Sequence[Window]) -> list[float]:
    """The milliseconds of what began in one of the windows."""
    return [
        one.seconds * 1000
        for one in samples
        if any(first <= one.began < last for first, last in windows)
    ]


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
