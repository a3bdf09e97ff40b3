"""The work for Pages beside the stand-in, without the rest of the app: its clock stands still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import httpx2
import pytest
from cryptography.fernet import Fernet

from facebook_integration.graph import SCOPES, Graph
from facebook_integration.models import Grantor
from facebook_integration.pages import Pages
from facebook_integration.settings import FacebookSettings
from facebook_integration.sync import PageSync
from shared.crontab import Crontab
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants.documents import MerchantData
from shared.merchants.http_client import Outbound
from shared.merchants.inbox import Inbox, open_inbox
from shared.merchants.login_state import StateTokens
from shared.merchants.marks import Marks
from shared.merchants.platform import Workplace
from shared.merchants.polling import FirstSyncs, Polling
from shared.merchants.protected.requests import ProtectedRequests
from shared.store.directory import DirectoryStore
from tests.support.clock import FixedClock
from tests.support.fake_graph import FakeGraph

BOT = "https://bot.example"
USER = str(UUID(int=7))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Desk:
    """What works for the Pages of one user, by hand: `poll` and `work`."""

    meta: FakeGraph
    clock: FixedClock
    graph: Graph
    pages: Pages
    sync: PageSync
    place: Workplace
    polling: Polling
    first_syncs: FirstSyncs

    def connected(self, count: int = 1) -> list[str]:
        """New Pages, connected by one new person."""
        new = sorted(self.meta.add_page() for _ in range(count))
        self.meta.user_grants(new)
        person = self.meta.become()
        token = self.graph.extend(self.graph.exchange_code(self._code()).value).value
        grantor = Grantor(token, USER, (), None, self.clock.now())
        self.pages.connect(person, grantor, self.graph.pages(token))
        self.meta.clear_calls()
        return new

    def _code(self) -> str:
        asked = {
            "client_id": self.meta.app_id,
            "redirect_uri": f"{BOT}/facebook/callback",
            "state": "s",
            "scope": ",".join(SCOPES),
        }
        url = f"{self.meta.url}/dialog-host/{self.meta.version}/dialog/oauth?{urlencode(asked)}"
        sent = httpx2.get(url, trust_env=False).headers["location"]
        return parse_qs(urlsplit(sent).query)["code"][0]

    def talk(self, page: str, customer: str) -> list[dict[str, Any]]:
        """A stored conversation."""
        key = f"users/{USER}/facebook/{page}/conversations/{customer}.json"
        return self.place.data.read(key) or []

    def marked(self) -> list[str]:
        """The Pages that have to be connected again."""
        return sorted(self.place.marks.reconnects("facebook"))

    def asked(self, page: str) -> int:
        """How many calls were about a Page since it was connected."""
        return len([call for call in self.meta.calls() if call.subject == page])


@pytest.fixture
def desk(graph: FakeGraph, tmp_path: Path) -> Iterator[Desk]:
    """Everything real but the clock."""
    known = graph.settings(BOT)
    settings = FacebookSettings(
        app_id=known["FACEBOOK_APP_ID"],
        app_secret=known["FACEBOOK_APP_SECRET"],
        redirect_uri=known["FACEBOOK_REDIRECT_URI"],
        webhook_address=known["FACEBOOK_WEBHOOK_ADDRESS"],
        verify_token=known["FACEBOOK_VERIFY_TOKEN"],
        graph_url=known["FACEBOOK_GRAPH_URL"],
        dialog_url=known["FACEBOOK_DIALOG_URL"],
        version=known["FACEBOOK_GRAPH_VERSION"],
        config_id="",
    )
    clock = FixedClock(NOON)
    cipher = TokenCipher((Fernet.generate_key().decode(),))
    with (
        closing(Outbound()) as outbound,
        closing(open_inbox(tmp_path / "inbox.db")) as database,
        closing(TokenStorage(tmp_path / "tokens.db", cipher)) as tokens,
    ):
        marks = Marks(database, clock)
        place = Workplace(
            tokens=tokens,
            inbox=(inbox := Inbox(database, clock)),
            requests=ProtectedRequests(tokens.requests, inbox, clock),
            marks=marks,
            data=MerchantData(DirectoryStore(tmp_path / "store"), clock),
            outbound=outbound,
            states=StateTokens("secret", marks.use_state, clock),
            clock=clock,
        )
        api = Graph(settings, outbound, clock)
        pages = Pages(tokens, api)
        sync = PageSync(pages, api, place)
        polling = Polling([sync], marks, Crontab("0 2 * * *"), clock, workers=1)
        first_syncs = FirstSyncs({"facebook": sync}, marks)
        yield Desk(graph, clock, api, pages, sync, place, polling, first_syncs)
