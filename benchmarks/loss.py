"""The loss window: how old the oldest row was that a burning host would have lost. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """A state that the store had from a monotonic instant on; `row` is the newest row in it."""

    at: float
    row: int


def loss_windows(commits: Mapping[int, float], states: Iterable[Stored]) -> list[float]:
    """Seconds, for each new state: just before it was stored, how old the oldest row was that only
    the host had. `commits` are the instants at which rows were committed, by their ascending
    numbers.

    A state that brings nothing new has no window.
    """
    numbers, windows, stored = sorted(commits), [], 0
    for state in sorted(states, key=lambda one: one.at):
        place = bisect_right(numbers, stored)
        if place < len(numbers) and state.row >= numbers[place]:
            windows.append(state.at - commits[numbers[place]])
        stored = max(stored, state.row)
    return windows


def row_number(text: object) -> int:
    """The number in `w000000017`; 0 for what was there before the first row."""
    return int(text[1:]) if isinstance(text, str) and text.startswith("w") else 0
