"""One round of polling of large shops, by the real app: a sample of the shops of a large bot."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.databases import MEGABYTE
from benchmarks.measured import peak_memory
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.bot import Bot

TOPIC = "polling"
ROUND, ALL, MEMORY = "until all is stored", "1,000 such shops, extrapolated", "memory of the app"
SHOPS, PRODUCTS = 8, 5_000
_QUICK_SHOPS, _QUICK_PRODUCTS = 2, 1_200
_MANY = 1_000
# What the stand-in waits before each answer of the Admin API. The file of all products takes two
# looks, the first of which finds it unfinished, as at Shopify; it waits for 10 s in between.
ANSWER_SECONDS = 0.1
_PATIENCE_SECONDS = 1800.0


def name_of(shops: int, products: int) -> str:
    """What a line of the table is called."""
    return f"{shops} shops of {products:,} products"


def measure(plan: Plan, place: Place, results: Results) -> None:
    """The shops are connected and fetched; then one product of each changes, and all are polled.

    Each round reads all products of a shop, so the sample is a fair part of a whole round.
    """
    from tests.support.bot import Bot  # noqa: PLC0415 - not for `--help`
    from tests.support.fake_graph import FakeGraph  # noqa: PLC0415
    from tests.support.fake_shopify import FakeShopify  # noqa: PLC0415

    count, products = (_QUICK_SHOPS, _QUICK_PRODUCTS) if plan.quick else (SHOPS, PRODUCTS)
    who = name_of(count, products)
    say(f"  {who}")
    bucket = place.spaces(place.new_bucket())
    with (
        FakeGraph.started() as graph,
        FakeShopify.started() as shopify,
        Bot.started(place.new_folder("polling"), graph, shopify, bucket) as bot,
    ):
        shopify.configure(restore_rate=100_000.0)  # the limit of one shop is no other's
        named: dict[str, int] = {}
        with bot.browser() as browser:
            for number in range(count):
                shop = f"large-{number}.myshopify.com"
                shopify.add_shop(shop)
                titles = [f"Sbrinz {one}" for one in range(products)]
                named[shop] = shopify.put_products(shop, titles)[0]
                bot.connect_shop(browser, shop)
        _wait(bot, named, "Sbrinz 0")
        shopify.hang("graphql", ANSWER_SECONDS, times=None)
        for turn in range(1, plan.runs + 1):
            title = f"Sbrinz, change {turn}"
            for shop, product in named.items():
                shopify.put_product(shop, product, title=title, deliver=False)
            with peak_memory(bot.app.pid) as peak:
                began = time.perf_counter()
                bot.poll(_PATIENCE_SECONDS)
                _wait(bot, named, title)
                seconds = time.perf_counter() - began
            results.add(TOPIC, 0, who, ROUND, "s", [seconds])
            results.add(TOPIC, 0, who, ALL, "h", [seconds * _MANY / count / 3600])
            results.add(TOPIC, 0, who, MEMORY, "MB", [peak[0] / MEGABYTE])


def _wait(bot: Bot, named: Mapping[str, int], title: str) -> None:
    """Until each shop's product has this title in the store, and no file is waited for."""
    left = set(named)

    def all_stored() -> bool:
        keys = bot.keys()
        for shop in sorted(left):
            own = [key for key in keys if f"/shopify/{shop}/" in key]
            if any("/products_bulk/" in key for key in own):
                return False
            products = (
                one
                for key in own
                if "/shop_products" in key
                for one in (bot.document(key) or {}).get("products", ())
            )
            if not any(one["id"] == str(named[shop]) and one["title"] == title for one in products):
                return False
            left.discard(shop)
        return True

    eventually(all_stored, "all products to be stored", seconds=_PATIENCE_SECONDS)
