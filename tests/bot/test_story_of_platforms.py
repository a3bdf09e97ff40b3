"""The story of a merchant on the real platforms: each limit and edge ends as they would expect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from facebook_integration.granted import BUSINESS_SCOPE
from facebook_integration.graph import SCOPES
from tests.bot.conftest import inbox_is_done, is_fetched, products_of
from tests.support.bot import SHOP, Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

CONFIG = "990011"
CUSTOMER = "7001002003"
LARGE, LARGER = "large.myshopify.com", "larger.myshopify.com"
PAGES = "graphql:products"


@dataclass
class Merchant:
    """A merchant with a shop and Pages, what they see at `/`, and what is stored of them."""

    bot: Bot
    browser: httpx2.Client
    minutes: Iterator[int]

    def sees(self, account: str) -> dict[str, Any]:
        """What `/` says of a shop or a Page."""
        front = self.bot.front(self.browser)
        seen: dict[str, Any] = next(
            one for one in (*front["shops"], *front["pages"]) if one["account"] == account
        )
        return seen

    def state(self, account: str) -> str:
        """`connected`, `reconnect` or `unavailable`."""
        return str(self.sees(account)["state"])

    def hears(self, page: str, text: str, *, deliver: bool = True) -> None:
        """A customer writes to a Page, later than before."""
        at = datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(minutes=next(self.minutes))
        self.bot.graph.customer_says(page, CUSTOMER, text, at, deliver=deliver)

    def texts(self, page: str) -> list[str]:
        """What is stored of the customer's conversation with a Page."""
        ends = f"/facebook/{page}/conversations/{CUSTOMER}.json"
        keys = [key for key in self.bot.keys("users/") if key.endswith(ends)]
        events = self.bot.document(keys[0]) if keys else []
        return [event["message"]["text"] for event in events if "message" in event]

    def products(self, shop: str) -> list[dict[str, Any]]:
        """The stored products of a shop."""
        keys = [
            key
            for key in self.bot.keys("users/")
            if f"/shopify/{shop}/shop_products" in key  # the document, or its pieces
        ]
        return [one for key in keys for one in (self.bot.document(key) or {}).get("products", ())]


