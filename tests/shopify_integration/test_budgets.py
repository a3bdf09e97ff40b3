"""A shop's points: a query is sent when there are enough for it, and not to find that out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shared.merchants.errors import PlatformBusy
from shared.merchants.http_client import one_short_try
from shopify_integration.budgets import Budgets, Cost, cost_of
from tests.shopify_integration.conftest import SHOP, Counter
from tests.support.clock import FixedClock

QUERY = "{ shop { name } }"
PRODUCTS = "graphql:products"


class Bucket:
    """A budget whose clock stands still, and the pauses that it made."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.pauses: list[float] = []
        self.budgets = Budgets(self.clock, self.pauses.append)

    def has(self, available: float, requested: float = 100, a_second: float = 20) -> None:
        """An answer says so."""
        self.budgets.note(SHOP, QUERY, Cost(requested, available, 1000, a_second))

    def spend(self) -> float:
        """The pause before one request, whose answer says nothing."""
        self.pauses.clear()
        with self.budgets.spending(SHOP, QUERY):
            return sum(self.pauses)


@pytest.fixture
def bucket() -> Bucket:
    """One of which nothing is known."""
    return Bucket()


def test_nothing_is_asked_before_there_are_points(counter: Counter) -> None:
    """Of ten pages none is refused as too early, though the bucket has hardly enough for one."""
    token = counter.installed(SHOP).access_token
    titles = [f"Cheese {number:03}" for number in range(250)]
    counter.shopify.put_products(SHOP, titles)
    counter.shopify.configure(bucket=900, restore_rate=2000.0)

    pages = list(counter.admin.products(SHOP, token))

    assert [one.title for page in pages for one in page.products] == titles
    calls = counter.shopify.calls(PRODUCTS)
    assert [call.detail for call in calls] == [None] * 10


def test_a_long_wait_is_left_to_the_caller(counter: Counter) -> None:
    """Nothing is sent meanwhile; afterwards all is well."""
    token = counter.installed(SHOP).access_token
    counter.shopify.put_products(SHOP, [f"Cheese {number:03}" for number in range(60)])
    counter.shopify.configure(bucket=900, restore_rate=0.1)
    with pytest.raises(PlatformBusy) as caught:
        list(counter.admin.products(SHOP, token))
    assert len(counter.shopify.calls(PRODUCTS)) == 1
    assert caught.value.wait is not None
    assert 60 < caught.value.wait < 900
    with pytest.raises(PlatformBusy):
        counter.admin.shop(SHOP, token)
    assert counter.shopify.calls("graphql:shop") == []

    counter.clock.advance(seconds=caught.value.wait)
    counter.shopify.configure(bucket=900, restore_rate=2000.0)

    assert sum(len(page.products) for page in counter.admin.products(SHOP, token)) == 60


def test_the_pause_is_for_what_is_missing(bucket: Bucket) -> None:
    """30 points are left of the 100 that the query needs: 3.5 seconds at 20 a second."""
    assert bucket.spend() == 0  # nothing is known
    bucket.has(30)
    assert bucket.spend() == pytest.approx(3.5)


def test_points_come_back_with_time(bucket: Bucket) -> None:
    """As many a second as the shop said, and no more than its bucket holds."""
    bucket.has(0)
    bucket.clock.advance(seconds=4)
    assert bucket.spend() == pytest.approx(1)
    bucket.clock.advance(days=1)
    for _ in range(10):
        assert bucket.spend() == 0
    assert bucket.spend() == pytest.approx(5)


def test_two_threads_do_not_spend_the_same_points(bucket: Bucket) -> None:
    """The second one waits for its own, though no answer has come to the first one."""
    bucket.has(100)
    with bucket.budgets.spending(SHOP, QUERY), bucket.budgets.spending(SHOP, QUERY):
        assert bucket.pauses == [pytest.approx(5)]


def test_a_request_that_failed_has_cost_nothing(bucket: Bucket) -> None:
    """A shop that does not answer charges nothing."""
    bucket.has(100)
    for _ in range(5):
        with pytest.raises(OSError), bucket.budgets.spending(SHOP, QUERY):
            raise OSError

    assert bucket.spend() == 0


def test_an_update_does_not_wait_for_long(bucket: Bucket) -> None:
    """The thread of the inbox works for others meanwhile; a polling waits."""
    bucket.has(0, requested=200)
    with one_short_try(), pytest.raises(PlatformBusy) as caught:
        bucket.spend()
    assert caught.value.wait == pytest.approx(10)
    assert bucket.spend() == pytest.approx(10)


def test_a_query_that_needs_more_than_the_bucket_holds_is_sent(bucket: Bucket) -> None:
    """When the bucket is full: the shop then says what it thinks of it."""
    bucket.has(1000, requested=5000)
    assert bucket.spend() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"requestedQueryCost": None},
        {"requestedQueryCost": -1},
        {"requestedQueryCost": math.inf},
        {"requestedQueryCost": math.nan},
        {"currentlyAvailable": 10**400},
        {"currentlyAvailable": 2001},
        {"restoreRate": 0},
        {"restoreRate": "many"},
        {"maximumAvailable": 0},
    ],
)
def test_a_cost_that_makes_no_sense_is_passed_over(changes: dict[str, Any]) -> None:
    """It comes from outside: a wait that has no end is none."""
    status = {"maximumAvailable": 2000.0, "currentlyAvailable": 5, "restoreRate": 100.0}
    cost: dict[str, Any] = {"requestedQueryCost": 100, "throttleStatus": status}
    assert cost_of({"extensions": {"cost": cost}}) == Cost(100, 5, 2000, 100)
    for name, value in changes.items():
        (status if name in status else cost)[name] = value

    assert cost_of({"extensions": {"cost": cost}}) is None
    assert cost_of({"extensions": []}) is None
