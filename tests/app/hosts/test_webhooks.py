"""Webhooks that both hosts get, doubled and out of order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.app_process import AppProcess
from tests.support.fake_graph import FakeGraph
from tests.support.hosts import Hosts

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CUSTOMERS = 8


@pytest.mark.parametrize(
    "count", [200, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_what_both_hosts_get_is_stored_once_and_in_order(
    hosts: Hosts, graph: FakeGraph, count: int
) -> None:
    """Each webhook goes to A and to B, each in an order of its own: every message is there once."""
    with hosts.bot.browser() as browser:
        page = graph.add_page("Käsehaus")
        hosts.bot.connect_shop(browser)
        hosts.bot.connect_pages(browser)
    hosts.settle()
    events, said = [], {f"{5000 + number}": list[str]() for number in range(CUSTOMERS)}
    for number in range(count):
        customer = f"{5000 + number % CUSTOMERS}"
        at = NOON + timedelta(seconds=number)
        events.append(graph.customer_says(page, customer, f"{number}", at, deliver=False).event)
        said[customer].append(f"{number}")

    def send(app: AppProcess) -> set[int]:
        url = f"{app.url}/facebook/webhook"
        sent = graph.send_webhook(events, order="shuffled", one_post=False, url=url)
        assert len(sent) == count
        return {one.status for one in sent}

    with ThreadPoolExecutor(2) as pool:
        assert set().union(*pool.map(send, hosts.both)) == {200}
    hosts.settle()
    folder = f"users/{hosts.bot.user()}/facebook/{page}/conversations"
    for customer, texts in said.items():
        talk = hosts.bot.document(f"{folder}/{customer}.json")
        assert [event["message"]["text"] for event in talk] == texts
