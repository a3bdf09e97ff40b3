"""`Hosts`: two app processes with folders of their own on one PostgreSQL, which are one bot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from shared.databases.engines.address import DatabaseAddress
from shared.store.spaces_access import SpacesSettings
from tests.support.app_process import AppProcess
from tests.support.bot import Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import Installation
from tests.support.waiting import eventually


@dataclass
class Hosts:
    """Host A, to which the platforms lead a browser, and host B beside it.

    `address` is where the test itself finds the database.
    """

    bot: Bot
    second: AppProcess
    address: DatabaseAddress

    @property
    def both(self) -> list[AppProcess]:
        """Their processes, A first."""
        return [self.bot.app, self.second]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database answers; the query names our tables without their schema."""
        with self.connected() as connection:
            return connection.execute(query.replace("FROM ", "FROM sales_bot.").encode()).fetchall()

    def connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the test's own; close it."""
        return psycopg.connect(self.address.url)

    def settle(self) -> None:
        """Wait until all that waits in the inbox is done."""
        eventually(
            lambda: not self.rows("SELECT 1 FROM events WHERE done = 0"), "the inbox", seconds=120
        )
        eventually(lambda: not self.rows("SELECT 1 FROM first_syncs"), "first syncs", seconds=120)

    def leader(self) -> AppProcess:
        """The process that leads, as soon as one does."""

        def look() -> AppProcess | None:
            for app in self.both:
                owner = status(app)["schedule"]["owner"]
                found = [one for one in self.both if owner and one.pid == owner["pid"]]
                if found:
                    return found[0]
            return None

        return eventually(look, "a leader", seconds=120)

    def other(self, app: AppProcess) -> AppProcess:
        """The host beside this one."""
        return next(one for one in self.both if one is not app)

    def wait_until_it_leads(self, app: AppProcess) -> None:
        """Return when this host itself says that it leads."""

        def leads() -> bool:
            owner = status(app)["schedule"]["owner"]
            return bool(owner) and owner["pid"] == app.pid

        eventually(leads, f"{app.url} leads", seconds=120)

    def restart(self, app: AppProcess) -> AppProcess:
        """Stop a host as a deploy does, and start it at the same address; its new process."""
        code, _ = app.terminate()
        assert code in (0, -15), app.output()  # uvicorn ends by the signal that it was sent
        return self.start_again(app)

    def start_again(self, app: AppProcess) -> AppProcess:
        """Start a host that has ended, at the same address; its new process."""
        new = AppProcess.start(app.installation, port=app.port)
        if app is self.bot.app:
            self.bot.app = new
        else:
            self.second = new
        return new


# Starts two hosts on the database at an address, with the settings that are given by name.
StartHosts = Callable[..., AbstractContextManager[Hosts]]


def status(app: AppProcess) -> dict[str, Any]:
    """What a host says of the backups."""
    with app.client() as admin:
        document: dict[str, Any] = admin.get("/admin/backups").json()
        return document


def run(app: AppProcess, path: str, **body: Any) -> dict[str, Any]:
    """Ask a host for a run, and wait for its end; it must succeed."""
    with app.client() as admin:
        answer = admin.post(f"/admin/backups/{path}", params={"wait": "true"}, json=body or None)
        document: dict[str, Any] = answer.json()
        assert answer.status_code == 200, document
        return document


@contextmanager
def two_hosts(
    folder: Path,
    address: DatabaseAddress,
    graph: FakeGraph,
    shopify: FakeShopify,
    bucket: SpacesSettings,
    *,
    url_of_first: str | None = None,
    **settings: str,
) -> Iterator[Hosts]:
    """Both serve; they have a folder each, and the same settings.

    With `url_of_first`, host A finds the database there.
    """
    first, other = folder / "a", folder / "b"
    first.mkdir()
    other.mkdir()
    given = {
        "DATABASE_URL": address.url,
        "BACKUP_CHANGE_DELAY": "0",
        "SHUTDOWN_DELAY": "0",
        **settings,
    }
    of_first = {**given, "DATABASE_URL": url_of_first or address.url}
    with Bot.started(first, graph, shopify, bucket, workers=None, **of_first) as bot:
        second = AppProcess.start(Installation(other, {**bot.installation.settings, **given}))
        hosts = Hosts(bot, second, address)
        try:
            yield hosts
        finally:
            hosts.second.kill()
