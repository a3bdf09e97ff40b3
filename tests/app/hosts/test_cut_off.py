"""A host that is cut off from the database, and from nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.databases.engines.address import DatabaseAddress
from tests.support.app_process import AppProcess
from tests.support.cable import Cable
from tests.support.fake_graph import FakeGraph
from tests.support.hosts import StartHosts, run, status
from tests.support.postgres_server import PostgresServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_host_that_is_cut_off_hands_over_and_comes_back(
    start_hosts: StartHosts, address: DatabaseAddress, postgres: PostgresServer, graph: FakeGraph
) -> None:
    """It answers 503 and acknowledges nothing; the other one leads; all goes on by itself."""
    with Cable(postgres.port) as cable:
        behind = address.url.replace(f":{postgres.port}/", f":{cable.port}/")
        with start_hosts(address, url_of_first=behind) as hosts, hosts.bot.browser() as browser:
            cut_off, other = hosts.bot.app, hosts.second
            page = graph.add_page("Käsehaus")
            hosts.bot.connect_shop(browser)
            hosts.bot.connect_pages(browser)
            hosts.settle()
            if hosts.leader() is other:
                other = hosts.restart(other)
            hosts.wait_until_it_leads(cut_off)
            events = [
                graph.customer_says(
                    page, "5001", f"{number}", NOON + timedelta(seconds=number), deliver=False
                ).event
                for number in range(30)
            ]
            acknowledged: list[int] = []

            def send(app: AppProcess, number: int) -> tuple[int, Any]:
                """The status and the document of the answer to one webhook."""
                url = f"{app.url}/facebook/webhook"
                sent = graph.send_webhook([events[number]], url=url)[0]
                if sent.accepted:
                    acknowledged.append(number)
                return sent.status, json.loads(sent.text) if sent.status == 503 else None

            def ask(app: AppProcess, path: str) -> int:
                with app.client() as client:
                    return client.get(path).status_code

            for number in range(5):
                assert send(cut_off, number)[0] == 200
            cable.cut()

            def refusal() -> Any:
                code, problem = send(cut_off, 5)
                assert code in (0, 503)  # 0: it waited for longer than the platform does
                return problem

            problem = eventually(refusal, "a refusal", seconds=120)
            assert problem["code"] == "database_unreachable"
            assert problem["hint"]
            hosts.wait_until_it_leads(other)
            for number in range(6, 20):
                assert send(other, number)[0] == 200
            assert ask(cut_off, "/healthz") == 200
            assert ask(cut_off, "/readyz") == 503
            assert ask(other, "/readyz") == 200
            found = status(cut_off)
            assert found["light"] == "red"
            assert "database_unreachable" in [one["code"] for one in found["problems"]]

            cable.mend()
            eventually(lambda: ask(cut_off, "/readyz") == 200, "it is back", seconds=120)
            eventually(lambda: send(cut_off, 5)[0] == 200, "it takes webhooks", seconds=120)
            for number in range(20, 30):
                assert send(cut_off, number)[0] == 200
            hosts.settle()
            path = f"users/{hosts.bot.user()}/facebook/{page}/conversations/5001.json"
            talk = hosts.bot.document(path)
            assert sorted(acknowledged) == list(range(30))
            assert [event["message"]["text"] for event in talk] == [f"{n}" for n in range(30)]
            assert status(cut_off)["schedule"]["owner"]["pid"] == other.pid
            assert run(cut_off, "run")["status"] == "succeeded"
