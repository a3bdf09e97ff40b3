"""What is wrong with one account is wrong with that account alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
# Longer than any test.
FOR_EVER = 600.0


def test_a_shop_that_hangs_holds_up_no_other_account(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, bucket: str
) -> None:
    """Its Admin API never answers: messages to twenty Pages and the first sync are stored."""
    bucket_settings = s3_server.settings(bucket)
    with ConnectedBot.started(
        tmp_path, graph, shopify, bucket_settings, BACKUP_CHANGE_DELAY="0"
    ) as bot:
        pages = [graph.add_page(f"Käsehaus {number}") for number in range(20)]
        customer = bot.customer()
        shopify.hang("graphql", FOR_EVER, times=None, subject=SHOP)
        shopify.change_shop(SHOP, name="Käsehaus Zürich")
        bot.bot.connect_shop(bot.browser)  # its first sync hangs
        bot.bot.connect_pages(bot.browser)

        for page in pages:
            graph.customer_says(page, customer, "Grüezi", NOON)

        keys = {bot.talk_key(page, customer) for page in pages}
        keys |= {bot.page_key(page) for page in pages}
        eventually(lambda: keys <= set(bot.bot.keys()), "all messages and first syncs")
        assert all(bot.texts(page, customer) == ["Grüezi"] for page in pages)
        eventually(lambda: bot.waiting() == 1, "all but the update of the shop")
        assert bot.first_syncs() == 1
        shopify.clear_faults()
