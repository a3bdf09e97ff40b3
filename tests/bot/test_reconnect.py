"""A token that no longer works marks its shop or Page, and only that, until the next login."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BROWSER = {"Accept": "text/html,*/*"}


@pytest.fixture(scope="module")
def running_bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[ConnectedBot]:
    """One for all tests here. No run by itself: the newest set is the one that a test makes."""
    folder: Path = tmp_path_factory.mktemp("reconnect")
    bucket = s3_server.settings_of_new_bucket()
    with ConnectedBot.started(folder, graph, shopify, bucket, BACKUP_CHANGE_DELAY="0") as connected:
        yield connected


@pytest.fixture
def bot(running_bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify) -> ConnectedBot:
    """With all connected."""
    running_bot.settle()  # a login is followed by a polling, which a fault is not meant for
    graph.clear_faults()
    shopify.clear_faults()
    if running_bot.to_reconnect():
        running_bot.bot.connect_shop(running_bot.browser)
        running_bot.bot.connect_pages(running_bot.browser)
        running_bot.settle()
    assert running_bot.to_reconnect() == []
    return running_bot


def test_a_revoked_shop_is_to_be_connected_again(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """Told to programs and to browsers, in the log once, and gone with the next login."""
    shopify.revoke_tokens(SHOP)

    bot.bot.poll()
    bot.bot.poll()

    assert bot.to_reconnect() == [SHOP]
    front = bot.bot.front(bot.browser)
    assert front["next"] == f"Connect again: {SHOP}."
    assert front["shops"][0]["since"].endswith("Z")
    page = bot.browser.get("/", headers=BROWSER).text
    assert f'<a href="/shopify/{SHOP}/login">reconnect</a>' in page
    assert page.count("reconnect</a>") == 1
    marked = [line for line in bot.log().splitlines() if "reconnect:" in line and SHOP in line]
    assert len(marked) == 1
    assert "WARNING" in marked[0]

    bot.bot.connect_shop(bot.browser)
    assert bot.to_reconnect() == []
    bot.settle()
    bot.bot.poll()
    assert bot.to_reconnect() == []
    assert bot.bot.user() == bot.user


def test_a_revoked_page_is_to_be_connected_again(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Only that one, when the user's token gives no new one either."""
    page, other = bot.pages
    customer = bot.customer()
    graph.expire_user_tokens()
    graph.revoke_page_token(page)
    graph.customer_says(other, customer, "Grüezi", NOON, deliver=False)

    bot.bot.poll()

    assert bot.to_reconnect() == [page]
    assert bot.texts(other, customer) == ["Grüezi"]
    told = bot.browser.get("/", headers=BROWSER).text
    assert f'{page}: <strong><a href="/facebook/login">reconnect</a>' in told
    assert f"{other}: connected" in told
    bot.bot.connect_pages(bot.browser)
    assert bot.to_reconnect() == []


@pytest.mark.parametrize(("status", "word"), [(402, "frozen"), (423, "locked"), (404, "not there")])
def test_an_unavailable_shop_is_not_to_be_connected_again(
    bot: ConnectedBot, shopify: FakeShopify, status: int, word: str
) -> None:
    """`/` says why, its token is neither refreshed nor forgotten, and it comes back by itself."""
    token = shopify.token(SHOP)
    shopify.answer_status("graphql", status, times=None)

    bot.bot.poll()

    assert bot.states()[SHOP] == "unavailable"
    assert bot.to_reconnect() == []
    page = bot.browser.get("/", headers=BROWSER).text
    assert word in page
    assert f'<a href="/shopify/{SHOP}/login">reconnect' not in page
    assert shopify.token(SHOP) == token
    shopify.clear_faults()
    bot.bot.poll()
    assert bot.states()[SHOP] == "connected"


def test_a_page_that_is_gone_is_unavailable(bot: ConnectedBot, graph: FakeGraph) -> None:
    """100/33 through everybody who granted it: the reason is on `/`, and the other Page goes on."""
    page, other = bot.pages
    for edge in ("subscribed_apps", "page"):
        graph.fail(edge, 100, subcode=33, subject=page)

    bot.bot.poll()

    assert bot.states()[page] == "unavailable"
    assert bot.states()[other] == "connected"
    bot.bot.poll()
    assert bot.states()[page] == "connected"


def test_a_permission_that_was_taken_back_marks_the_page(
    bot: ConnectedBot, graph: FakeGraph
) -> None:
    """Error 10 and 200 to 299 do not pass by themselves; a polling that works clears the mark."""
    graph.fail("conversations", 10, subject=bot.pages[0])
    graph.fail("subscribed_apps", 210, subject=bot.pages[1])

    bot.bot.poll()
    assert bot.to_reconnect() == bot.pages

    bot.bot.poll()
    assert bot.to_reconnect() == []


def test_webhooks_of_a_marked_account_are_still_worked(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """They need no token: products, messages, and what a change of the profile tells."""
    page, customer = bot.pages[0], bot.customer()
    shopify.revoke_tokens(SHOP)
    graph.revoke_user()
    bot.bot.poll()
    assert len(bot.to_reconnect()) == 3

    number = shopify.put_product(SHOP, title="Emmentaler").product_id
    shopify.change_shop(SHOP, name="Käsehaus Zug")
    graph.customer_says(page, customer, "Grüezi", NOON)
    graph.send_webhook(changes=[(page, "name", "Käsehaus Genf")])
    bot.settle()

    assert bot.products()[number] == "Emmentaler"
    assert bot.texts(page, customer) == ["Grüezi"]
    assert bot.bot.document(bot.shop_key)["name"] == "Käsehaus Zug"
    assert bot.bot.document(bot.page_key(page))["name"] == "Käsehaus Genf"
    assert bot.bot.document(bot.page_key(page))["link"]


def test_a_token_that_rotated_after_the_last_set(
    bot: ConnectedBot, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """After the restore its shop is to be connected again; its webhooks and its user still work."""
    bot.bot.installation.json("run")
    shopify.expire_access_token(SHOP)
    bot.bot.poll()
    rotated = shopify.token(SHOP)
    assert rotated is not None
    assert rotated.good
    for path in (bot.bot.installation.tokens_path, bot.bot.installation.sessions_path):
        path.write_bytes(b"not a database any more")
    bot.bot.installation.json("restore", "--in-place", "--yes")

    bot.bot.poll()

    assert bot.to_reconnect() == [SHOP]
    customer = bot.customer()
    number = shopify.put_product(SHOP, title="Nach dem Unglück").product_id
    graph.customer_says(bot.pages[0], customer, "Grüezi", NOON)
    bot.settle()
    assert bot.products()[number] == "Nach dem Unglück"
    assert bot.texts(bot.pages[0], customer) == ["Grüezi"]
    assert bot.bot.user() == bot.user

    bot.bot.connect_shop(bot.browser)
    bot.settle()
    bot.bot.poll()
    assert bot.to_reconnect() == []
    assert bot.bot.user() == bot.user


def test_a_token_that_somebody_else_refreshed(bot: ConnectedBot, shopify: FakeShopify) -> None:
    """The bot's pair is used up: `invalid_grant` is the end of it, and is not tried again."""
    shopify.rotate_token(SHOP)
    shopify.clear_calls()

    bot.bot.poll()

    assert bot.to_reconnect() == [SHOP]
    assert len(shopify.calls("access_token")) == 1
