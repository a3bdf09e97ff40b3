"""`ConnectedBot`: a `Bot` whose merchant has connected a shop and two Pages."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from shared.store.spaces_access import SpacesSettings
from tests.fakes.delivery import Delivery
from tests.support.bot import SHOP, Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.waiting import eventually

_customers = itertools.count(7_001_000_000)


@dataclass
class ConnectedBot:
    """The bot, the merchant's browser, and what is stored of them."""

    bot: Bot
    browser: httpx2.Client
    pages: list[str]
    user: str

    @classmethod
    @contextmanager
    def started(
        cls,
        folder: Path,
        graph: FakeGraph,
        shopify: FakeShopify,
        bucket: SpacesSettings,
        *,
        workers: int | None = None,
        **settings: str,
    ) -> Iterator[ConnectedBot]:
        """Connected, and synchronised for the first time; it is stopped in the end."""
        with (
            Bot.started(folder, graph, shopify, bucket, workers=workers, **settings) as bot,
            bot.browser() as browser,
        ):
            pages = sorted([graph.add_page("Käsehaus"), graph.add_page("Käsehaus Wien")])
            bot.connect_shop(browser)
            bot.connect_pages(browser)
            eventually(lambda: len(bot.keys()) >= 4, "the first sync")
            connected = cls(bot, browser, pages, bot.user())
            connected.settle()
            yield connected

    @staticmethod
    def customer() -> str:
        """Somebody who has not written before."""
        return str(next(_customers))

    # What is stored

    @property
    def shop_key(self) -> str:
        """Of the shop's metadata."""
        return f"users/{self.user}/shopify/{SHOP}/shop_metadata.json"

    @property
    def products_key(self) -> str:
        """Of the shop's products."""
        return f"users/{self.user}/shopify/{SHOP}/shop_products.json"

    def page_key(self, page: str) -> str:
        """Of a Page's metadata."""
        return f"users/{self.user}/facebook/{page}/page_metadata.json"

    def talk_key(self, page: str, customer: str) -> str:
        """Of a conversation."""
        return f"users/{self.user}/facebook/{page}/conversations/{customer}.json"

    def talk(self, page: str, customer: str) -> list[dict[str, Any]]:
        """A conversation; empty when there is none."""
        return self.bot.document(self.talk_key(page, customer)) or []

    def texts(self, page: str, customer: str) -> list[str]:
        """What was said in it."""
        return [event["message"]["text"] for event in self.talk(page, customer)]

    def products(self) -> dict[int, str]:
        """The titles of the products by their numbers."""
        document = self.bot.document(self.products_key) or {"products": []}
        return {int(one["id"]): one["title"] for one in document["products"]}

    # What is to be done

    def waiting(self) -> int:
        """How many events of the inbox are not done."""
        return self._count("events WHERE done = 0")

    def first_syncs(self) -> int:
        """How many accounts are still to be fetched for the first time."""
        return self._count("first_syncs")

    def events(self) -> int:
        """How many events the inbox knows."""
        return self._count("events")

    def _count(self, rows: str) -> int:
        path = self.bot.installation.folder / "data" / "inbox.db"
        with closing(sqlite3.connect(path)) as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM {rows}").fetchone()
        return int(count)

    def settle(self) -> None:
        """Wait until all events are done, and what was connected is fetched."""
        eventually(lambda: self.waiting() == 0, "all events to be done")
        eventually(lambda: self.first_syncs() == 0, "the first syncs")

    # What the merchant sees

    def states(self) -> dict[str, str]:
        """`connected` or `reconnect`, by shop and Page."""
        front = self.bot.front(self.browser)
        return {one["account"]: one["state"] for one in (*front["shops"], *front["pages"])}

    def to_reconnect(self) -> list[str]:
        """The shops and Pages that have to be connected again."""
        return [account for account, state in self.states().items() if state == "reconnect"]

    def log(self) -> str:
        """What the bot has printed."""
        return self.bot.app.output()


def statuses(sent: Sequence[Delivery]) -> list[int]:
    """What the bot answered."""
    return [one.status for one in sent]