@pytest.fixture(scope="module")
def merchant(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[Merchant]:
    """One story for all links below: each leaves all connected."""
    folder: Path = tmp_path_factory.mktemp("platforms")
    bucket = s3_server.settings_of_new_bucket()
    with (
        Bot.started(folder, graph, shopify, bucket, FACEBOOK_CONFIG_ID=CONFIG) as bot,
        bot.browser() as browser,
    ):
        graph.add_config(CONFIG, *SCOPES, BUSINESS_SCOPE)
        url = bot.app.url
        graph.register(
            deauthorize=f"{url}/facebook/deauthorize", deletion=f"{url}/facebook/data-deletion"
        )
        bot.connect_shop(browser)
        # It is told of no change before it has subscribed.
        eventually(lambda: products_of(bot, SHOP) is not None, "the first sync")
        yield Merchant(bot, browser, count())


@pytest.fixture
def page(merchant: Merchant) -> str:
    """A new Page that the merchant has connected, by whoever uses the browser."""
    found = merchant.bot.graph.add_page()
    merchant.bot.graph.user_grants([found])
    merchant.bot.connect_pages(merchant.browser)
    is_fetched(merchant.bot, found)
    return found


def test_two_admins_of_a_page(merchant: Merchant, page: str) -> None:
    """The second one grants it, too; the first one leaves, and nothing changes for the merchant."""
    graph, first = merchant.bot.graph, merchant.bot.graph.user_id
    graph.become()
    merchant.bot.connect_pages(merchant.browser)
    second = graph.user_id
    graph.become(first)
    graph.revoke_user()
    graph.deauthorize(user_id=first)
    inbox_is_done(merchant.bot)
    graph.become(second)

    merchant.hears(page, "Grüezi", deliver=False)
    merchant.bot.poll()

    assert merchant.state(page) == "connected"
    assert merchant.texts(page) == ["Grüezi"]


def test_a_page_of_a_portfolio(merchant: Merchant) -> None:
    """`me/accounts` does not have it."""
    graph = merchant.bot.graph
    held = graph.add_page("Käsehaus AG", business=graph.add_business())
    graph.user_grants([held])
    merchant.bot.connect_pages(merchant.browser)

    assert merchant.state(held) == "connected"


def test_a_product_with_250_variants(merchant: Merchant) -> None:
    """The webhook has 100 of them."""
    variants = [{"title": f"{number} kg"} for number in range(250)]
    put = merchant.bot.shopify.put_product(SHOP, title="Sbrinz", variants=variants)
    inbox_is_done(merchant.bot)

    stored = {one["id"]: len(one["variants"]) for one in merchant.products(SHOP)}
    assert stored[str(put.product_id)] == 250
    assert merchant.state(SHOP) == "connected"


def test_a_shop_that_hangs_holds_up_nobody_else(merchant: Merchant, page: str) -> None:
    """Its polling waits for an answer; the Page of another merchant is polled meanwhile."""
    bot, hung = merchant.bot, "hung.myshopify.com"
    bot.shopify.add_shop(hung)
    with bot.browser() as other:
        bot.connect_shop(other, hung)
    eventually(lambda: products_of(bot, hung) is not None, "the first sync")
    bot.shopify.hang("graphql", 120, times=None, subject=hung)
    merchant.hears(page, "Grüezi", deliver=False)
    with bot.app.client() as admin:
        assert admin.post("/admin/sync").status_code == 202
    eventually(lambda: merchant.texts(page) == ["Grüezi"], "the message")

    assert merchant.state(page) == "connected"
    before = bot.app.output().count(": polled")
    bot.shopify.clear_faults()
    eventually(lambda: bot.app.output().count(": polled") > before, "the end", seconds=90)


def test_a_restart_in_the_middle_of_a_large_sync(merchant: Merchant) -> None:
    """It goes on with the next page: hardly any is asked for twice."""
    bot, titles = merchant.bot, [f"Cheese {number:03}" for number in range(600)]
    bot.shopify.configure(restore_rate=100_000.0)
    bot.shopify.add_shop(LARGE)
    bot.shopify.put_products(LARGE, titles)
    bot.shopify.clear_calls()
    bot.shopify.hang(PAGES, 120, times=None, skip=10, subject=LARGE)
    with bot.browser() as browser:
        bot.connect_shop(browser, LARGE)
        eventually(lambda: len(pages_read(bot, LARGE)) == 10, "ten pages")
        eventually(lambda: len(merchant.products(LARGE)) == 200, "what was read by then")
        bot.kill_and_start()
        bot.shopify.clear_faults()

        eventually(lambda: len(merchant.products(LARGE)) == 600, "all products", seconds=60)

        (shop,) = bot.front(browser)["shops"]
    assert (shop["account"], shop["state"]) == (LARGE, "connected")
    # The one that hung may have been answered, to nobody.
    assert len(pages_read(bot, LARGE)) <= 24 + 2
    eventually(lambda: not pages_kept(bot), "the pages to be forgotten")


def pages_read(bot: Bot, shop: str) -> list[int]:
    """The statuses of the answered requests for a page of a shop's products."""
    return [one.status for one in bot.shopify.calls(PAGES) if one.subject == shop and one.status]


def pages_kept(bot: Bot) -> list[str]:
    """The stored pages of readings that are not over."""
    return [key for key in bot.keys("users/") if "/products_read/" in key]


def test_restarts_in_the_middle_of_a_sync_of_20_000_products(merchant: Merchant) -> None:
    """While Shopify prepares the file of all, and while they are stored: it is begun once."""
    bot, titles = merchant.bot, [f"Cheese {number:05}" for number in range(20_000)]
    bot.shopify.configure(restore_rate=100_000.0)
    bot.shopify.add_shop(LARGER)
    bot.shopify.put_products(LARGER, titles)
    with bot.browser() as browser:
        bot.connect_shop(browser, LARGER)
        eventually(lambda: bot.shopify.calls("graphql:bulkOperation"), "the first look")
        bot.kill_and_start()
        eventually(lambda: catalogue(bot, LARGER), "the first products", seconds=120)
        bot.kill_and_start()

        eventually(lambda: bulk_is_over(bot, LARGER), "all products", seconds=300)

    bot.shopify.uninstall(LARGER)  # no later polling reads all of that again
    inbox_is_done(bot)
    stored = merchant.products(LARGER)
    assert sorted(one["title"] for one in stored) == titles
    begun = [one for one in bot.shopify.calls("graphql:bulkOperationRunQuery") if one.status]
    assert len(begun) == 1
    assert pages_read(bot, LARGER) == []
    # The address of the file opens it for whoever has it.
    assert "Signature=abc" not in bot.app.output()


def catalogue(bot: Bot, shop: str) -> list[str]:
    """The keys of the stored products of a shop."""
    return [key for key in bot.keys("users/") if f"/shopify/{shop}/shop_products" in key]


def bulk_is_over(bot: Bot, shop: str) -> bool:
    """Whether no file of all products is waited for, or being stored."""
    return not [key for key in bot.keys("users/") if f"/shopify/{shop}/products_bulk/" in key]


def test_a_frozen_shop(merchant: Merchant) -> None:
    """`/` says why; it goes on by itself when its owner has paid."""
    merchant.bot.shopify.answer_status("graphql", 402, times=None)
    merchant.bot.poll()
    assert merchant.state(SHOP) == "unavailable"
    assert "frozen" in merchant.sees(SHOP)["reason"]

    merchant.bot.shopify.clear_faults()
    merchant.bot.poll()
    assert merchant.state(SHOP) == "connected"


def test_a_reinstalled_shop(merchant: Merchant) -> None:
    """The app was removed, and comes back: with all that was stored before."""
    before = merchant.products(SHOP)
    merchant.bot.shopify.uninstall(SHOP)
    inbox_is_done(merchant.bot)
    assert merchant.state(SHOP) == "reconnect"

    merchant.bot.connect_shop(merchant.browser)
    inbox_is_done(merchant.bot)

    assert merchant.state(SHOP) == "connected"
    assert merchant.products(SHOP) == before


def test_a_page_that_is_gone(merchant: Merchant, page: str) -> None:
    """`/` says so, and that an admin may bring it back; what was said there is kept."""
    merchant.hears(page, "Grüezi")
    inbox_is_done(merchant.bot)
    merchant.bot.graph.fail("*", 100, subcode=33, subject=page, times=None)
    merchant.bot.poll()
    assert merchant.state(page) == "unavailable"
    assert merchant.texts(page) == ["Grüezi"]

    merchant.bot.graph.clear_faults()
    merchant.bot.poll()
    assert merchant.state(page) == "connected"


def test_a_second_app_on_the_page(merchant: Merchant, page: str) -> None:
    """It answers the customer for a while, and everything that is said is stored."""
    merchant.bot.poll()  # subscribes
    merchant.hears(page, "Grüezi")
    merchant.bot.graph.hand_over(page, CUSTOMER)
    merchant.hears(page, "Ein Mensch?")
    merchant.bot.graph.hand_over(page, CUSTOMER, back=True)
    merchant.hears(page, "Danke")
    inbox_is_done(merchant.bot)

    assert merchant.texts(page) == ["Grüezi", "Ein Mensch?", "Danke"]
    assert merchant.state(page) == "connected"


def test_a_limit_of_meta(merchant: Merchant, page: str) -> None:
    """Nothing is asked until it is over; then the polling is made up for, and `/` never alarms.

    Here it lasts three seconds; `test_a_limit_of_37_minutes_is_kept` has a clock of its own.
    """
    graph = merchant.bot.graph
    merchant.hears(page, "Grüezi", deliver=False)
    graph.limit(80006, subject=page, headers={"retry-after": "3"})
    graph.clear_calls()
    merchant.bot.poll()
    assert merchant.state(page) == "connected"
    graph.clear_faults()

    eventually(lambda: merchant.texts(page) == ["Grüezi"], "the message")

    refused, *others = [one for one in graph.calls() if one.subject == page]
    assert refused.status == 400
    assert min(one.at for one in others) - refused.at >= 3
    assert merchant.state(page) == "connected"
