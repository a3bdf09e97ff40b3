"""Two hosts on one PostgreSQL: one bot, whichever of them somebody meets."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from shared.databases.engines.address import DatabaseAddress, parse_address
from tests.support.app_process import AppProcess
from tests.support.fake_graph import FakeGraph
from tests.support.hosts import Hosts, StartHosts, run, status
from tests.support.installation import Installation, installation_in, spaces
from tests.support.postgres_server import PostgresServer
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_two_hosts_are_one_bot(hosts: Hosts, graph: FakeGraph) -> None:
    """One leads; a session of A works on B; what both take is worked once, in order, also when the
    leader is killed."""
    with hosts.bot.browser() as browser:
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

        dead = hosts.leader()
        alive = hosts.other(dead)

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

        dead.kill()
        assert send(alive, events[25:]) == {200}
        hosts.wait_until_it_leads(alive)
        hosts.settle()
        talk = bot.document(f"users/{bot.user()}/facebook/{page}/conversations/{customer}.json")
        assert [event["message"]["text"] for event in talk] == [f"{n}" for n in range(40)]


def test_a_set_of_one_host_is_restored_by_the_other(
    hosts: Hosts, graph: FakeGraph, tmp_path: Path
) -> None:
    """In place, for both; with its undo; and on a host with SQLite, which has no PostgreSQL."""
    with hosts.bot.browser() as browser:
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
    for app in hosts.both:
        app.stop()
    settings = dict(hosts.bot.installation.settings)
    del settings["DATABASE_URL"]
    alone = Installation(tmp_path / "alone", {**settings, "BACKUP_RESTORE_ON_EMPTY": "true"})
    alone.folder.mkdir()
    restored = alone.cli("restore", made["set_id"], "--in-place", "--yes")
    assert restored.returncode == 0, restored.stderr
    assert f"{len(then)} rows" in restored.stdout


def test_while_the_database_is_away_nothing_is_acknowledged(
    start_hosts: StartHosts, graph: FakeGraph
) -> None:
    """503 with a remedy, /healthz as ever; the status says so; and it all comes back by itself."""
    server = PostgresServer.start()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE bot")
        address = parse_address(server.url("bot"))
        with (
            start_hosts(address) as hosts,
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
            hosts.leader()
            assert run(hosts.second, "run")["status"] == "succeeded"
    finally:
        server.stop()


def test_a_frozen_leader_is_followed_by_the_other_host(hosts: Hosts) -> None:
    """The other one leads; when the first one wakes, it serves and does not lead."""
    frozen = hosts.leader()
    other = hosts.other(frozen)
    os.kill(frozen.pid, signal.SIGSTOP)
    hosts.wait_until_it_leads(other)
    os.kill(frozen.pid, signal.SIGCONT)
    eventually(
        lambda: "another process schedules the backups now" in frozen.output(),
        "the first one to see it",
        seconds=60,
    )
    assert status(frozen)["schedule"]["owner"]["pid"] == other.pid
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
    start_hosts: StartHosts, address: DatabaseAddress
) -> None:
    """The leader sees by the counters of the server what another host has written."""

    def of_changes(app: AppProcess) -> list[str]:
        with app.client() as admin:
            runs = admin.get("/admin/backups/runs").json()["runs"]
        return [one["status"] for one in runs if one["trigger"] == "change"]

    with start_hosts(address, BACKUP_CHANGE_DELAY="1") as hosts:
        leader = hosts.leader()
        eventually(lambda: status(leader)["newest_restore_point"], "the first set", seconds=60)
        with hosts.bot.browser() as browser:
            hosts.bot.connect_shop(browser)
        eventually(lambda: "succeeded" in of_changes(leader), "a set", seconds=200)
