"""A webhook has the first 100 variants of a product: the stored product has all of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bot.conftest import inbox_is_done, products_of
from tests.support.bot import Bot
from tests.support.merchant import Merchant
from tests.support.waiting import eventually

MANY = [{"title": f"{number} kg", "price": "1.00"} for number in range(250)]


@pytest.fixture
def bot(lasting_bot: Bot, merchant: Merchant, shop: str) -> Bot:
    """With a connected shop, which was synchronised."""
    merchant.connect_shop(shop)
    eventually(lambda: products_of(lasting_bot, shop) is not None, "the first sync")
    inbox_is_done(lasting_bot)
    return lasting_bot


def titles(bot: Bot, shop: str, product_id: int) -> list[str]:
    """Of the stored variants of a product."""
    (stored,) = [one for one in products_of(bot, shop)["products"] if one["id"] == str(product_id)]
    return [variant["title"] for variant in stored["variants"]]


@pytest.mark.parametrize("count", [100, 101, 250])
def test_all_variants_of_a_product_are_stored(bot: Bot, shop: str, count: int) -> None:
    """One with 100 is complete as it comes, and costs no request."""
    bot.shopify.clear_calls()
    put = bot.shopify.put_product(shop, variants=MANY[:count])
    inbox_is_done(bot)

    assert len(put.body["variants"]) == 100
    assert titles(bot, shop, put.product_id) == [one["title"] for one in MANY[:count]]
    asked = [one for one in bot.shopify.calls("graphql:product") if one.subject == shop]
    assert bool(asked) == (count > 100)


def test_a_changed_variant_beyond_the_first_hundred_is_stored(bot: Bot, shop: str) -> None:
    """The webhook tells that the product changed, and not what."""
    number = bot.shopify.put_product(shop, variants=MANY).product_id
    changed: list[dict[str, Any]] = [*MANY[:249], {"title": "sold out"}]

    bot.shopify.put_product(shop, number, variants=changed)
    inbox_is_done(bot)

    assert titles(bot, shop, number)[248:] == ["248 kg", "sold out"]


def test_without_a_token_the_stored_variants_stay(bot: Bot, shop: str) -> None:
    """Those that the webhook still names, with what it tells of the first 100; the shop is told."""
    put = bot.shopify.put_product(shop, variants=MANY)
    inbox_is_done(bot)
    bot.shopify.revoke_tokens(shop)
    body = {
        **put.body,
        "variants": [{**one, "title": f"new {one['title']}"} for one in put.body["variants"]],
        "variant_gids": put.body["variant_gids"][:-1],
    }

    bot.shopify.send_webhook(shop, "products/update", body)
    inbox_is_done(bot)

    expected = [f"new {one['title']}" for one in MANY[:100]] + [
        one["title"] for one in MANY[100:249]
    ]
    assert titles(bot, shop, put.product_id) == expected
    assert f"reconnect: {shop}" in bot.app.output()


def test_a_product_that_is_deleted_since_is_not_brought_back(bot: Bot, shop: str) -> None:
    """Shopify has none to show: the webhook of the deletion is on its way."""
    put = bot.shopify.put_product(shop, variants=MANY, deliver=False)
    bot.shopify.delete_product(shop, put.product_id, deliver=False)

    bot.shopify.send_webhook(shop, "products/update", put.body)
    inbox_is_done(bot)

    assert products_of(bot, shop)["products"] == []
