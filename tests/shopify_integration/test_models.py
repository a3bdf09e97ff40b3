"""What of a shop is stored: one form, whichever way Shopify tells it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.merchants.errors import BodyMalformed
from shopify_integration.models import (
    instant_of,
    product_of_graphql,
    product_of_webhook,
    shop_of_graphql,
    shop_of_webhook,
)
from tests.shopify_integration.conftest import Counter

SHOP = "kaesehaus.myshopify.com"

BODY: dict[str, Any] = {
    "id": 8100000000007,
    "title": "Emmentaler",
    "handle": "emmentaler",
    "status": "draft",
    "body_html": "<p>Reif &amp; würzig</p>",
    "vendor": "Sennerei",
    "product_type": "Käse",
    "tags": "hard,  raw milk, hard, ",
    "created_at": "2026-11-22T13:00:00+01:00",
    "updated_at": "2026-11-22T13:30:00.250+01:00",
    "variants": [
        {"id": 9, "title": "1 kg", "sku": "", "price": "9.90", "inventory_quantity": -2},
    ],
}


@pytest.mark.parametrize(
    "values",
    [
        {"title": "Emmentaler"},
        {
            "title": "Käse <b>&</b> \u2028 😀",
            "status": "DRAFT",
            "tags": ["b", "a tag", "Ä"],
            "vendor": "",
            "description_html": "",
        },
        {
            "variants": [
                {"title": f"{number} kg", "sku": f"K-{number}", "inventory_quantity": -number}
                for number in range(40)
            ]
        },
    ],
)
def test_webhook_and_graphql_tell_the_same_product(counter: Counter, values: Any) -> None:
    """The stored form does not depend on the way, or each polling would write it anew."""
    token = counter.installed(SHOP).access_token
    put = counter.shopify.put_product(SHOP, deliver=False, **values)

    (page,) = counter.admin.products(SHOP, token)

    assert page.products == (product_of_webhook(put.body),)


def test_webhook_and_graphql_tell_the_same_shop(counter: Counter) -> None:
    """Name, email, currency, primary domain and time zone."""
    token = counter.installed(SHOP).access_token
    body = {
        "name": "Käsehaus",
        "email": "owner@example.com",
        "currency": "CHF",
        "domain": "kaese.example",
        "iana_timezone": "Europe/Zurich",
    }
    counter.shopify.change_shop(
        SHOP,
        deliver=False,
        name="Käsehaus",
        email="owner@example.com",
        currencyCode="CHF",
        ianaTimezone="Europe/Zurich",
        primaryDomain={"url": "https://kaese.example", "host": "kaese.example"},
    )

    assert counter.admin.shop(SHOP, token) == shop_of_webhook(body, SHOP)


def test_a_product_of_a_webhook_is_read() -> None:
    """Times are UTC, numbers are texts, tags are a set in order, blanks are None."""
    found = product_of_webhook(BODY).model_dump(mode="json")

    assert found == {
        "id": "8100000000007",
        "title": "Emmentaler",
        "handle": "emmentaler",
        "status": "draft",
        "description_html": "<p>Reif &amp; würzig</p>",
        "vendor": "Sennerei",
        "product_type": "Käse",
        "tags": ["hard", "raw milk"],
        "created_at": "2026-11-22T12:00:00Z",
        "updated_at": "2026-11-22T12:30:00.250Z",
        "variants": [
            {
                "id": "9",
                "title": "1 kg",
                "sku": None,
                "price": "9.90",
                "inventory_quantity": -2,
            }
        ],
    }
    assert instant_of(None) is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"title": {"de": "Käse"}},
        {"updated_at": "yesterday"},
        {"updated_at": 5},
        {"updated_at": "0001-01-01T00:00:00+14:00"},
        {"variants": [1]},
        {"variants": [{"title": "without an id"}]},
        {"variants": {"id": 1}},
        {"tags": 7},
        {"tags": [7]},
    ],
)
def test_what_is_no_product_is_refused(change: dict[str, Any]) -> None:
    """A body that Shopify would not send has one error, whatever is wrong with it."""
    with pytest.raises(BodyMalformed):
        product_of_webhook({**BODY, **change})


@pytest.mark.parametrize("node", [{}, {"id": 1}, {"id": "gid://shopify/Product/1", "title": 1}])
def test_what_is_no_node_is_refused(node: dict[str, Any]) -> None:
    """Neither is an answer in another form taken for a product or a shop."""
    with pytest.raises(BodyMalformed):
        product_of_graphql(node, [])
    with pytest.raises(BodyMalformed):
        shop_of_graphql(node)
    with pytest.raises(BodyMalformed):
        shop_of_webhook({"name": None}, SHOP)
