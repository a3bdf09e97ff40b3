"""The primary of the database dies, and its standby becomes the primary."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from shared.databases.engines.address import parse_address
from tests.support.fake_graph import FakeGraph
from tests.support.hosts import StartHosts, run
from tests.support.postgres_server import PostgresServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_what_was_acknowledged_is_on_the_standby_when_the_primary_dies(
    start_hosts: StartHosts, graph: FakeGraph
) -> None:
    """With a synchronous standby nothing is lost; both hosts find the new primary by themselves."""
    with ExitStack() as stack:
        primary = PostgresServer.start()
        stack.callback(primary.stop)
        with psycopg.connect(primary.url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE bot")
        standby = primary.standby()
        stack.callback(standby.stop)
        both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql://tests@{both}/bot?target_session_attrs=read-write"
        hosts = stack.enter_context(start_hosts(parse_address(url)))
        browser = stack.enter_context(hosts.bot.browser())
        page = graph.add_page("Käsehaus")
        hosts.bot.connect_shop(browser)
        hosts.bot.connect_pages(browser)
        hosts.settle()
        stop, said = threading.Event(), {"7000": list[str](), "7001": list[str]()}

        def write(number: int) -> None:
            """One thing after the other, each sent until it is acknowledged, as platforms do."""
            app, customer = hosts.both[number], f"{7000 + number}"
            while not stop.is_set():
                text, at = f"{len(said[customer])}", NOON + timedelta(seconds=len(said[customer]))
                event = graph.customer_says(page, customer, text, at, deliver=False).event

                def accepted(event: object = event) -> bool:
                    url = f"{app.url}/facebook/webhook"
                    return graph.send_webhook([event], url=url)[0].accepted  # type: ignore[list-item]

                eventually(accepted, "an acknowledgement", seconds=200)
                said[customer].append(text)

        def wait_for_more() -> None:
            before = {customer: len(texts) for customer, texts in said.items()}
            eventually(
                lambda: all(len(said[one]) >= before[one] + 10 for one in said),
                "acknowledged webhooks of both hosts",
                seconds=240,
            )

        with ThreadPoolExecutor(2) as pool:
            writing = [pool.submit(write, number) for number in range(2)]
            try:
                wait_for_more()
                primary.crash()
                standby.promote()
                wait_for_more()
            finally:
                stop.set()
            for work in writing:
                work.result()
        hosts.leader()
        hosts.settle()
        folder = f"users/{hosts.bot.user()}/facebook/{page}/conversations"
        for customer, texts in said.items():
            talk = hosts.bot.document(f"{folder}/{customer}.json")
            assert [event["message"]["text"] for event in talk] == texts
        assert hosts.bot.front(browser)["pages"]
        assert run(hosts.second, "run")["status"] == "succeeded"
