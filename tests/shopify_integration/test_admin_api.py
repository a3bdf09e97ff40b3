"""Requests to a shop: all pages, patience with a busy shop, and what its refusals mean."""

from __future__ import annotations

import logging

import pytest

from shared.merchants.errors import (
    PermissionMissing,
    PlatformBusy,
    PlatformError,
    PlatformUnreachable,
    TokenRefused,
)
from shopify_integration.admin_api import TOPICS
from shopify_integration.errors import ShopUnavailable
from shopify_integration.models import ProductPage
from tests.shopify_integration.conftest import Counter

SHOP = "kaesehaus.myshopify.com"


@pytest.fixture
def token(counter: Counter) -> str:
    """The token of a shop."""
    return counter.installed(SHOP).access_token


def test_all_products_with_all_variants_are_read(counter: Counter, token: str) -> None:
    """Behind the first page of 25 products, and behind the first 30 and 280 variants of one."""
    many = [{"title": f"{number} kg"} for number in range(281)]
    titles = [f"Cheese {number}" for number in range(27)]
    for title in titles:
        variants = many if title == "Cheese 3" else many[:31] if title == "Cheese 26" else many[:1]
        counter.shopify.put_product(SHOP, deliver=False, title=title, variants=variants)

    found = {
        product.title: product
        for page in counter.admin.products(SHOP, token)
        for product in page.products
    }

    assert sorted(found) == sorted(titles)
    assert [one.title for one in found["Cheese 3"].variants] == [one["title"] for one in many]
    assert len(found["Cheese 26"].variants) == 31
    assert len({one.id for one in found["Cheese 3"].variants}) == 281


def test_a_shop_without_products_has_none(counter: Counter, token: str) -> None:
    """An empty page is the last one."""
    assert list(counter.admin.products(SHOP, token)) == [ProductPage((), (), None)]


def test_webhooks_are_subscribed_once(counter: Counter, token: str) -> None:
    """What is there is left alone; what Shopify dropped is subscribed again."""
    counter.admin.subscribe(SHOP, token)
    address = "https://bot.example/shopify/webhook"
    assert counter.shopify.subscriptions(SHOP) == dict.fromkeys(TOPICS, address)
    counter.shopify.clear_calls()

    counter.admin.subscribe(SHOP, token)

    assert counter.shopify.calls("graphql:webhookSubscriptionCreate") == []
    assert counter.shopify.subscriptions(SHOP) == dict.fromkeys(TOPICS, address)


def test_a_throttled_query_waits_as_long_as_it_is_told(counter: Counter, token: str) -> None:
    """THROTTLED comes with status 200: missing points over points a second."""
    counter.shopify.throttle("graphql:shop", restore_rate=50.0, requested=20)

    counter.admin.shop(SHOP, token)

    first, second = [call.at for call in counter.shopify.calls("graphql:shop")]
    assert 0.4 <= second - first < 1


def test_a_busy_shop_is_asked_again_when_it_says(counter: Counter, token: str) -> None:
    """429 with `Retry-After`."""
    counter.shopify.answer_status("graphql", 429, headers={"retry-after": "0.3"})

    counter.admin.shop(SHOP, token)

    first, second = [call.at for call in counter.shopify.calls("graphql")][-2:]
    assert 0.3 <= second - first < 0.9


@pytest.mark.parametrize("status", [429, 503])
def test_a_shop_is_not_asked_before_its_time(counter: Counter, token: str, status: int) -> None:
    """`Retry-After` of an hour: one request, and none before, whatever else there is to ask."""
    counter.shopify.answer_status("graphql", status, headers={"retry-after": "3600"})
    for _ in range(3):
        with pytest.raises(PlatformBusy):
            counter.admin.shop(SHOP, token)
    assert len(counter.shopify.calls("graphql")) == 1

    counter.clock.advance(minutes=61)

    assert counter.admin.shop(SHOP, token).domain == SHOP


@pytest.mark.parametrize("fault", ["status", "garbage", "cut", "INTERNAL_SERVER_ERROR"])
def test_a_passing_fault_is_tried_again(counter: Counter, token: str, fault: str) -> None:
    """Whatever a proxy, the network or the platform does once."""
    if fault == "status":
        counter.shopify.answer_status("graphql", 502)
    elif fault == "garbage":
        counter.shopify.garbage("graphql")
    elif fault == "cut":
        counter.shopify.cut("graphql")
    else:
        counter.shopify.fail("graphql", fault)

    assert counter.admin.shop(SHOP, token).domain == SHOP


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, TokenRefused), (403, PermissionMissing)],
)
def test_a_refused_token_means_reconnect(
    counter: Counter, token: str, status: int, kind: type[PlatformError]
) -> None:
    """At once, with the way to do so; the token is in no text."""
    counter.shopify.answer_status("graphql", status)

    with pytest.raises(kind) as caught:
        counter.admin.shop(SHOP, token)

    assert f"/shopify/{SHOP}/login" in caught.value.hint
    assert token not in str(caught.value) + caught.value.message
    assert len(counter.shopify.calls("graphql")) == 1


@pytest.mark.parametrize(
    ("status", "word"), [(402, "frozen"), (404, "SHOPIFY_API_VERSION"), (423, "locked")]
)
def test_an_unavailable_shop_keeps_its_token(
    counter: Counter, token: str, status: int, word: str
) -> None:
    """Each with its sentence; asked once, and the token is not taken for void."""
    counter.shopify.answer_status("graphql", status)

    with pytest.raises(ShopUnavailable) as caught:
        counter.admin.shop(SHOP, token)

    assert word in f"{caught.value.message} {caught.value.hint}"
    assert "/login" not in caught.value.hint
    assert len(counter.shopify.calls("graphql")) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [("ACCESS_DENIED", PermissionMissing), ("BAD_REQUEST", PlatformError)]
)
def test_a_refused_query_is_no_empty_answer(
    counter: Counter, token: str, code: str, kind: type[PlatformError]
) -> None:
    """GraphQL refuses with status 200; no products would then be deleted products."""
    counter.shopify.fail("graphql:products", code)

    with pytest.raises(kind):
        list(counter.admin.products(SHOP, token))

    assert len(counter.shopify.calls("graphql:products")) == 1


def test_a_redirect_is_not_followed(counter: Counter, token: str) -> None:
    """The token would go to wherever it leads."""
    counter.shopify.redirect("graphql", f"{counter.shopify.url}/elsewhere", times=None)
    counter.admin._outbound.close()  # no patience

    with pytest.raises(PlatformUnreachable):
        counter.admin.shop(SHOP, token)

    assert counter.shopify.calls("unknown") == []


def test_another_version_is_told_in_the_log(
    counter: Counter, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Shopify answers with the oldest that it still has, when ours is gone."""
    counter.shopify.configure(answered_version="2027-01")

    with caplog.at_level(logging.WARNING):
        counter.admin.shop(SHOP, token)

    assert "SHOPIFY_API_VERSION" in caplog.text


def test_a_code_is_good_once(counter: Counter, token: str) -> None:
    """The second use is refused for good, and not tried again."""
    code = counter.code(SHOP)
    counter.admin.exchange_code(SHOP, code)
    counter.shopify.clear_calls()

    with pytest.raises(TokenRefused):
        counter.admin.exchange_code(SHOP, code)

    assert len(counter.shopify.calls("access_token")) == 1
