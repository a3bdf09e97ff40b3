"""The bot under load: a look at the inbox, a change of a product, `GET /`, and its traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say
from benchmarks.topics import bot_traffic

TOPIC = bot_traffic.TOPIC
LOOK, CHANGE = "an empty look at the inbox", "a change of a product, in a batch of 100"
FRONT, FIRST_FRONT = "`GET /`", "`GET /`, the first after a start"
# What is there, and in a quick run: finished rows, products, shops.
ROWS, QUICK_ROWS = 300_000, 3_000
PRODUCTS, QUICK_PRODUCTS = 20_000, 2_000
SHOPS, QUICK_SHOPS = 5_000, 100
_OF_ONE_USER = 5
_BATCH = 100
_LOOKS = 200


def measure(plan: Plan, place: Place, results: Results) -> None:
    """Of each the whole size, or a small one in a quick run."""
    rows, products, shops = (
        (QUICK_ROWS, QUICK_PRODUCTS, QUICK_SHOPS) if plan.quick else (ROWS, PRODUCTS, SHOPS)
    )
    _look(rows, place.new_folder("inbox"), results)
    _change(products, plan.runs, place.new_folder("documents"), results)
    _front_page(shops, place, results)
    bot_traffic.measure_traffic(plan, place, results)


def _add(results: Results, who: str, what: str, values: list[float]) -> None:
    results.add(TOPIC, 0, who, what, "ms", [1000 * value for value in values])


def _timed(act: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    act()
    return clock() - began


def _look(rows: int, folder: Path, results: Results) -> None:
    """Which accounts have something due, when all rows are finished."""
    from shared.merchants.inbox import Event, Inbox, open_inbox  # noqa: PLC0415 - not for `--help`
    from tests.support.clock import FixedClock  # noqa: PLC0415

    say(f"  {rows:,} finished rows")
    clock = FixedClock(datetime(2026, 11, 22, 12, tzinfo=UTC))
    with closing(open_inbox(folder / "inbox.db")) as database:
        inbox = Inbox(database, clock)
        inbox.add(Event("facebook", f"m-{n}", str(n % 500), "messages", "{}") for n in range(rows))
        with database.transaction() as connection:
            connection.execute("UPDATE events SET done = 1, body = NULL")
        assert not inbox.due_accounts(["facebook", "shopify"])
        seconds = [
            _timed(lambda: inbox.due_accounts(["facebook", "shopify"])) for _ in range(_LOOKS)
        ]
    _add(results, f"{rows:,} finished rows", LOOK, seconds)


def _change(count: int, runs: int, folder: Path, results: Results) -> None:
    """Processor time of a batch of a hundred products anywhere in the catalogue, by each of it."""
    from shared.merchants.documents import MerchantData  # noqa: PLC0415 - not for `--help`
    from shared.store.directory import DirectoryStore  # noqa: PLC0415
    from shopify_integration.models import Product, Variant  # noqa: PLC0415
    from shopify_integration.product_documents import News, ProductDocuments  # noqa: PLC0415
    from tests.support.clock import FixedClock  # noqa: PLC0415

    say(f"  {count:,} products")
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def product(number: int, title: str, second: int) -> Product:
        return Product(
            id=str(number),
            title=title,
            handle=f"emmentaler-{number}",
            status="active",
            description_html=f"<p>Ripened in a cellar for {number} days.</p>" * 5,
            vendor="Sennerei",
            product_type="cheese",
            tags=("hard", "raw milk"),
            created_at="2026-11-22T12:00:00Z",
            updated_at=f"2026-11-22T12:00:{second:02}Z",
            variants=tuple(
                Variant(
                    id=f"{number}0{one}", title=f"{one} kg", sku=f"E-{number}-{one}",
                    price="9.90", inventory_quantity=3,
                )
                for one in range(1, 4)
            ),
        )  # fmt: skip

    def news(number: int, second: int) -> News:
        changed = product(number, f"Emmentaler, change {second}", second)
        return News(str(number), lambda catalog: catalog.put(changed))

    store = DirectoryStore(folder)
    documents = ProductDocuments(MerchantData(store, FixedClock(noon)))
    users = "users/1/shopify/a.myshopify.com/"
    documents.polled(users, [product(n, "Emmentaler", 0) for n in range(count)], noon)
    seconds = []
    for turn in range(1, runs + 1):
        batch = [news(n * (count // _BATCH), turn) for n in range(_BATCH)]
        act = partial(documents.change, users, batch)
        seconds.append(_timed(act, time.process_time) / _BATCH)
    stored = sum(path.read_text().count(f"change {runs}") for path in folder.rglob("*.json"))
    assert stored == _BATCH, "each is stored"
    _add(results, f"{count:,} products", f"{CHANGE}: processor time", seconds)


def _front_page(shops: int, place: Place, results: Results) -> None:
    """Of a user with five shops, among as many others as there are, by a server of its own."""
    from shared.databases.cipher import TokenCipher  # noqa: PLC0415 - not for `--help`
    from shared.databases.sessions import SessionStorage  # noqa: PLC0415
    from shared.databases.tokens import TokenStorage  # noqa: PLC0415
    from shared.merchants.browser_sessions import SessionIds  # noqa: PLC0415
    from shopify_integration.grants import Grant  # noqa: PLC0415
    from shopify_integration.shops import Shops  # noqa: PLC0415
    from tests.support.bot import Bot  # noqa: PLC0415
    from tests.support.clock import FixedClock  # noqa: PLC0415
    from tests.support.fake_graph import FakeGraph  # noqa: PLC0415
    from tests.support.fake_shopify import FakeShopify  # noqa: PLC0415
    from tests.support.installation import TOKEN_ENCRYPTION_KEY  # noqa: PLC0415

    say(f"  {shops:,} shops")
    bucket = place.spaces(place.new_bucket())
    with (
        FakeGraph.started() as graph,
        FakeShopify.started() as shopify,
        Bot.started(
            place.new_folder("bot"), graph, shopify, bucket, BACKUP_CHANGE_DELAY="0"
        ) as bot,
    ):
        bot.app.stop()
        clock = FixedClock(datetime.now(UTC))
        user = str(UUID(int=0))
        cipher = TokenCipher((TOKEN_ENCRYPTION_KEY,))
        with closing(TokenStorage(bot.installation.tokens_path, cipher)) as tokens:
            register = Shops(tokens, None, clock)  # type: ignore[arg-type]  # it asks nobody
            for number in range(shops):
                owner = str(UUID(int=number // _OF_ONE_USER))
                register.connect(f"shop-{number}.myshopify.com", Grant("a-token"), owner)
        with closing(SessionStorage(bot.installation.sessions_path, clock)) as sessions:
            ids = SessionIds((TOKEN_ENCRYPTION_KEY,))
            cookie = sessions.create(user, ids.new(user))
        bot.restart()
        with bot.app.client() as browser:
            browser.cookies.set("session", cookie)

            def look() -> None:
                document = browser.get("/", headers={"Accept": "application/json"}).json()
                assert len(document["shops"]) == _OF_ONE_USER, document

            first = _timed(look)
            seconds = [_timed(look) for _ in range(_LOOKS)]
    _add(results, f"{shops:,} shops", FIRST_FRONT, [first])
    _add(results, f"{shops:,} shops", FRONT, seconds)
