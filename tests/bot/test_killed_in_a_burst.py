"""SIGKILL at random moments of a burst: what was answered 200 is there, and in its order."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.fault_proxy import Answer, FaultProxy, Request, refuse
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

AT_ONCE = 20  # conversations
IN_A_CALL = 5
REFUSED = 5  # one document in so many, when it is stored: its conversation waits for a second
_REFUSE = refuse(403, "AccessDenied")
NOON = 1_795_348_800_000
Event = dict[str, Any]


class Applied:
    """Sees each conversation that is stored: which of its messages were applied by then."""

    def __init__(self) -> None:
        self.by_customer: dict[str, list[list[int]]] = defaultdict(list)
        self.stored = 0

    def see(self, proxy: FaultProxy, request: Request) -> Answer | None:
        """A fault of the proxy that passes most on: what was refused must not be overtaken."""
        if "/versions/" not in request.key:
            customer = request.key.rpartition("/")[2].removesuffix(".json")
            numbers = [int(event["message"]["text"]) for event in json.loads(request.body)]
            self.by_customer[customer].append(numbers)
            self.stored += 1
            if self.stored % REFUSED == 0:
                return _REFUSE(proxy, request)
        proxy.forget_requests()  # a burst of them would fill the memory
        return proxy.forward(request)

    def out_of_order(self) -> list[tuple[str, list[int]]]:
        """What was stored and is not the beginning of a conversation, as long as before or longer.

        The messages of a conversation are sent one after the other, each when the one before has
        its 200: so they arrive in the order of their numbers, and are to be applied in it.
        """
        wrong = []
        for customer, stored in self.by_customer.items():
            length = 0
            for numbers in stored:
                if numbers != list(range(len(numbers))) or len(numbers) < length:
                    wrong.append((customer, numbers))
                length = len(numbers)
        return wrong


@contextmanager
def connected(
    folder: Path, graph: FakeGraph, shopify: FakeShopify, server: S3Server, applied: Applied
) -> Iterator[ConnectedBot]:
    """A bot whose stored conversations are seen."""
    with FaultProxy(server.endpoint) as proxy:
        proxy.on(applied.see, method="PUT", key="/conversations/")
        bucket = proxy.settings(server.settings_of_new_bucket())
        with ConnectedBot.started(folder, graph, shopify, bucket, BACKUP_CHANGE_DELAY="0") as bot:
            yield bot


def burst_with_kills(
    bot: ConnectedBot,
    graph: FakeGraph,
    applied: Applied,
    *,
    each: int,
    kills: int,
    chance: random.Random,
) -> None:
    """Send `each` messages in each conversation while the app is killed; all of it holds then."""
    conversations = [(bot.pages[n % len(bot.pages)], bot.customer()) for n in range(AT_ONCE)]
    acknowledged = 0
    lock = threading.Lock()

    def send(page: str, customer: str) -> None:
        nonlocal acknowledged
        for first in range(0, each, IN_A_CALL):
            numbers = range(first, min(each, first + IN_A_CALL))
            events = [_event(page, customer, number) for number in numbers]
            sent = graph.send_webhook(events, one_post=False, retries=10_000, pause=0.1)
            assert sum(one.accepted for one in sent) == len(events)
            with lock:
                acknowledged += len(events)

    moments = sorted(chance.sample(range(AT_ONCE * each), kills))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sending = [pool.submit(send, *conversation) for conversation in conversations]
        for moment in moments:
            _wait_until(lambda: acknowledged >= moment, sending)  # noqa: B023 - waited for here
            if chance.random() < 0.5:  # while a document is on its way
                before = applied.stored
                _wait_until(lambda: applied.stored > before, sending)  # noqa: B023
            bot.bot.kill_and_start()
        for one in sending:
            one.result()
    bot.settle()
    wanted = [f"{number}" for number in range(each)]
    lost = {talk: texts for talk in conversations if (texts := bot.texts(*talk)) != wanted}
    assert lost == {}
    assert applied.out_of_order() == []


def _wait_until(condition: Callable[[], bool], sending: list[Future[None]]) -> None:
    """It is met, or nobody sends any more."""
    eventually(lambda: condition() or all(one.done() for one in sending), "the moment", seconds=240)


def _event(page: str, customer: str, number: int) -> Event:
    """A message that the platform's lists do not have: no polling can bring it back."""
    return {
        "sender": {"id": customer},
        "recipient": {"id": page},
        "timestamp": NOON + number,
        "message": {"mid": f"m_{customer}_{number:06}", "text": f"{number}"},
    }


def test_kills_in_a_burst_lose_and_reorder_nothing(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server
) -> None:
    """300 messages in 20 conversations, and two kills among them."""
    applied = Applied()
    with connected(tmp_path, graph, shopify, s3_server, applied) as bot:
        burst_with_kills(bot, graph, applied, each=15, kills=2, chance=random.Random(20261122))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak_kills_in_a_burst_of_five_thousand(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server
) -> None:
    """5,000 messages, and twenty kills at moments that no other run has."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"\nseed {seed}")
    applied = Applied()
    with connected(tmp_path, graph, shopify, s3_server, applied) as bot:
        burst_with_kills(bot, graph, applied, each=250, kills=20, chance=random.Random(seed))
    print(
        f"5000 messages, 20 kills, {applied.stored} documents stored: nothing lost or out of order"
    )
