"""A restore in place, and its undo, while merchants use both hosts."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from shared.clock import SystemClock
from shared.databases.engines.opening import open_postgres
from shared.databases.engines.postgres import PostgresDatabase
from shared.databases.sessions import SessionStorage
from shared.merchants.browser_sessions import SessionIds
from tests.support.bot import SHOP
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.hosts import Hosts, run
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
READERS, WRITERS = 4, 4


class Merchants:
    """One who looks at what is connected, and others who connect a shop each, at both hosts."""

    def __init__(self, hosts: Hosts, shopify: FakeShopify, session: str) -> None:
        self._hosts, self._shopify, self._session = hosts, shopify, session
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.looks: list[tuple[str, ...]] = []
        self.logins: list[tuple[str, str]] = []  # the shop, and the session that was begun

    def stop(self) -> None:
        """Let each end what it is doing."""
        self._stop.set()

    def wait_for_more(self) -> None:
        """Return when some more have looked, and some more have logged in."""
        looks, logins = len(self.looks), len(self.logins)
        eventually(
            lambda: len(self.looks) >= looks + 20 and len(self.logins) >= logins + 8,
            "looks and logins",
            seconds=120,
        )

    def look(self, number: int) -> None:
        """Ask a host again and again; each answer has to be 200."""
        app = self._hosts.both[number % 2]
        with httpx2.Client(
            base_url=app.url, cookies={"session": self._session}, trust_env=False, timeout=60
        ) as client:
            while not self._stop.is_set():
                answer = client.get("/")
                assert answer.status_code == 200, answer.text
                front = answer.json()
                seen = (
                    *(one["account"] for one in front["shops"]),
                    *(one["account"] for one in front["pages"]),
                )
                with self._lock:
                    self.looks.append(seen)

    def log_in(self, number: int) -> None:
        """Connect one shop after the other; each answer on the way has to be right."""
        app = self._hosts.both[number % 2]
        turn = 0
        while not self._stop.is_set():
            shop = f"shop-{number}-{turn}.myshopify.com"
            turn += 1
            self._shopify.add_shop(shop)
            with httpx2.Client(
                base_url=app.url, trust_env=False, timeout=60, follow_redirects=True
            ) as client:
                answer = client.get(f"/shopify/{shop}/login")
                assert answer.status_code == 200, answer.text
                with self._lock:
                    self.logins.append((shop, client.cookies["session"]))


def new_session(hosts: Hosts) -> str:
    """One more session of the merchant, which no login ends."""
    user = hosts.bot.user()
    session = SessionIds((TOKEN_ENCRYPTION_KEY,)).new(user)
    with open_postgres(hosts.address) as connections:
        SessionStorage(PostgresDatabase(connections, "sessions"), SystemClock()).create(
            user, session
        )
    return session


def test_a_restore_under_readers_and_writers_loses_and_mixes_nothing(
    hosts: Hosts, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """No error; one content or the other; each row that was acknowledged is live or kept."""
    with hosts.bot.browser() as browser:
        hosts.bot.connect_shop(browser)
        hosts.settle()
        session = new_session(hosts)
        made = run(hosts.bot.app, "run")
        page = graph.add_page("Käsehaus")
        hosts.bot.connect_pages(browser)
        merchants = Merchants(hosts, shopify, session)
        with ThreadPoolExecutor(READERS + WRITERS) as pool:
            working = [pool.submit(merchants.look, number) for number in range(READERS)]
            working += [pool.submit(merchants.log_in, number) for number in range(WRITERS)]
            try:
                merchants.wait_for_more()
                path = f"sets/{made['set_id']}/restore"
                run(hosts.bot.app, path, confirm=made["set_id"])
                merchants.wait_for_more()
                between = set(merchants.looks)
                run(hosts.bot.app, "undo")
                merchants.wait_for_more()
            finally:
                merchants.stop()
            for work in working:
                work.result()
    then, now = (SHOP,), (SHOP, page)
    assert between == {then, now}
    assert set(merchants.looks) == {then, now}
    assert merchants.looks[-1] == now
    shops, sessions = _kept(hosts, "tokens", "key"), _kept(hosts, "sessions", "session_id")
    for shop, begun in merchants.logins:
        assert hashlib.sha256(begun.encode()).hexdigest() in sessions
        assert any(shop.replace(".", "_") in key for key in shops), shop
    # What was there before the restore is live again.
    live = {row[0] for row in hosts.rows("SELECT session_id FROM sessions")}
    assert hashlib.sha256(browser.cookies["session"].encode()).hexdigest() in live


def _kept(hosts: Hosts, table: str, column: str) -> set[str]:
    """The keys of the live table, and of those that restores have replaced."""
    like = f"SELECT relname FROM pg_class WHERE relname LIKE '{table}_before_%' AND relkind = 'r'"
    with hosts.connected() as connection:
        tables = [table, *(row[0] for row in connection.execute(like.encode()).fetchall())]
        return {
            row[0]
            for name in tables
            for row in connection.execute(f'SELECT {column} FROM sales_bot."{name}"'.encode())
        }
