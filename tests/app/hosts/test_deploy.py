"""A deploy of one host after the other, and what is due meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest

from shared.databases.engines.address import DatabaseAddress
from tests.support.app_process import AppProcess
from tests.support.fake_graph import FakeGraph
from tests.support.hosts import Hosts, StartHosts, run, status
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
READERS, WRITERS = 2, 2


class Clients:
    """Readers and writers behind a load balancer, which asks a host whether it is ready.

    A host that is ready has to answer all that it is sent with 200: see `answers`.
    """

    def __init__(self, hosts: Hosts, graph: FakeGraph, page: str, cookies: httpx2.Cookies) -> None:
        self._hosts, self._graph = hosts, graph
        self._page, self._cookies = page, cookies
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.rounds = [0] * (READERS + WRITERS)
        self.answers: set[str] = set()
        self.said = {f"{6000 + number}": list[str]() for number in range(WRITERS)}

    def stop(self) -> None:
        """Let each end what it is doing."""
        self._stop.set()

    def wait_for_more(self, rounds: int = 10) -> None:
        """Return when each client has had that many requests answered that it has yet to begin."""
        before = list(self.rounds)
        eventually(
            lambda: all(now > then + rounds for now, then in zip(self.rounds, before, strict=True)),
            "answers",
            seconds=120,
        )

    def read(self, number: int) -> None:
        """Ask what is connected, again and again."""
        while not self._stop.is_set():
            self._send(number, self._get)

    def write(self, number: int) -> None:
        """Let a customer say one thing after the other."""
        customer = list(self.said)[number]
        said = self.said[customer]
        while not self._stop.is_set():
            text, at = f"{len(said)}", NOON + timedelta(seconds=len(said))
            event = self._graph.customer_says(self._page, customer, text, at, deliver=False).event
            self._send(READERS + number, partial(self._post, event))
            said.append(text)

    def _send(self, client: int, request: Callable[[AppProcess], str]) -> None:
        """Have a request answered by a host that is ready, this one and that one in turn."""
        first = self.rounds[client] % 2

        def ready() -> AppProcess | None:
            both = self._hosts.both
            return next((app for app in (both[first], both[1 - first]) if is_ready(app)), None)

        answer = request(eventually(ready, "a host that is ready", seconds=120))
        with self._lock:
            self.answers.add(answer)
        self.rounds[client] += 1

    def _get(self, app: AppProcess) -> str:
        try:
            with httpx2.Client(
                base_url=app.url, cookies=self._cookies, trust_env=False, timeout=60
            ) as client:
                answer = client.get("/")
        except httpx2.TransportError as error:
            return f"{type(error).__name__}: {error}"
        if answer.status_code == 200:
            assert [one["state"] for one in answer.json()["pages"]] == ["connected"]
        return f"{answer.status_code}"

    def _post(self, event: Any, app: AppProcess) -> str:
        sent = self._graph.send_webhook([event], url=f"{app.url}/facebook/webhook")[0]
        return f"{sent.status}" if sent.status else sent.text


def is_ready(app: AppProcess) -> bool:
    """Whether a load balancer may send to this host."""
    try:
        with app.client() as client:
            answer = client.get("/readyz")
    except httpx2.TransportError:
        return False
    assert answer.status_code == 200 or answer.json()["code"] == "host_leaving", answer.text
    return answer.status_code == 200


def test_a_deploy_of_one_host_after_the_other_refuses_nobody(
    start_hosts: StartHosts, address: DatabaseAddress, graph: FakeGraph
) -> None:
    """Each request is answered with 200 by a host that is ready; each message is there once."""
    with start_hosts(address, SHUTDOWN_DELAY="60") as hosts, hosts.bot.browser() as browser:
        page = graph.add_page("Käsehaus")
        hosts.bot.connect_shop(browser)
        hosts.bot.connect_pages(browser)
        hosts.settle()
        clients = Clients(hosts, graph, page, browser.cookies)

        def deploy(app: AppProcess) -> None:
            app.send_signal(signal.SIGTERM)
            eventually(lambda: not is_ready(app), "it is out", seconds=60)
            clients.wait_for_more()  # what it was sent before is answered
            hosts.restart(app)  # which sends SIGTERM again
            clients.wait_for_more()

        with ThreadPoolExecutor(READERS + WRITERS) as pool:
            working = [pool.submit(clients.read, number) for number in range(READERS)]
            working += [pool.submit(clients.write, number) for number in range(WRITERS)]
            try:
                clients.wait_for_more()
                deploy(hosts.bot.app)
                deploy(hosts.second)
            finally:
                clients.stop()
            for work in working:
                work.result()
        assert clients.answers == {"200"}
        hosts.settle()
        folder = f"users/{hosts.bot.user()}/facebook/{page}/conversations"
        for customer, texts in clients.said.items():
            talk = hosts.bot.document(f"{folder}/{customer}.json")
            assert [event["message"]["text"] for event in talk] == texts


def test_what_is_due_is_made_once_across_changes_of_the_leader(
    start_hosts: StartHosts, address: DatabaseAddress
) -> None:
    """The leader dies as it begins the scheduled run, and the next one is stopped after it."""
    far = datetime.now(UTC) + timedelta(days=100)
    given = {"BACKUP_SCHEDULE": f"0 0 {min(far.day, 28)} {far.month} *", "BACKUP_CHANGE_DELAY": "0"}
    with start_hosts(address, **given) as hosts:
        run(hosts.bot.app, "run")
        due = (datetime.now(UTC) + timedelta(seconds=100)).replace(second=0, microsecond=0)
        for app in hosts.both:
            app.installation = app.installation.with_settings(
                BACKUP_SCHEDULE=f"{due.minute} {due.hour} {due.day} {due.month} *"
            )
            hosts.restart(app)
        first = hosts.leader()
        eventually(lambda: _runs(first) or _sets(first, due), "the due run", seconds=240)
        first.kill()
        second = hosts.other(first)
        hosts.wait_until_it_leads(second)
        made = eventually(lambda: _sets(second, due), "the due set", seconds=120)
        first = hosts.start_again(first)
        second.stop()
        hosts.wait_until_it_leads(first)
        eventually(lambda: _is_scheduling(first), "a look at what is due", seconds=120)
        assert len(made) == 1
        assert _sets(first, due) == made


def _runs(app: AppProcess) -> list[str]:
    """The backups that its schedule has begun."""
    with app.client() as admin:
        runs = admin.get("/admin/backups/runs").json()["runs"]
    return [
        one["id"]
        for one in runs
        if one["operation"] == "backup" and one["trigger"] in ("scheduled", "catch-up")
    ]


def _sets(app: AppProcess, since: datetime) -> list[str]:
    """The complete sets that the store has from this time on."""
    with app.client() as admin:
        sets = admin.get("/admin/backups/sets").json()["sets"]
    return [
        one["id"]
        for one in sets
        if one["complete"] and datetime.fromisoformat(one["created_at"]) >= since
    ]


def _is_scheduling(app: AppProcess) -> bool:
    fact = status(app)["protected_by"].get("scheduler")
    return bool(fact and fact["holds"])
