"""An event that was answered 200 is not lost by a power cut, or by a store that is down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot, statuses
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.fault_proxy import FaultProxy, refuse
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> Iterator[FaultProxy]:
    """What stands between the bot and its bucket."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    store: FaultProxy,
) -> Iterator[ConnectedBot]:
    """One for all tests here, which leave it well."""
    folder: Path = tmp_path_factory.mktemp("durability")
    bucket = store.settings(s3_server.settings_of_new_bucket())
    with ConnectedBot.started(folder, graph, shopify, bucket, BACKUP_CHANGE_DELAY="0") as connected:
        yield connected


def test_a_kill_right_after_the_answers_loses_nothing(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify, store: FaultProxy
) -> None:
    """Killed before any of it was done: after the start every event is in the store, once."""
    page, customer = bot.pages[0], bot.customer()
    store.on(refuse(403, "AccessDenied"), method="PUT", key="users/")
    events = [
        graph.customer_says(
            page, customer, f"{number}", NOON + timedelta(seconds=number), deliver=False
        ).event
        for number in range(20)
    ]

    sent = graph.send_webhook(events, one_post=False, copies=2)
    put = shopify.put_product(SHOP, title="Emmentaler")
    assert bot.waiting() == 21
    bot.bot.app.kill()
    store.lift()
    assert bot.talk(page, customer) == []
    bot.bot.kill_and_start()

    assert set(statuses([*sent, *put.deliveries])) == {200}
    bot.settle()
    assert bot.talk(page, customer) == events
    assert bot.products()[put.product_id] == "Emmentaler"


def test_a_kill_in_the_middle_of_the_work_loses_nothing(
    bot: ConnectedBot, graph: FakeGraph, store: FaultProxy
) -> None:
    """Some of it is stored, and not yet known to be done: it is done again, and is there once."""
    customers = [bot.customer() for _ in range(8)]
    page = bot.pages[0]
    events = [
        graph.customer_says(page, customer, customer, NOON, deliver=False).event
        for customer in customers
    ]
    store.forget_requests()
    store.on(refuse(403, "AccessDenied"), method="PUT", key="users/", skip=3)

    graph.send_webhook(events)
    eventually(lambda: len(store.requests("PUT", "conversations/")) >= 4, "the middle of it")
    bot.bot.app.kill()
    store.lift()
    assert 0 < sum(bool(bot.talk(page, one)) for one in customers) < 8
    bot.bot.kill_and_start()

    bot.settle()
    assert [bot.texts(page, one) for one in customers] == [[one] for one in customers]


def test_a_store_that_is_down_costs_nothing_but_time(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify, store: FaultProxy
) -> None:
    """Webhooks are answered 200 all the same, and are in the store when it is back."""
    page, customer = bot.pages[0], bot.customer()
    store.on(refuse(403, "AccessDenied"))

    said = graph.customer_says(page, customer, "Grüezi", NOON)
    put = shopify.put_product(SHOP, title="Sbrinz")
    eventually(lambda: "retried in 2 s" in bot.log(), "an attempt that fails")

    assert statuses([*said.deliveries, *put.deliveries]) == [200, 200]
    assert bot.waiting() == 2
    store.lift()
    bot.settle()
    assert bot.talk(page, customer) == [said.event]
    assert bot.products()[put.product_id] == "Sbrinz"


def test_webhooks_are_taken_while_the_tokens_are_gone(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """Nobody can say whose they are: they wait for the restore, and polling does so too."""
    page, customer = bot.pages[1], bot.customer()
    bot.bot.installation.json("run")
    tokens = bot.bot.installation.tokens_path
    for path in tokens.parent.glob("tokens.db*"):
        path.unlink()
    tokens.write_bytes(b"not a database any more")

    said = graph.customer_says(page, customer, "Grüezi", NOON)
    put = shopify.put_product(SHOP, title="Tilsiter")
    with bot.bot.app.client() as client:
        assert client.post("/admin/sync").status_code == 202
    eventually(lambda: "polling failed" in bot.log(), "a polling that cannot be")

    assert statuses([*said.deliveries, *put.deliveries]) == [200, 200]
    assert bot.waiting() == 2
    assert "Traceback" not in bot.log()
    bot.bot.installation.json("restore", "--in-place", "--yes")
    bot.settle()
    assert bot.talk(page, customer) == [said.event]
    assert bot.products()[put.product_id] == "Tilsiter"
    assert set(bot.states().values()) == {"connected"}
    eventually(lambda: "polled accounts=3 failed=0" in bot.log(), "the polling that was asked for")


def test_a_lost_inbox_is_made_anew_at_the_next_start(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """It may be lost: what it did not hand on, polling fetches."""
    page, customer = bot.pages[0], bot.customer()
    bot.bot.app.stop()
    for path in (bot.bot.installation.folder / "data").glob("inbox.db*"):
        path.unlink()
    graph.customer_says(page, customer, "Ist da wer?", NOON, deliver=False)

    bot.bot.kill_and_start()
    graph.customer_says(page, customer, "Grüezi", NOON + timedelta(minutes=1))

    eventually(lambda: bot.texts(page, customer) == ["Ist da wer?", "Grüezi"], "both of them")


def test_an_inbox_that_is_removed_under_the_app_is_made_anew(
    bot: ConnectedBot, graph: FakeGraph
) -> None:
    """It is named once, by the process that made the new one; later messages are stored."""
    page, customer = bot.pages[1], bot.customer()
    bot.settle()
    for path in (bot.bot.installation.folder / "data").glob("inbox.db*"):
        path.unlink()

    graph.customer_says(page, customer, "Grüezi", NOON)

    eventually(lambda: bot.texts(page, customer) == ["Grüezi"], "the message")
    bot.settle()
    assert bot.log().count("an empty inbox was created") == 1
    assert "inbox-1 failed" not in bot.log()
