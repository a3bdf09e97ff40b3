"""The end of a connection: uninstalled, removed, redacted, deleted; and what is news too late."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot, statuses
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def running_bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[ConnectedBot]:
    """One for all tests here."""
    folder: Path = tmp_path_factory.mktemp("end-of-life")
    bucket = s3_server.settings_of_new_bucket()
    with ConnectedBot.started(folder, graph, shopify, bucket) as connected:
        url = connected.bot.app.url
        graph.register(
            deauthorize=f"{url}/facebook/deauthorize", deletion=f"{url}/facebook/data-deletion"
        )
        yield connected


@pytest.fixture
def bot(running_bot: ConnectedBot) -> ConnectedBot:
    """With all connected by one user, who may be another one than before a deletion."""
    running_bot.bot.connect_shop(running_bot.browser)
    running_bot.bot.connect_pages(running_bot.browser)
    running_bot.settle()
    assert running_bot.to_reconnect() == []
    running_bot.user = running_bot.bot.user()
    return running_bot


def test_an_uninstalled_shop_is_to_be_connected_again(
    bot: ConnectedBot, shopify: FakeShopify
) -> None:
    """Its token is forgotten, its documents and its user are kept, and it can come back."""
    before = bot.bot.keys()

    shopify.uninstall(SHOP)
    bot.settle()

    assert bot.to_reconnect() == [SHOP]
    assert bot.bot.keys() == before
    bot.bot.poll()
    assert bot.to_reconnect() == [SHOP]
    bot.bot.connect_shop(bot.browser)
    bot.settle()
    assert bot.to_reconnect() == []
    assert bot.bot.user() == bot.user


@pytest.mark.parametrize("topic", ["app/uninstalled", "shop/redact"])
def test_the_end_of_an_earlier_connection_comes_too_late(
    bot: ConnectedBot, shopify: FakeShopify, topic: str
) -> None:
    """Told of an instant before the last login, it ends nothing: the shop has come back since."""
    before = bot.bot.keys()

    sent = shopify.send_webhook(SHOP, topic, triggered_at=datetime.now(UTC) - timedelta(minutes=5))
    bot.settle()

    assert statuses(sent.deliveries) == [200]
    assert f"dropped: stale shop={SHOP} topic={topic}" in bot.log()
    assert bot.to_reconnect() == []
    assert bot.bot.keys() == before
    bot.bot.poll()
    assert bot.to_reconnect() == []


def test_a_redacted_shop_is_gone(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """Its documents, its token and its user; what is told of it later is dropped."""
    shopify.uninstall(SHOP)
    shopify.send_webhook(SHOP, "shop/redact")
    late = shopify.send_webhook(SHOP, "shop/update")
    bot.settle()

    assert statuses(late.deliveries) == [200]
    assert bot.bot.keys(f"users/{bot.user}/shopify/") == []
    assert set(bot.states()) == set(bot.pages)
    assert len(bot.bot.keys()) >= 2


def test_a_removed_app_disconnects_the_pages(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Deauthorized at Facebook: no token is kept, documents and user are, and they come back."""
    before = bot.bot.keys()
    graph.revoke_user()

    assert graph.deauthorize().status == 200
    bot.settle()

    assert bot.to_reconnect() == bot.pages
    assert bot.bot.keys() == before
    customer = bot.customer()
    graph.customer_says(bot.pages[0], customer, "Grüezi", NOON)
    bot.settle()
    assert bot.texts(bot.pages[0], customer) == ["Grüezi"]
    bot.bot.connect_pages(bot.browser)
    bot.settle()
    assert bot.to_reconnect() == []


def test_who_asks_for_deletion_is_deleted(bot: ConnectedBot, graph: FakeGraph) -> None:
    """The Pages' documents, tokens and user; the address that Meta shows says that it is done."""
    graph.customer_says(bot.pages[0], bot.customer(), "Grüezi", NOON)
    bot.settle()

    answer = graph.request_deletion()

    assert answer.status == 200
    document = json.loads(answer.text)
    bot.settle()
    with bot.bot.app.client(token=None) as anybody:
        state = anybody.get(document["url"])
        assert document["url"].endswith(document["confirmation_code"])
        assert state.json() == {"status": "done"}
        assert anybody.get("/facebook/data-deletion/unknown").status_code == 404
    assert bot.bot.keys(f"users/{bot.user}/facebook/") == []
    assert list(bot.states()) == [SHOP]


def test_a_stranger_has_nothing_to_delete(bot: ConnectedBot, graph: FakeGraph) -> None:
    """A person who connected nothing gets the same answer, and nothing is touched."""
    before = bot.bot.keys()

    answers = [graph.request_deletion(user_id="99"), graph.deauthorize(user_id="99")]
    bot.settle()

    assert statuses(answers) == [200, 200]
    assert bot.bot.keys() == before
    assert bot.to_reconnect() == []
