"""A burst of webhooks while backups run: nothing is refused, lost, or stored twice."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server

SECONDS = 5.0
MEGABYTES = 48


def test_a_burst_during_a_backup(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, bucket: str
) -> None:
    """500 signed events in 5 s, of both platforms: all 200, all stored once, and the sets good."""
    with (
        ConnectedBot.started(
            tmp_path, graph, shopify, s3_server.settings(bucket), BACKUP_CHANGE_DELAY="0"
        ) as bot,
        ThreadPoolExecutor(3) as pool,
    ):
        bot.bot.installation.grow_tokens(MEGABYTES)
        shopify.put_product(SHOP, title="Template", deliver=False)
        burst_is_over = threading.Event()

        def back_up() -> list[str]:
            outcomes = []
            with bot.bot.app.client() as admin:
                while not burst_is_over.is_set():
                    run = admin.post("/admin/backups/run", params={"wait": "true"}).json()
                    outcomes.append(run["status"])
            return outcomes

        backups = pool.submit(back_up)
        messages = pool.submit(graph.burst, 250, SECONDS, pages=bot.pages, customers=10)
        products = pool.submit(shopify.burst, SHOP, 250, SECONDS)
        told = (messages.result(), products.result())
        burst_is_over.set()

        assert [one.statuses for one in told] == [Counter({200: 250})] * 2
        assert set(backups.result()) == {"succeeded"}
        bot.settle()
        folder = f"users/{bot.user}/facebook/"
        talks = [k for page in bot.pages for k in bot.bot.keys(f"{folder}{page}/conversations/")]
        stored = Counter(
            event["message"]["mid"] for key in talks for event in bot.bot.document(key)
        )
        assert stored == Counter(told[0].ids)
        burst_products = [number for number in bot.products() if number >= 9_900_000_000_000]
        assert burst_products == list(range(9_900_000_000_000, 9_900_000_000_250))
