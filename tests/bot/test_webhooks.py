"""What webhooks tell ends up in the documents: once, merged, and whatever else comes with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot, statuses
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)


@pytest.fixture(scope="module")
def bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[ConnectedBot]:
    """One for all tests here: each has customers and products of its own."""
    folder: Path = tmp_path_factory.mktemp("webhooks")
    bucket = s3_server.settings_of_new_bucket()
    with ConnectedBot.started(folder, graph, shopify, bucket) as connected:
        yield connected


# --- Facebook -------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_one_post_tells_of_several_pages(
    bot: ConnectedBot, graph: FakeGraph, grouped: bool
) -> None:
    """Shuffled and sent three times: each message is in its conversation once, in order."""
    customers = [bot.customer(), bot.customer()]
    events = [
        graph.customer_says(
            page, customer, f"{number}", NOON + timedelta(seconds=number), deliver=False
        ).event
        for number in range(6)
        for page, customer in zip(bot.pages, customers, strict=True)
    ]

    sent = graph.send_webhook(events, order="shuffled", grouped=grouped, copies=3)
    bot.settle()

    assert statuses(sent) == [200] * 3
    for page, customer in zip(bot.pages, customers, strict=True):
        assert bot.texts(page, customer) == [f"{number}" for number in range(6)]
    assert bot.bot.document(bot.talk_key(bot.pages[0], customers[1])) is None


def test_events_that_come_late_are_put_in_their_place(bot: ConnectedBot, graph: FakeGraph) -> None:
    """A POST for each, the newest first."""
    page, customer = bot.pages[0], bot.customer()
    events = [
        graph.customer_says(
            page, customer, f"{number}", NOON + timedelta(seconds=number), deliver=False
        ).event
        for number in range(5)
    ]

    graph.send_webhook(events, order="reversed", one_post=False)
    bot.settle()

    assert bot.texts(page, customer) == ["0", "1", "2", "3", "4"]


def test_the_same_mid_is_the_same_message(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Sent again, it is answered 200 and changes nothing, whatever else is in it."""
    page, customer = bot.pages[0], bot.customer()
    said = graph.customer_says(page, customer, "Grüezi", NOON)
    bot.settle()
    known = bot.events()
    altered: dict[str, Any] = {**said.event, "message": {"mid": said.mid, "text": "other"}}

    assert statuses(graph.send_webhook([said.event, altered])) == [200]
    bot.settle()

    assert bot.events() == known
    assert bot.talk(page, customer) == [said.event]


def test_echoes_and_postbacks_are_part_of_the_conversation(
    bot: ConnectedBot, graph: FakeGraph
) -> None:
    """What the Page answers, and which button the customer pressed, as they were sent."""
    page, customer = bot.pages[1], bot.customer()
    said = graph.customer_says(page, customer, "Offen?", NOON, deliver=False)
    pressed = graph.postback(page, customer, "Buy", "BUY-1", LATER, f"m_{customer}")
    echo = graph.page_says(page, customer, "Ja", NOON + timedelta(seconds=5), deliver=False)

    graph.send_webhook([pressed, echo.event, said.event], grouped=True)
    bot.settle()

    assert bot.talk(page, customer) == [said.event, echo.event, pressed]
    assert bot.talk(page, customer)[1]["message"]["is_echo"] is True


