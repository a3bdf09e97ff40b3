"""`GET /` reads what is its user's, however many others there are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import PLATFORMS, read_settings
from facebook_integration.models import GrantedPage, Grantor
from facebook_integration.pages import Pages
from facebook_integration.wiring import PLATFORM as FACEBOOK
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.merchants.browser_sessions import BrowserSessions, SessionIds
from shared.merchants.documents import MerchantData
from shared.merchants.front_page import front_routes, index_owners
from shared.merchants.http_client import Outbound
from shared.merchants.inbox import Inbox, open_inbox
from shared.merchants.login_state import StateTokens
from shared.merchants.marks import Marks
from shared.merchants.platform import Workplace
from shared.merchants.protected.requests import ProtectedRequests
from shared.store.directory import DirectoryStore
from shopify_integration.grants import Grant
from shopify_integration.shops import Shops
from shopify_integration.wiring import PLATFORM as SHOPIFY
from tests.shared.databases.test_owners import CountingCipher
from tests.support.app_process import AppProcess, free_port
from tests.support.clock import FixedClock
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, bot_secrets

USERS = [str(UUID(int=number)) for number in range(3)]
SHOPS = 50
PAGES = 2


def test_a_page_decrypts_the_rows_of_its_user_alone(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """Three users with fifty shops and two Pages each: what is theirs, also at the first look."""
    url = "http://127.0.0.1:1"
    settings = read_settings({**bot_secrets(), **graph.settings(url), **shopify.settings(url)})
    clock, cipher = FixedClock(), CountingCipher((TOKEN_ENCRYPTION_KEY,))
    with (
        closing(Outbound()) as outbound,
        closing(open_inbox(tmp_path / "inbox.db")) as database,
        closing(TokenStorage(tmp_path / "tokens.db", cipher)) as tokens,
        closing(SessionStorage(tmp_path / "sessions.db", clock)) as sessions,
    ):
        marks, inbox = Marks(database, clock), Inbox(database, clock)
        place = Workplace(
            tokens=tokens,
            inbox=inbox,
            requests=ProtectedRequests(tokens.requests, inbox, clock),
            marks=marks,
            data=MerchantData(DirectoryStore(tmp_path / "store"), clock),
            outbound=outbound,
            states=StateTokens("secret", marks.use_state, clock),
            clock=clock,
        )
        browsers = BrowserSessions(sessions, SessionIds((TOKEN_ENCRYPTION_KEY,)), secure=False)
        app = FastAPI()
        app.include_router(front_routes(PLATFORMS))
        app.state.browsers = browsers
        app.state.platforms = [
            one.build(settings.platforms[one.name], place, browsers)[1]
            for one in (SHOPIFY, FACEBOOK)
        ]
        _connect_all(tokens, clock)
        client = TestClient(app)

        def look(user: str) -> tuple[int, int, int]:
            client.cookies.set("session", sessions.create(user, browsers.ids.new(user)))
            before = cipher.decrypted
            document = client.get("/").json()
            return len(document["shops"]), len(document["pages"]), cipher.decrypted - before

        index_owners(app.state.platforms)
        for user in USERS:
            elsewhere = user != USERS[0]  # a Page that they granted, and another has
            assert look(user) == (SHOPS, PAGES + elsewhere, SHOPS + 2 * PAGES + 1)


def test_the_app_knows_whose_accounts_are_whose_before_a_visitor_comes(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify
) -> None:
    """A start makes the index of each kind of row, as where the first key was changed."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {**bot_secrets(), **graph.settings(url), **shopify.settings(url)}
    installation = Installation(tmp_path, settings).make_databases()

    def indexed() -> int:
        with closing(sqlite3.connect(installation.tokens_path)) as connection:
            query = "SELECT count(*) FROM owners WHERE key LIKE '*%'"
            return int(connection.execute(query).fetchone()[0])

    assert indexed() == 0
    with AppProcess.start(installation, port=port):
        assert indexed() == 3  # of shops, of Pages, and of who granted Pages


def _connect_all(tokens: TokenStorage, clock: FixedClock) -> None:
    shops, pages = Shops(tokens, None, clock), Pages(tokens, None)  # type: ignore[arg-type]
    for number, user in enumerate(USERS):
        for shop in range(SHOPS):
            grant = Grant("a-token")
            shops.connect(f"shop-{number}-{shop}.myshopify.com", grant, user)
        granted = [GrantedPage(f"{number}00{page}", "A Page", "a-token") for page in range(PAGES)]
        other = GrantedPage(f"{(number - 1) % len(USERS)}000", "A Page of somebody else", "a-token")
        if number:
            granted.append(other)
        grantor = Grantor("a-token", user, (), None, clock.now())
        pages.connect(f"9{number}", grantor, granted)
