"""The stand-ins for the platforms, which a `Bot` resets, and a bot that many tests share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pytest

from tests.support.bot import Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.merchant import Merchant
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def graph(running_graph: FakeGraph) -> FakeGraph:
    """The Graph API."""
    return running_graph


@pytest.fixture(scope="module")
def shopify(running_shopify: FakeShopify) -> FakeShopify:
    """Shopify."""
    return running_shopify


@pytest.fixture(scope="session")
def lasting_bot(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Bot]:
    """One bot for all tests that have a shop, a Page and a browser of their own in it."""
    with (
        FakeGraph.started() as graph,
        FakeShopify.started() as shopify,
        Bot.started(
            tmp_path_factory.mktemp("lasting-bot"),
            graph,
            shopify,
            s3_server.settings_of_new_bucket(),
        ) as running,
    ):
        yield running


_shops = count(1)


@pytest.fixture
def shop(lasting_bot: Bot) -> str:
    """A new shop at Shopify."""
    return new_shop(lasting_bot)


@pytest.fixture
def merchant(lasting_bot: Bot) -> Iterator[Merchant]:
    """A browser without cookies."""
    with Merchant(lasting_bot.app.url) as browser:
        yield browser


def new_shop(bot: Bot) -> str:
    """One more shop at Shopify."""
    shop = f"shop-{next(_shops)}.myshopify.com"
    bot.shopify.add_shop(shop)
    return shop


def inbox_is_done(bot: Bot) -> None:
    """Wait until all events are done."""
    eventually(lambda: _count(bot, "events WHERE done = 0") == 0, "all events to be done")


def is_fetched(bot: Bot, account: str) -> None:
    """Wait until what was just connected is fetched: nothing of it is asked for any more."""
    inbox_is_done(bot)
    eventually(lambda: _count(bot, "first_syncs WHERE account = ?", account) == 0, "the first sync")


def _count(bot: Bot, rows: str, *values: str) -> int:
    """How many of such rows `inbox.db` has."""
    with closing(sqlite3.connect(bot.installation.folder / "data" / "inbox.db")) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {rows}", values).fetchone()
    return int(count)


def products_of(bot: Bot, shop: str) -> Any:
    """The stored document of a shop's products, whoever owns it; None when there is none."""
    stored = bot.keys()
    keys = [key for key in stored if key.endswith(f"/shopify/{shop}/shop_products.json")]
    return bot.document(keys[0]) if keys else None
