"""Two hosts on one PostgreSQL: one bot, whichever of them somebody meets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from shared.databases.engines.address import DatabaseAddress, parse_address
from tests.support.app_process import AppProcess
from tests.support.bot import Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import Installation, installation_in, spaces
from tests.support.postgres_server import PostgresServer
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class Hosts:
    """Host A, to which the platforms lead a browser, and host B beside it."""

    bot: Bot
    second: AppProcess
    address: DatabaseAddress

    @property
    def both(self) -> list[AppProcess]:
        return [self.bot.app, self.second]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database answers."""
        with psycopg.connect(self.address.url) as connection:
            return connection.execute(query.replace("FROM ", "FROM sales_bot.").encode()).fetchall()

    def settle(self) -> None:
        """Wait until all that waits in the inbox is done."""
        eventually(
            lambda: not self.rows("SELECT 1 FROM events WHERE done = 0"), "the inbox", seconds=120
        )
        eventually(lambda: not self.rows("SELECT 1 FROM first_syncs"), "first syncs", seconds=120)

    def leader(self, asked: AppProcess) -> int:
        """The process that leads, as one of the hosts says it; 0 for none."""
        owner = status(asked)["schedule"]["owner"]
        return int(owner["pid"]) if owner else 0


def status(app: AppProcess) -> dict[str, Any]:
    with app.client() as admin:
        document: dict[str, Any] = admin.get("/admin/backups").json()
        return document


def run(app: AppProcess, path: str, **body: Any) -> dict[str, Any]:
    """Ask a host for a run, and wait for its end."""
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
    s3_server: S3Server,
    bucket: str,
    **settings: str,
) -> Iterator[Hosts]:
    """Both serve; they have a folder each, and the same settings."""
    first, other = folder / "a", folder / "b"
    first.mkdir()
    other.mkdir()
    given = {"DATABASE_URL": address.url, "BACKUP_CHANGE_DELAY": "0", **settings}
    with Bot.started(
        first, graph, shopify, s3_server.settings(bucket), workers=None, **given
    ) as bot:
        second = AppProcess.start(Installation(other, bot.installation.settings))
        try:
            yield Hosts(bot, second, address)
        finally:
            second.kill()


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    """An empty database."""
    with postgres.new_database() as address:
        yield address


def test_two_hosts_are_one_bot(
    tmp_path: Path,
    address: DatabaseAddress,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    bucket: str,
) -> None:
    """One leads; a session of A works on B; what both take is worked once, in order, also when the
    leader is killed."""
    with (
        two_hosts(tmp_path, address, graph, shopify, s3_server, bucket) as hosts,
        hosts.bot.browser() as browser,
    ):
        bot = hosts.bot
        page = graph.add_page("Käsehaus")
        bot.connect_shop(browser)
        bot.connect_pages(browser)
        hosts.settle()
        with httpx2.Client(
            base_url=hosts.second.url, cookies=browser.cookies, trust_env=False, timeout=60
        ) as other:
            there = other.get("/").json()
        assert [one["state"] for one in there["pages"]] == ["connected"]

        leader = eventually(lambda: hosts.leader(hosts.second), "a leader", seconds=60)
        assert hosts.leader(bot.app) == leader
        assert leader in [app.pid for app in hosts.both]

        customer = "5001"
        events = [
            graph.customer_says(
                page, customer, f"{number}", NOON + timedelta(seconds=number), deliver=False
            ).event
            for number in range(40)
        ]

        def send(app: AppProcess, some: list[Any]) -> set[int]:
            sent = graph.send_webhook(
                some, order="shuffled", one_post=False, copies=2, url=f"{app.url}/facebook/webhook"
            )
            return {one.status for one in sent}

        with ThreadPoolExecutor(2) as pool:
            halves = [pool.submit(send, app, events[:25]) for app in hosts.both]
            assert set().union(*(half.result() for half in halves)) == {200}

        dead = next(app for app in hosts.both if app.pid == leader)
        alive = next(app for app in hosts.both if app.pid != leader)
        os.kill(leader, signal.SIGKILL)
        assert send(alive, events[25:]) == {200}
        eventually(lambda: hosts.leader(alive) == alive.pid, "another leader", seconds=60)
        hosts.settle()
        talk = bot.document(f"users/{bot.user()}/facebook/{page}/conversations/{customer}.json")
        assert [event["message"]["text"] for event in talk] == [f"{n}" for n in range(40)]
        assert hosts.rows("SELECT count(*) FROM events WHERE topic = 'messages'") or dead


def test_a_set_of_one_host_is_restored_by_the_other(
    tmp_path: Path,
    address: DatabaseAddress,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    bucket: str,
) -> None:
    """In place, for both; with its undo; and on a host with SQLite, which has no PostgreSQL."""
    with (
        two_hosts(tmp_path, address, graph, shopify, s3_server, bucket) as hosts,
        hosts.bot.browser() as browser,
    ):
        hosts.bot.connect_shop(browser)
        hosts.settle()
        made = run(hosts.bot.app, "run")
        then = hosts.rows("SELECT key, value FROM tokens ORDER BY key")
        graph.add_page("Käsehaus")
        hosts.bot.connect_pages(browser)
        now = hosts.rows("SELECT key, value FROM tokens ORDER BY key")
        assert len(now) > len(then)

        run(hosts.second, f"sets/{made['set_id']}/restore", confirm=made["set_id"])
        assert hosts.rows("SELECT key, value FROM tokens ORDER BY key") == then
        assert len(hosts.bot.front(browser)["pages"]) == 0

        run(hosts.second, "undo")
        assert hosts.rows("SELECT key, value FROM tokens ORDER BY key") == now
        assert len(hosts.bot.front(browser)["pages"]) == 1
        assert status(hosts.second)["light"] != "red", status(hosts.second)["problems"]
        settings = dict(hosts.bot.installation.settings)
    del settings["DATABASE_URL"]
    alone = Installation(tmp_path / "alone", {**settings, "BACKUP_RESTORE_ON_EMPTY": "true"})
    alone.folder.mkdir()
    restored = alone.cli("restore", made["set_id"], "--in-place", "--yes")
    assert restored.returncode == 0, restored.stderr
    assert f"{len(then)} rows" in restored.stdout


