"""`slow_first`: the order of the tests, such that no worker is left with a slow one in the end."""

from __future__ import annotations

import pytest


def slow_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests, so that the share of each of the workers begins with those marked `slow`.

    pytest-xdist gives each worker one piece of the list, of the same length. Who has done his
    takes half of another's rest from its end, where quick ones are: they end together.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    return [
        item
        for share in range(workers)
        for kind in (slow, quick)
        for item in kind[len(kind) * share // workers : len(kind) * (share + 1) // workers]
    ]
