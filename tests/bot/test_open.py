"""Opened from Shopify's admin, the app begins the login at once; one bad product fails nobody."""

from __future__ import annotations

import time
from urllib.parse import urlencode, urlsplit

import pytest

from tests.bot.conftest import inbox_is_done, products_of
from tests.support.bot import Bot
from tests.support.merchant import Merchant, connected, refused
from tests.support.waiting import eventually


def opened(bot: Bot, shop: str, *, hmac: str | None = None, age: float = 0) -> str:
    """The address to which Shopify's admin leads, rightly signed unless `hmac` is given."""
    pairs = [("host", "YWRtaW4"), ("shop", shop), ("timestamp", str(int(time.time() - age)))]
    signature = bot.shopify.sign_query(pairs) if hmac is None else hmac
    return f"/shopify/open?{urlencode([*pairs, ('hmac', signature)])}"


def test_the_login_begins_at_once(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """Which the review of apps asks for: no page of ours comes first; and it can be finished."""
    address = merchant.leave(opened(lasting_bot, shop))

    assert urlsplit(address).path == f"/shops/{shop}/admin/oauth/authorize"
    connected(merchant.get(merchant.agree(address)))
    assert [one["account"] for one in merchant.front()["shops"]] == [shop]


@pytest.mark.parametrize("defect", ["hmac", "age", "shop", "missing"])
def test_what_shopify_did_not_sign_begins_nothing(
    lasting_bot: Bot, merchant: Merchant, shop: str, defect: str
) -> None:
    """A wrong signature, an old one, one for no shop, none at all."""
    path = {
        "hmac": opened(lasting_bot, shop, hmac="0" * 64),
        "age": opened(lasting_bot, shop, age=600),
        "shop": opened(lasting_bot, "evil.example"),
        "missing": f"/shopify/open?shop={shop}",
    }[defect]

    refused(merchant.get(path), 403, "login_refused")

    assert merchant.cookies == {}


def test_the_first_page_says_what_is_true(merchant: Merchant) -> None:
    """No code answers customers."""
    page = merchant.get("/", headers={"Accept": "text/html"}).text

    assert "answers your customers" not in page
    assert "keeps a copy" in page


def test_a_malformed_product_does_not_fail_its_shop(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """It is left out, and named in the log; what is stored of it stays, all others are fetched."""
    merchant.connect_shop(shop)
    good = lasting_bot.shopify.put_product(shop, title="Good", deliver=False).product_id
    bad = lasting_bot.shopify.put_product(shop, title="Before", deliver=False).product_id
    gone = lasting_bot.shopify.put_product(shop, title="Gone", deliver=False).product_id
    eventually(lambda: products_of(lasting_bot, shop) is not None, "the first sync")
    inbox_is_done(lasting_bot)
    lasting_bot.poll()

    lasting_bot.shopify.put_product(shop, bad, title="After", created_at="never", deliver=False)
    lasting_bot.shopify.put_product(shop, good, title="Better", deliver=False)
    lasting_bot.shopify.delete_product(shop, gone, deliver=False)
    # As if all of them had been stored long ago: what is newer than the polling stays anyway.
    path = next(
        key for key in lasting_bot.keys("users/") if key.endswith(f"{shop}/shop_products.json")
    )
    stored = lasting_bot.document(path)
    for product in stored["products"]:
        product["updated_at"] = "2026-01-01T00:00:00Z"
    lasting_bot.write(path, stored)
    lasting_bot.poll()

    titles = {one["id"]: one["title"] for one in products_of(lasting_bot, shop)["products"]}
    assert titles == {str(good): "Better", str(bad): "Before"}
    assert f"left out: a malformed product shop={shop} product={bad}" in lasting_bot.app.output()
