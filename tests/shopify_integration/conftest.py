"""Shopify's stand-in, and our requests to it without the rest of the app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from shared.merchants.http_client import Outbound
from shared.merchants.platform import Workplace
from shared.store.directory import DirectoryStore
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.grants import Grant
from shopify_integration.settings import ShopifySettings
from shopify_integration.shops import Shops
from shopify_integration.sync import ShopSync
from tests.support.clock import FixedClock
from tests.support.fake_shopify import FakeShopify
from tests.support.workplace import workplace

BOT = "https://bot.example"
SHOP = "kaesehaus.myshopify.com"
USER = str(UUID(int=7))
FOLDER = f"users/{USER}/shopify/{SHOP}/"


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
        return code_of(self.shopify, shop)


@dataclass(frozen=True)
class Desk:
    """What works for the one shop of a user: `sync.poll`."""

    shopify: FakeShopify
    clock: FixedClock
    settings: ShopifySettings
    place: Workplace
    store: DirectoryStore

    def started(self) -> ShopSync:
        """What a new process of the app has: it knows nothing but what is stored."""
        admin = ShopifyAdmin(self.settings, self.place.outbound, self.clock)
        return ShopSync(Shops(self.place.tokens, admin, self.clock), admin, self.place)

    def connected(self) -> None:
        """The shop agrees, and is connected."""
        admin = ShopifyAdmin(self.settings, self.place.outbound, self.clock)
        self.shopify.add_shop(SHOP)
        grant = admin.exchange_code(SHOP, code_of(self.shopify, SHOP))
        Shops(self.place.tokens, admin, self.clock).connect(SHOP, grant, USER)

    def stored(self) -> list[dict[str, Any]]:
        """The stored products, in the order of their ids."""
        head = self.place.data.read(f"{FOLDER}shop_products.json") or {"products": []}
        pieces = [self.place.data.read(f"{FOLDER}{name}") for name in head.get("pieces", ())]
        found = [product for one in (head, *pieces) for product in one["products"]]
        return sorted(found, key=lambda product: int(product["id"]))

    def products(self) -> list[str]:
        """The titles of the stored products."""
        return sorted(product["title"] for product in self.stored())

    def pages(self) -> list[str]:
        """The names of the pages that a reading has stored."""
        prefix = f"{FOLDER}products_read/"
        return [key.removeprefix(prefix) for key in self.place.data.keys(prefix)]


def code_of(shopify: FakeShopify, shop: str) -> str:
    """A code as the callback carries it."""
    query = parse_qs(urlsplit(shopify.callback_url(shop, "state")).query)
    return query["code"][0]


@pytest.fixture
def settings(shopify: FakeShopify) -> ShopifySettings:
    """Those of an app that the stand-in knows."""
    known = shopify.settings(BOT)
    return ShopifySettings(
        api_key=known["SHOPIFY_API_KEY"],
        api_secret=known["SHOPIFY_API_SECRET"],
        redirect_uri=known["SHOPIFY_REDIRECT_URI"],
        webhook_address=known["SHOPIFY_WEBHOOK_ADDRESS"],
        admin_url=known["SHOPIFY_ADMIN_URL"],
        version=known["SHOPIFY_API_VERSION"],
        scopes=("read_products",),
    )


@pytest.fixture
def counter(shopify: FakeShopify, settings: ShopifySettings) -> Iterator[Counter]:
    """The requests; their waiting ends with the test."""
    with closing(Outbound()) as outbound:
        clock = FixedClock(datetime.now(UTC))
        yield Counter(shopify, ShopifyAdmin(settings, outbound, clock), clock)


@pytest.fixture
def desk(shopify: FakeShopify, settings: ShopifySettings, tmp_path: Path) -> Iterator[Desk]:
    """Everything real but the clock, with a connected shop."""
    clock = FixedClock(datetime.now(UTC))
    with workplace(tmp_path, clock) as (place, store):
        found = Desk(shopify, clock, settings, place, store)
        found.connected()
        shopify.configure(restore_rate=1000.0)  # as a shop with the plan Plus has
        yield found
