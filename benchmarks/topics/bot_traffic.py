"""The bot under load, as a running app: beside a hung shop, with a slow store, against strangers.

The stand-ins for the platforms answer at once, but for the shop that hangs. Each request to the
store waits for `STORE_SECONDS` first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say

if TYPE_CHECKING:
    from tests.support.connected_bot import ConnectedBot
    from tests.support.fake_graph import FakeGraph
    from tests.support.fake_shopify import FakeShopify
    from tests.support.fault_proxy import Answer, FaultProxy, Request

TOPIC = "the bot under load"
STORE_SECONDS = 0.05
BUSY = 20
HUNG = f"one hung shop, {BUSY} busy ones"
STORED, STORED_P99 = "a message is stored", "a message is stored, p99"
CONVERSATIONS = 100
MANY_PAGES = 10
INBOX = "updates applied"
HELD = 500
HELD_MEMORY, HELD_SECONDS = "memory above idle", "until all are ended"
_NOON = 1_795_348_800_000
_PATIENCE = 300
_MESSAGES_A_SECOND = 5
_OF_THE_HUNG_SHOP = 1.0  # between two updates of it, in seconds


def on_pages(count: int) -> str:
    """What the tables call conversations of so many Pages."""
    return f"{CONVERSATIONS} conversations of {count} Page{'s' if count > 1 else ''}"


def measure_traffic(plan: Plan, place: Place, results: Results) -> None:
    """Of each the whole size, or a small one in a quick run."""
    _hung_shop(3 if plan.quick else 60, place, results)
    for pages in (1, MANY_PAGES):
        _inbox(300 if plan.quick else 3_000, pages, place, results)
    _held_open(20 if plan.quick else HELD, place, results)


class _SlowStore:
    """Behind each request's delay: when each message was stored."""

    def __init__(self) -> None:
        self.stored: dict[str, float] = {}

    def meet(self, proxy: FaultProxy, request: Request) -> Answer:
        """A fault of the proxy."""
        proxy.forget_requests()
        time.sleep(STORE_SECONDS)
        answer = proxy.forward(request)
        if request.method == "PUT" and "/conversations/" in request.key:
            now = time.perf_counter()
            for event in json.loads(request.body):
                self.stored.setdefault(event["message"]["mid"], now)
        return answer


@contextmanager
def _connected(
    place: Place, pages: int
) -> Iterator[tuple[ConnectedBot, FakeGraph, FakeShopify, _SlowStore]]:
    """A bot with a shop and so many Pages, whose store is slow from then on."""
    from tests.support.bot import Bot  # noqa: PLC0415 - not for `--help`
    from tests.support.connected_bot import ConnectedBot  # noqa: PLC0415
    from tests.support.fake_graph import FakeGraph  # noqa: PLC0415
    from tests.support.fake_shopify import FakeShopify  # noqa: PLC0415
    from tests.support.fault_proxy import FaultProxy  # noqa: PLC0415
    from tests.support.waiting import eventually  # noqa: PLC0415

    bucket, slow = place.spaces(place.new_bucket()), _SlowStore()
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(bucket.endpoint))
        graph = stack.enter_context(FakeGraph.started())
        shopify = stack.enter_context(FakeShopify.started())
        bot = stack.enter_context(
            Bot.started(
                place.new_folder("bot"),
                graph,
                shopify,
                proxy.settings(bucket),
                BACKUP_CHANGE_DELAY="0",
            )
        )
        browser = stack.enter_context(bot.browser())
        made = [graph.add_page(f"Käsehaus {number}") for number in range(pages)]
        bot.connect_shop(browser)
        bot.connect_pages(browser)
        eventually(lambda: len(bot.keys()) >= 2 + pages, "the first sync")
        connected = ConnectedBot(bot, browser, made, bot.user())
        connected.settle()
        proxy.on(slow.meet)
        yield connected, graph, shopify, slow


