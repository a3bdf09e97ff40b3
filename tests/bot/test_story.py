"""The whole story: a merchant connects, data flows, a disaster, a restore, and it all goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.support.bot import SHOP, Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

CUSTOMER = "7001002003"


def test_the_whole_story(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, bucket: str
) -> None:
    """From the first login to the day after the disaster, with the same user and no new login."""
    with (
        Bot.started(
            tmp_path, graph, shopify, s3_server.settings(bucket), BACKUP_CHANGE_DELAY="1"
        ) as bot,
        bot.browser() as browser,
    ):
        cheese = shopify.put_product(SHOP, title="Emmentaler", deliver=False).product_id
        pages = [graph.add_page("Käsehaus"), graph.add_page("Käsehaus Wien")]

        # The merchant connects a shop, then two Pages.
        assert bot.front(browser) == {
            "session": False,
            "shops": [],
            "pages": [],
            "next": "Connect a shop: open /shopify/YOUR-SHOP/login in a browser.",
        }
        assert [one["state"] for one in bot.connect_shop(browser)["shops"]] == ["connected"]
        connected = bot.connect_pages(browser)
        assert [one["account"] for one in connected["pages"]] == sorted(pages)

        # Products and messages arrive by webhook and by polling.
        eventually(lambda: len(bot.keys()) >= 4, "the first sync")
        user = bot.user()
        products = f"users/{user}/shopify/{SHOP}/shop_products.json"
        talk = f"users/{user}/facebook/{pages[0]}/conversations/{CUSTOMER}.json"

        def titles() -> list[str]:
            document = bot.document(products) or {"products": []}
            return [product["title"] for product in document["products"]]

        def texts() -> list[str]:
            return [event["message"]["text"] for event in bot.document(talk) or []]

        eventually(lambda: titles() == ["Emmentaler"], "the product from the first polling")
        assert set(shopify.subscriptions(SHOP)) >= {"PRODUCTS_UPDATE", "APP_UNINSTALLED"}
        shopify.put_product(SHOP, cheese, title="Emmentaler, 12 months")
        graph.customer_says(pages[0], CUSTOMER, "Grüezi", datetime(2026, 11, 22, 9, tzinfo=UTC))
        eventually(lambda: titles() == ["Emmentaler, 12 months"], "the product by webhook")
        eventually(lambda: texts() == ["Grüezi"], "the message by webhook")
        graph.customer_says(
            pages[0], CUSTOMER, "Offen?", datetime(2026, 11, 22, 9, 5, tzinfo=UTC), deliver=False
        )
        shopify.put_product(SHOP, title="Gruyère", deliver=False)
        bot.poll()
        assert titles() == ["Emmentaler, 12 months", "Gruyère"]
        assert texts() == ["Grüezi", "Offen?"]

        # A token rotates, and the change run stores it.
        before = bot.installation.json("status")["newest_restore_point"]["id"]
        shopify.expire_access_token(SHOP)
        rotated = shopify.token(SHOP)
        bot.poll()
        assert shopify.token(SHOP) != rotated

        def newest() -> str:
            return str(bot.installation.json("status")["newest_restore_point"]["id"])

        eventually(lambda: newest() > before, "the change run")

        # Both databases are destroyed, and brought back.
        for path in (bot.installation.tokens_path, bot.installation.sessions_path):
            path.write_bytes(b"not a database any more")
        bot.installation.json("restore", "--in-place", "--yes")

        # It goes on: same user, no new login.
        assert bot.front(browser)["session"] is True
        shopify.put_product(SHOP, title="Sbrinz")
        graph.customer_says(pages[0], CUSTOMER, "Danke", datetime(2026, 11, 22, 10, tzinfo=UTC))
        eventually(lambda: "Sbrinz" in titles(), "a webhook after the restore")
        eventually(lambda: texts()[-1:] == ["Danke"], "a message after the restore")
        shopify.put_product(SHOP, title="Tilsiter", deliver=False)
        bot.poll()
        assert "Tilsiter" in titles()
        front = bot.front(browser)
        states = [one["state"] for one in (*front["shops"], *front["pages"])]
        assert states == ["connected"] * 3
        assert bot.user() == user
