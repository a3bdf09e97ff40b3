"""The stand-ins for the platforms, one of each for a module; a `Bot` resets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify


@pytest.fixture(scope="module")
def graph() -> Iterator[FakeGraph]:
    """The Graph API."""
    with FakeGraph.started() as running:
        yield running


@pytest.fixture(scope="module")
def shopify() -> Iterator[FakeShopify]:
    """Shopify."""
    with FakeShopify.started() as running:
        yield running