def _hung_shop(seconds: int, place: Place, results: Results) -> None:
    """From the sending of a webhook until the store has acknowledged the conversation with it."""
    from tests.support.waiting import eventually  # noqa: PLC0415 - not for `--help`

    say(f"  {HUNG}")
    with (
        _connected(place, 1) as (bot, graph, shopify, slow),
        ThreadPoolExecutor(BUSY + 1) as pool,
    ):
        shops = [f"shop-{number}.myshopify.com" for number in range(BUSY + 1)]
        for shop in shops:
            shopify.add_shop(shop)
            shopify.put_product(shop, title="Emmentaler", deliver=False)
            with bot.bot.browser() as browser:
                bot.bot.connect_shop(browser, shop)
        bot.settle()
        hung, *busy = shops
        shopify.hang("*", 3600, times=None, subject=hung)
        ends = time.perf_counter() + seconds
        customers = [bot.customer() for _ in range(10)]

        def keep_hanging() -> None:
            while time.perf_counter() < ends:
                shopify.send_webhook(hung, "shop/update")
                time.sleep(_OF_THE_HUNG_SHOP)

        shopify.send_webhook(hung, "shop/update")
        eventually(lambda: shopify.faults_left() == 1, "the shop that hangs")
        others: list[Future[Any]] = [pool.submit(keep_hanging)]
        others += [pool.submit(shopify.burst, shop, seconds, seconds) for shop in busy]
        sent: dict[str, float] = {}
        for number in range(seconds * _MESSAGES_A_SECOND):
            event = _message(bot.pages[0], customers[number % 10], number)
            sent[event["message"]["mid"]] = time.perf_counter()
            (delivery,) = graph.send_webhook([event])
            assert delivery.status == 200, delivery
            time.sleep(1 / _MESSAGES_A_SECOND)
        for one in others:
            one.result()
        eventually(lambda: sent.keys() <= slow.stored.keys(), "all to be stored", seconds=_PATIENCE)
        shopify.clear_faults()
    waited = sorted(slow.stored[mid] - at for mid, at in sent.items())
    results.add(TOPIC, 0, HUNG, STORED, "s", waited)
    results.add(TOPIC, 0, HUNG, STORED_P99, "s", [waited[int(len(waited) * 0.99)]])


def _inbox(count: int, pages: int, place: Place, results: Results) -> None:
    """So many messages that come at once, until all of them are done."""
    from tests.support.waiting import eventually  # noqa: PLC0415 - not for `--help`

    say(f"  {count:,} messages, {on_pages(pages)}")
    with _connected(place, pages) as (bot, graph, _, slow):
        talks = [(bot.pages[n % pages], bot.customer()) for n in range(CONVERSATIONS)]
        events = [_message(*talks[n % CONVERSATIONS], n) for n in range(count)]
        began = time.perf_counter()
        for first in range(0, count, CONVERSATIONS):
            (delivery,) = graph.send_webhook(events[first : first + CONVERSATIONS])
            assert delivery.status == 200, delivery
        eventually(lambda: bot.waiting() == 0, "all to be done", seconds=_PATIENCE)
        took = time.perf_counter() - began
        assert len(slow.stored) == count
    results.add(TOPIC, 0, on_pages(pages), INBOX, "events/s", [count / took])


def _held_open(count: int, place: Place, results: Results) -> None:
    """Webhooks that nobody has signed, with half of their bodies sent, and a byte a second."""
    from tests.support.app_process import AppProcess, free_port  # noqa: PLC0415
    from tests.support.fake_graph import FakeGraph  # noqa: PLC0415
    from tests.support.held_open import held_open, resident_bytes  # noqa: PLC0415
    from tests.support.installation import Installation, bot_secrets  # noqa: PLC0415
    from tests.support.waiting import eventually  # noqa: PLC0415

    say(f"  {count} bodies held open")
    port = free_port()
    with FakeGraph.started() as graph:
        settings = {**bot_secrets(), **graph.settings(f"http://127.0.0.1:{port}")}
        installation = Installation(place.new_folder("held"), settings)
        with AppProcess.start(installation, port=port, as_script=True) as app:
            assert graph.send_raw_webhook(b'{"object": "page"}').status == 200
            idle = resident_bytes(app.pid)
            with held_open(port, bodies=count) as held:
                eventually(lambda: held.has_ended, "all of them to end", seconds=_PATIENCE)
            most = resident_bytes(app.pid, "VmHWM") - idle
    who = f"{count} unsigned bodies held open"
    results.add(TOPIC, 0, who, HELD_MEMORY, "MiB", [most / 1024**2])
    results.add(TOPIC, 0, who, HELD_SECONDS, "s", [max(held.ended)])


def _message(page: str, customer: str, number: int) -> dict[str, Any]:
    return {
        "sender": {"id": customer},
        "recipient": {"id": page},
        "timestamp": _NOON + number,
        "message": {"mid": f"m_{customer}_{number}", "text": f"Grüezi {number}"},
    }