def test_receipts_leave_no_trace(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Delivered and read are not part of what was said."""
    page, customer = bot.pages[0], bot.customer()
    receipt = {"sender": {"id": customer}, "recipient": {"id": page}, "timestamp": 1}
    known = bot.events()

    sent = graph.send_webhook(
        [{**receipt, "read": {"watermark": 1}}, {**receipt, "delivery": {"watermark": 1}}]
    )

    assert statuses(sent) == [200]
    assert bot.events() == known


def test_a_change_of_the_profile_is_fetched(bot: ConnectedBot, graph: FakeGraph) -> None:
    """News come in any order, so the Page is asked what is true now."""
    page = bot.pages[0]
    graph.change_page(page, name="Käsehaus Zürich", category="Food")

    graph.send_webhook(changes=[(page, "name", "an older name"), (page, "category", "Food")])

    eventually(
        lambda: bot.bot.document(bot.page_key(page))["name"] == "Käsehaus Zürich", "the new name"
    )
    assert bot.bot.document(bot.page_key(page))["category"] == "Food"


# --- Shopify --------------------------------------------------------------------------------


def test_products_follow_their_webhooks(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """Created, changed, deleted."""
    number = shopify.put_product(SHOP, title="Emmentaler").product_id
    eventually(lambda: bot.products().get(number) == "Emmentaler", "the product")

    shopify.put_product(SHOP, number, title="Emmentaler, 12 months")
    eventually(lambda: bot.products().get(number) == "Emmentaler, 12 months", "the change")

    shopify.delete_product(SHOP, number)
    eventually(lambda: number not in bot.products(), "the deletion")


def test_the_same_webhook_id_is_the_same_event(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """Sent three times and once more with other content: the first one counts, once."""
    put = shopify.put_product(SHOP, title="Once", deliver=False)
    known = bot.events()

    first = shopify.send_webhook(SHOP, "products/create", put.body, copies=3)
    again = shopify.send_webhook(
        SHOP,
        "products/update",
        {**put.body, "title": "Twice", "updated_at": "2099-01-01T00:00:00Z"},
        webhook_id=first.webhook_id,
    )
    bot.settle()

    assert statuses([*first.deliveries, *again.deliveries]) == [200] * 4
    assert bot.events() == known + 1
    assert bot.products()[put.product_id] == "Once"


def test_old_news_are_dropped(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """An older change does not undo a newer one, nor bring back what was deleted since."""
    put = shopify.put_product(SHOP, title="Old", deliver=False)
    number = put.product_id
    # By the clock, as the products of the other tests: what was deleted is forgotten in days.
    changed = datetime.now(UTC).replace(microsecond=0)
    earlier = (changed - timedelta(seconds=5)).isoformat()
    news = {**put.body, "title": "New", "updated_at": changed.isoformat()}
    older = {**put.body, "title": "Old", "updated_at": earlier}

    shopify.send_webhook(SHOP, "products/update", news)
    bot.settle()
    shopify.send_webhook(SHOP, "products/update", older)
    bot.settle()
    assert bot.products()[number] == "New"

    shopify.send_webhook(
        SHOP, "products/delete", {"id": number}, triggered_at=changed + timedelta(seconds=1)
    )
    shopify.send_webhook(SHOP, "products/update", news)
    bot.settle()
    assert number not in bot.products()


def test_a_change_of_the_shop_is_fetched(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """The shop is asked what is true now."""
    shopify.change_shop(SHOP, name="Käsehaus Zürich", email="new@example.com")

    eventually(lambda: bot.bot.document(bot.shop_key)["name"] == "Käsehaus Zürich", "the new name")
    assert bot.bot.document(bot.shop_key)["email"] == "new@example.com"


@pytest.mark.parametrize("topic", ["customers/data_request", "customers/redact"])
def test_requests_about_customers_are_accepted(
    bot: ConnectedBot, shopify: FakeShopify, topic: str
) -> None:
    """Nothing is stored of a shop's customers; the documents stay, and the log says so."""
    before = bot.bot.keys()

    assert statuses(shopify.send_webhook(SHOP, topic).deliveries) == [200]
    bot.settle()

    assert bot.bot.keys() == before
    assert f"nothing is stored of customers shop={SHOP} topic={topic}" in bot.log()


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("products/update", b'{"id": null}'),
        ("products/update", b'{"id": 1, "updated_at": "0001-01-01T00:00:00+14:00"}'),
        ("products/update", b'{"id": 1, "variants": [{}]}'),
        ("products/delete", b"{}"),
        ("orders/create", b"{}"),
    ],
)
def test_what_is_not_understood_does_not_stop_the_rest(
    bot: ConnectedBot, shopify: FakeShopify, topic: str, body: bytes
) -> None:
    """It is answered 200, and dropped with a line in the log; what comes with it is done."""
    sent = shopify.send_webhook(SHOP, topic, body)
    number = shopify.put_product(SHOP, title="Sound").product_id
    bot.settle()

    assert statuses(sent.deliveries) == [200]
    assert bot.products()[number] == "Sound"


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b"\xff\xfe"])
def test_what_is_no_json_is_refused(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify, body: bytes
) -> None:
    """Also when it is signed: no platform sends it, and it does not get into the inbox."""
    known = bot.events()

    sent = [graph.send_raw_webhook(body)]
    sent += shopify.send_webhook(SHOP, "products/update", body).deliveries

    assert statuses(sent) == [400, 400]
    assert bot.events() == known


# --- an inbox that cannot be written --------------------------------------------------------


def test_what_could_not_be_kept_is_sent_again(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """Nobody is told 200 while the inbox cannot be opened; the sender's retry is kept, once."""
    page, customer = bot.pages[0], bot.customer()
    said = graph.customer_says(page, customer, "Grüezi", NOON, deliver=False)
    put = shopify.put_product(SHOP, title="Sbrinz", deliver=False)
    inbox = bot.bot.installation.folder / "data" / "inbox.db"

    aside = inbox.with_name("aside.db")
    inbox.rename(aside)
    inbox.mkdir()  # as a volume that is mounted at the wrong place
    try:
        refused = graph.send_webhook([said.event])
        told = shopify.send_webhook(SHOP, "products/create", put.body)
    finally:
        inbox.rmdir()
        aside.rename(inbox)
    assert all(status >= 500 for status in statuses([*refused, *told.deliveries]))

    graph.send_webhook([said.event], copies=2)
    shopify.send_webhook(SHOP, "products/create", put.body, webhook_id=told.webhook_id, copies=2)
    bot.settle()
    assert bot.talk(page, customer) == [said.event]
    assert bot.products()[put.product_id] == "Sbrinz"
