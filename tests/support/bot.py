"""`Bot`: the real app beside stand-ins of both platforms, and a merchant's browser."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from shared.errors import ObjectMissing
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.support.app_process import AppProcess, free_port
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import Installation, bot_secrets, spaces
from tests.support.waiting import eventually

SHOP = "kaesehaus.myshopify.com"


@dataclass
class Bot:
    """One installation of the bot, its process, its platforms and its bucket."""

    installation: Installation
    app: AppProcess
    graph: FakeGraph
    shopify: FakeShopify
    store: ObjectStore

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
    ) -> Iterator[Bot]:
        """Both platforms begin anew and know this bot; it is stopped in the end."""
        graph.reset()
        shopify.reset()
        shopify.add_shop(SHOP)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        installation = Installation(
            folder,
            {
                **bot_secrets(),
                **spaces(bucket),
                **graph.settings(url),
                **shopify.settings(url),
                **settings,
            },
        )
        app = AppProcess.start(installation, port=port, workers=workers)
        bot = cls(installation, app, graph, shopify, SpacesStore(bucket))
        try:
            yield bot
        finally:
            bot.app.stop()

    def restart(self, **settings: str) -> None:
        """Stop the process, and start it at the same address."""
        self.app.stop()
        installation = self.installation.with_settings(**settings)
        self.app = AppProcess.start(installation, port=self.app.port)

    def kill_and_start(self) -> None:
        """As a power cut would."""
        self.app.kill()
        self.app = AppProcess.start(self.installation, port=self.app.port)

    def browser(self) -> httpx2.Client:
        """A merchant's browser: it keeps cookies and follows redirects; close it."""
        return httpx2.Client(
            base_url=self.app.url, timeout=30, trust_env=False, follow_redirects=True
        )

    def connect_shop(self, browser: httpx2.Client, shop: str = SHOP) -> dict[str, Any]:
        """Log in at Shopify; what `/` says afterwards."""
        answer = browser.get(f"/shopify/{shop}/login")
        assert answer.status_code == 200, answer.text
        return self.front(browser)

    def connect_pages(self, browser: httpx2.Client) -> dict[str, Any]:
        """Log in at Facebook; what `/` says afterwards."""
        answer = browser.get("/facebook/login")
        assert answer.status_code == 200, answer.text
        return self.front(browser)

    def front(self, browser: httpx2.Client) -> dict[str, Any]:
        """What a program reads at `/`."""
        document: dict[str, Any] = browser.get("/").json()
        return document

    def poll(self, seconds: float = 60) -> None:
        """Ask for a polling, and wait until it is over, for so long."""
        before = self.app.output().count(": polled")
        with self.app.client() as client:
            assert client.post("/admin/sync").status_code == 202
        eventually(
            lambda: self.app.output().count(": polled") > before, "a polling", seconds=seconds
        )

    def keys(self, prefix: str = "users/") -> list[str]:
        """What is stored of the merchants."""
        return [found.key for found in self.store.list(prefix)]

    def document(self, key: str) -> Any:
        """A stored document, or None."""
        sink = io.BytesIO()
        with suppress(ObjectMissing):
            self.store.get(key, sink)
            return json.loads(sink.getvalue())
        return None

    def write(self, key: str, document: Any) -> None:
        """Put a document in the place of a stored one."""
        assert isinstance(self.store, SpacesStore)
        self.store.replace(key, json.dumps(document).encode())

    def user(self) -> str:
        """The UUID of the one user whose documents are stored."""
        users = {key.split("/")[1] for key in self.keys()}
        assert len(users) == 1, users
        return users.pop()
