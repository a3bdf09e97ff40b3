"""Rounds: everybody in turn, so that what the host does meanwhile meets all of them alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from benchmarks.plan import Plan

T = TypeVar("T")


def rounds(everybody: Sequence[T], counted: int, *, warm_up: bool) -> Iterator[tuple[T, bool]]:
    """Each of them in each round, and whether it counts: the `warm_up` round does not.

    Every other round goes backwards: nobody always follows the same one.
    """
    for number in range(0 if warm_up else 1, counted + 1):
        order = everybody if number % 2 else list(reversed(everybody))
        for one in order:
            yield one, number > 0


def settle(plan: Plan) -> None:
    """Write what the last one left for the disk, so that the next does not pay for it."""
    if not plan.quick:
        os.sync()


def say(line: str) -> None:
    """Tell the person who waits how far it is."""
    print(line, file=sys.stderr, flush=True)
