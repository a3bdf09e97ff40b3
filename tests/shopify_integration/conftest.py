"""Shopify's stand-in, and our requests to it without the rest of the app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.merchants.http_client import Outbound
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.grants import Grant
from shopify_integration.settings import ShopifySettings
from tests.support.clock import FixedClock
from tests.support.fake_shopify import FakeShopify

BOT = "https://bot.example"


@dataclass(frozen=True)
class Counter:
    """A shop's counterpart: our requests, and the platform that they go to."""

    shopify: FakeShopify
    admin: ShopifyAdmin
    clock: FixedClock

    def installed(self, shop: str) -> Grant:
        """The grant of a new shop that has just agreed."""
        self.shopify.add_shop(shop)
        return self.admin.exchange_code(shop, self.code(shop))

    def code(self, shop: str) -> str:
        """A code as the callback carries it."""
        query = parse_qs(urlsplit(self.shopify.callback_url(shop, "state")).query)
        return query["code"][0]


@pytest.fixture
def counter(shopify: FakeShopify) -> Iterator[Counter]:
    """The requests; their waiting ends with the test."""
    known = shopify.settings(BOT)
    settings = ShopifySettings(
        api_key=known["SHOPIFY_API_KEY"],
        api_secret=known["SHOPIFY_API_SECRET"],
        redirect_uri=known["SHOPIFY_REDIRECT_URI"],
        webhook_address=known["SHOPIFY_WEBHOOK_ADDRESS"],
        admin_url=known["SHOPIFY_ADMIN_URL"],
        version=known["SHOPIFY_API_VERSION"],
        scopes=("read_products",),
    )
    with closing(Outbound()) as outbound:
        clock = FixedClock(datetime.now(UTC))
        yield Counter(shopify, ShopifyAdmin(settings, outbound, clock), clock)