def test_while_the_database_is_away_nothing_is_acknowledged(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, bucket: str
) -> None:
    """503 with a remedy, /healthz as ever; the status says so; and it all comes back by itself."""
    server = PostgresServer.start()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE bot")
        address = parse_address(server.url("bot"))
        with (
            two_hosts(tmp_path, address, graph, shopify, s3_server, bucket) as hosts,
            hosts.bot.browser() as browser,
        ):
            page = graph.add_page("Käsehaus")
            hosts.bot.connect_shop(browser)
            hosts.bot.connect_pages(browser)
            hosts.settle()
            event = graph.customer_says(page, "5002", "hello", NOON, deliver=False).event

            def send(app: AppProcess) -> int:
                return graph.send_webhook([event], url=f"{app.url}/facebook/webhook")[0].status

            def ask(app: AppProcess, path: str) -> tuple[int, Any]:
                with app.client() as client:
                    answer = client.get(path)
                    return answer.status_code, answer.json()

            assert [ask(app, "/readyz")[0] for app in hosts.both] == [200, 200]
            server.crash()
            for app in hosts.both:
                assert send(app) == 503
                code, problem = ask(app, "/readyz")
                assert (code, problem["code"]) == (503, "database_unreachable")
                assert problem["hint"]
                assert ask(app, "/healthz")[0] == 200
                assert status(app)["light"] == "red"
            server.resume()
            assert [ask(app, "/readyz")[0] for app in hosts.both] == [200, 200]
            assert send(hosts.second) == 200
            hosts.settle()
            path = f"users/{hosts.bot.user()}/facebook/{page}/conversations/5002.json"
            assert len(hosts.bot.document(path)) == 1
            eventually(lambda: hosts.leader(hosts.second), "a leader again", seconds=60)
            assert run(hosts.second, "run")["status"] == "succeeded"
    finally:
        server.stop()


def test_a_frozen_leader_is_followed_by_the_other_host(
    tmp_path: Path,
    address: DatabaseAddress,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    bucket: str,
) -> None:
    """The other one leads; when the first one wakes, it serves and does not lead."""
    with two_hosts(tmp_path, address, graph, shopify, s3_server, bucket) as hosts:
        leader = eventually(lambda: hosts.leader(hosts.second), "a leader", seconds=60)
        frozen = next(app for app in hosts.both if app.pid == leader)
        other = next(app for app in hosts.both if app.pid != leader)
        os.kill(leader, signal.SIGSTOP)
        eventually(lambda: hosts.leader(other) == other.pid, "another leader", seconds=60)
        os.kill(leader, signal.SIGCONT)
        eventually(
            lambda: "another process schedules the backups now" in frozen.output(),
            "the first one to see it",
            seconds=60,
        )
        assert hosts.leader(frozen) == other.pid
        assert run(frozen, "run")["status"] == "succeeded"


def test_hosts_that_start_at_once_on_an_empty_database_restore_it_once(
    tmp_path: Path, postgres: PostgresServer, s3_server: S3Server, bucket: str
) -> None:
    """One restores the newest set; the others find it there, and take nothing back."""
    bucket_settings = spaces(s3_server.settings(bucket))
    folders = [tmp_path / name for name in ("old", "a", "b")]
    for folder in folders:
        folder.mkdir()
    alone = installation_in(folders[0], **bucket_settings).make_databases(tokens=7)
    assert alone.cli("run").returncode == 0
    with postgres.new_database() as address, ExitStack() as stack:
        given = {
            **bucket_settings,
            "DATABASE_URL": address.url,
            "BACKUP_RESTORE_ON_EMPTY": "true",
            "BACKUP_CHANGE_DELAY": "0",
        }
        apps = [AppProcess(installation_in(folder, **given)) for folder in folders[1:]]
        for app in apps:
            stack.callback(app.kill)
        for app in apps:
            app.wait_until_it_serves()
        with psycopg.connect(address.url) as connection:
            assert connection.execute("SELECT count(*) FROM sales_bot.tokens").fetchall() == [(7,)]
            swaps = "SELECT swaps FROM sales_bot.versions WHERE source = 'tokens'"
            assert connection.execute(swaps).fetchall() == [(1,)]


def test_a_change_by_any_host_makes_a_set(
    tmp_path: Path,
    address: DatabaseAddress,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    bucket: str,
) -> None:
    """The leader sees by the counters of the server what another host has written."""

    def of_changes(app: AppProcess) -> list[str]:
        with app.client() as admin:
            runs = admin.get("/admin/backups/runs").json()["runs"]
        return [one["status"] for one in runs if one["trigger"] == "change"]

    given = {"BACKUP_CHANGE_DELAY": "1"}
    with two_hosts(tmp_path, address, graph, shopify, s3_server, bucket, **given) as hosts:
        pid = eventually(lambda: hosts.leader(hosts.second), "a leader", seconds=60)
        leader = next(app for app in hosts.both if app.pid == pid)
        eventually(lambda: status(leader)["newest_restore_point"], "the first set", seconds=60)
        with hosts.bot.browser() as browser:
            hosts.bot.connect_shop(browser)
        eventually(lambda: "succeeded" in of_changes(leader), "a set", seconds=200)
