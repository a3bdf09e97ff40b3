"""How the tests are shared out among the workers of `make test`."""

from __future__ import annotations

import pytest

from tests.support.shares import slow_first


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_share_begins_with_its_slow_tests(
    request: pytest.FixtureRequest, workers: int
) -> None:
    """No test is lost, files stay together, and nobody is left with slow tests in the end."""
    items: list[pytest.Item] = [
        pytest.Function.from_parent(request.node.parent, name=f"{number}", callobj=lambda: None)
        for number in range(18)
    ]
    for item in items[3:9]:
        item.add_marker(pytest.mark.slow)

    shared = slow_first(list(items), workers)

    assert sorted(shared, key=items.index) == items
    length = len(items) // workers
    for first in range(0, len(items), length):
        share = shared[first : first + length]
        slow = [item.get_closest_marker("slow") is not None for item in share]
        assert slow == [True] * (6 // workers) + [False] * (12 // workers)
        numbers = [items.index(item) for item in share]
        assert numbers == [*sorted(numbers[: sum(slow)]), *sorted(numbers[sum(slow) :])]
