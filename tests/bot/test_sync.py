"""Polling fetches what webhooks missed, with patience, and writes only what changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.fault_proxy import FaultProxy
from tests.support.s3_server import S3Server

_minutes = count()


def later() -> datetime:
    """A minute after the time before: what is said to a Page is said in this order."""
    return datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(minutes=next(_minutes))


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> Iterator[FaultProxy]:
    """What counts the writes to the bucket."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def running_bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    store: FaultProxy,
) -> Iterator[ConnectedBot]:
    """One for all tests here."""
    folder: Path = tmp_path_factory.mktemp("sync")
    bucket = store.settings(s3_server.settings_of_new_bucket())
    with ConnectedBot.started(folder, graph, shopify, bucket) as connected:
        yield connected


@pytest.fixture
def bot(running_bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify) -> ConnectedBot:
    """With platforms that are well, and have not been called."""
    for platform in (graph, shopify):
        platform.clear_faults()
        platform.clear_calls()
    graph.paging()
    return running_bot


def test_only_what_changed_is_written(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify, store: FaultProxy
) -> None:
    """Two pollings of the same write nothing; one new product writes one document."""
    graph.customer_says(bot.pages[0], bot.customer(), "Grüezi", later(), deliver=False)
    number = shopify.put_product(SHOP, title="Emmentaler", deliver=False).product_id
    bot.bot.poll()
    store.forget_requests()

    bot.bot.poll()
    bot.bot.poll()
    shopify.send_webhook(SHOP, "products/update", product_id=number)
    bot.settle()
    assert store.requests("PUT", "users/") == []

    shopify.put_product(SHOP, title="Gruyère", deliver=False)
    bot.bot.poll()
    assert [one.key for one in store.requests("PUT", "users/")] == [bot.products_key]


def test_all_pages_of_results_are_read(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """A conversation a page, an empty page in between; more products and variants than fit one."""
    page, customers = bot.pages[0], [bot.customer() for _ in range(5)]
    for customer in customers:
        graph.customer_says(page, customer, customer, later(), deliver=False)
    graph.paging(size=1, empty_page_after=2)
    variants = [{"title": f"{number} kg"} for number in range(31)]
    titles = [f"Cheese {number}" for number in range(26)]
    for title in titles:
        shopify.put_product(SHOP, deliver=False, title=title, variants=variants)

    bot.bot.poll()

    assert [bot.texts(page, customer) for customer in customers] == [[one] for one in customers]
    stored = {
        one["title"]: one["variants"] for one in bot.bot.document(bot.products_key)["products"]
    }
    assert {title: len(stored[title]) for title in titles} == dict.fromkeys(titles, 31)


def test_a_polling_does_not_shorten_a_conversation(bot: ConnectedBot, graph: FakeGraph) -> None:
    """It is told the newest twenty messages; what webhooks told before stays."""
    page, customer, first = bot.pages[1], bot.customer(), later()
    said = [
        graph.customer_says(
            page, customer, f"{number}", first + timedelta(seconds=number), deliver=False
        ).event
        for number in range(30)
    ]
    graph.send_webhook(said[:25])
    bot.settle()

    bot.bot.poll()

    assert bot.talk(page, customer)[:25] == said[:25]
    assert bot.texts(page, customer) == [f"{number}" for number in range(30)]


def test_a_deleted_product_is_not_brought_back(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """One that was deleted before the polling is gone by it, and a late change does not help."""
    put = shopify.put_product(SHOP, title="Gone")
    bot.settle()
    assert put.product_id in bot.products()
    shopify.delete_product(SHOP, put.product_id)
    bot.settle()

    bot.bot.poll()
    shopify.send_webhook(SHOP, "products/update", put.body)
    bot.settle()

    assert put.product_id not in bot.products()


def test_meta_is_given_time(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Passing faults (1, 2): asked again a second later, and all goes well."""
    page, customer = bot.pages[0], bot.customer()
    graph.customer_says(page, customer, "Grüezi", later(), deliver=False)
    for edge, first, second in (("subscribed_apps", 2, 1), ("page", 1, 2)):
        graph.fail(edge, first, subject=bot.pages[0])
        graph.fail(edge, second, subject=bot.pages[1])

    bot.bot.poll()

    assert bot.texts(page, customer) == ["Grüezi"]
    assert bot.to_reconnect() == []
    refused = [one for one in graph.calls() if one.status >= 400]
    assert len(refused) == 4
    for one in refused:
        again = [
            other.at
            for other in graph.calls(one.edge)
            if other.subject == one.subject and other.at > one.at
        ]
        assert min(again) - one.at >= 0.9


def test_shopify_is_given_time(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """THROTTLED with status 200, 429 with `Retry-After`, a fault of its own."""
    number = shopify.put_product(SHOP, title="Patience", deliver=False).product_id
    shopify.throttle("graphql:products", restore_rate=100.0, requested=20)
    shopify.answer_status("graphql:shop", 429, headers={"retry-after": "0.2"})
    shopify.fail("graphql:webhookSubscriptions", "INTERNAL_SERVER_ERROR")

    bot.bot.poll()

    assert bot.products()[number] == "Patience"
    assert bot.to_reconnect() == []


def test_one_failure_does_not_stop_the_others(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """A shop and a Page fail: the other Page is fetched; nothing is lost, and nothing marked."""
    customer = bot.customer()
    for page in bot.pages:
        graph.customer_says(page, customer, "Grüezi", later(), deliver=False)
    shopify.put_product(SHOP, title="Missed", deliver=False)
    before = bot.products()
    shopify.fail("graphql:products", "BAD_REQUEST")
    graph.fail("conversations", 100, subject=bot.pages[0])

    bot.bot.poll()

    assert "polled accounts=3 failed=2" in bot.log()
    assert bot.texts(bot.pages[0], customer) == []
    assert bot.texts(bot.pages[1], customer) == ["Grüezi"]
    assert bot.products() == before
    assert bot.to_reconnect() == []
    bot.bot.poll()
    assert bot.texts(bot.pages[0], customer) == ["Grüezi"]
    assert "Missed" in bot.products().values()


def test_subscriptions_that_were_dropped_are_made_again(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """A platform ends them after too many failures, and does not say so."""
    shopify.uninstall(SHOP, deliver=False)
    assert shopify.subscriptions(SHOP) == {}
    bot.bot.connect_shop(bot.browser)

    bot.bot.poll()

    assert "PRODUCTS_UPDATE" in shopify.subscriptions(SHOP)
    assert "messages" in (graph.subscribed_fields(bot.pages[0]) or [])


def test_a_rotated_page_token_is_fetched_anew(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Through the token of the user who granted it; nobody has to do anything."""
    page, customer = bot.pages[0], bot.customer()
    token = graph.rotate_page_token(page)
    graph.customer_says(page, customer, "Grüezi", later(), deliver=False)

    bot.bot.poll()

    assert bot.texts(page, customer) == ["Grüezi"]
    assert bot.to_reconnect() == []
    graph.clear_calls()
    bot.bot.poll()
    assert {one.token for one in graph.calls("conversations") if one.subject == page} == {token}
    assert graph.calls("accounts") == []
