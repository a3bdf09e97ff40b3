"""A polling of a shop stores what it reads as it comes, and goes on where it was cut short."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared.merchants.errors import PlatformBusy, PlatformError, PlatformPreparing
from shared.merchants.inbox import Event, WaitingEvent
from tests.shopify_integration.conftest import FOLDER, SHOP, USER, Desk

# A page has 25.
TITLES = [f"Cheese {number:03}" for number in range(210)]
PRODUCTS = "graphql:products"


@pytest.fixture
def numbers(desk: Desk) -> list[int]:
    """Those of 210 products, which are nine pages; all of them were last changed long ago."""
    found = desk.shopify.put_products(SHOP, TITLES)
    for number in (found[0], found[209]):
        desk.shopify.put_product(SHOP, number, deliver=False, updated_at=long_ago(desk))
    return found


def long_ago(desk: Desk) -> str:
    """A time long before any polling."""
    return (desk.clock.now() - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def busy_after(desk: Desk, pages: int) -> None:
    """So many pages are read; then Shopify wants no requests for an hour."""
    headers = {"retry-after": "3600"}
    desk.shopify.answer_status(PRODUCTS, 429, headers=headers, skip=pages)
    with pytest.raises(PlatformBusy):
        desk.started().poll(SHOP)
    desk.shopify.clear_calls()
    desk.clock.advance(hours=1)


def asked(desk: Desk) -> int:
    """How many pages of products were requested."""
    return len(desk.shopify.calls(PRODUCTS))


def test_a_restart_goes_on_with_the_next_page(desk: Desk, numbers: list[int]) -> None:
    """Five of nine pages were read before it: four are asked for after it, and all is stored."""
    busy_after(desk, 5)
    assert len(desk.pages()) == 5
    assert desk.products() == TITLES[:100]  # as of the fourth page

    desk.started().poll(SHOP)

    assert asked(desk) == 4
    assert desk.products() == TITLES
    assert desk.pages() == []


def test_a_poll_outlives_its_token(desk: Desk, numbers: list[int]) -> None:
    """A token is good for three requests: each page is read once, and none of them again."""
    desk.shopify.configure(access_requests=3)
    desk.shopify.expire_access_token(SHOP)
    desk.started().poll(SHOP)

    read = [call for call in desk.shopify.calls(PRODUCTS) if call.status == 200]
    assert len(read) == 9
    assert len({call.token for call in read}) >= 3
    assert desk.products() == TITLES


def test_what_was_deleted_goes_at_the_end_of_all_pages(desk: Desk, numbers: list[int]) -> None:
    """A reading that is cut short takes nothing away; the whole one does."""
    desk.started().poll(SHOP)
    for number in (numbers[0], numbers[209]):
        desk.shopify.delete_product(SHOP, number, deliver=False)
    desk.clock.advance(days=1)

    busy_after(desk, 5)
    assert desk.products() == TITLES

    desk.started().poll(SHOP)
    assert desk.products() == TITLES[1:209]


def test_what_a_webhook_deletes_meanwhile_stays_deleted(desk: Desk, numbers: list[int]) -> None:
    """Though a page that was stored before has it."""
    busy_after(desk, 5)
    document = desk.place.data.read(f"{FOLDER}shop_products.json")
    at = desk.clock.now() + timedelta(hours=1)
    gone = str(numbers[1])
    document["products"] = [one for one in document["products"] if one["id"] != gone]
    document["deleted"].append({"id": gone, "at": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
    desk.place.data.change(f"{FOLDER}shop_products.json", lambda _: document)

    desk.started().poll(SHOP)

    assert desk.products() == [title for title in TITLES if title != TITLES[1]]


def test_a_malformed_product_is_kept_across_a_restart(desk: Desk, numbers: list[int]) -> None:
    """One that an early page left out is still known as that at the end."""
    desk.started().poll(SHOP)
    desk.clock.advance(days=1)
    desk.shopify.put_product(
        SHOP, numbers[0], created_at="never", updated_at=long_ago(desk), deliver=False
    )
    busy_after(desk, 5)

    desk.started().poll(SHOP)

    assert desk.products() == TITLES


def drop_one(desk: Desk) -> None:
    """A page is gone from the store."""
    desk.store.delete(f"{FOLDER}products_read/000002.json")


def spoil_one(desk: Desk) -> None:
    """A page is not what was stored."""
    desk.place.data.change(f"{FOLDER}products_read/000002.json", lambda _: {"products": 5})


def mix(desk: Desk) -> None:
    """A page is of another reading."""

    def earlier(page: Any) -> Any:
        return json.loads(json.dumps(page).replace(page["began_at"], "2026-01-01T00:00:00Z"))

    desk.place.data.change(f"{FOLDER}products_read/000002.json", earlier)


def let_it_age(desk: Desk) -> None:
    """More than a day passes."""
    desk.clock.advance(hours=24)


def set_the_clock_back(desk: Desk) -> None:
    """The reading began in the future."""
    desk.clock.step(days=-3)


@pytest.mark.parametrize("harm", [drop_one, spoil_one, mix, let_it_age, set_the_clock_back])
def test_pages_that_are_not_whole_or_too_old_are_read_again(
    desk: Desk, numbers: list[int], harm: Callable[[Desk], None]
) -> None:
    """All nine of them."""
    busy_after(desk, 5)
    harm(desk)

    desk.started().poll(SHOP)

    assert asked(desk) == 9
    assert desk.products() == TITLES
    assert desk.pages() == []


def test_a_cursor_that_shopify_no_longer_takes_begins_anew(desk: Desk, numbers: list[int]) -> None:
    """The product that it names is deleted, and the stand-in refuses it then."""
    busy_after(desk, 5)
    desk.shopify.delete_product(SHOP, numbers[124], deliver=False)

    desk.started().poll(SHOP)

    assert asked(desk) == 1 + 9
    assert desk.products() == [*TITLES[:124], *TITLES[125:]]


def test_a_refused_query_fails_the_poll(desk: Desk, numbers: list[int]) -> None:
    """Twice the same refusal: it is not tried for ever."""
    busy_after(desk, 5)
    desk.shopify.fail(PRODUCTS, "BAD_REQUEST", times=None)

    with pytest.raises(PlatformError):
        desk.started().poll(SHOP)

    assert asked(desk) == 2


def test_one_thread_at_a_time_reads_a_shop(desk: Desk, numbers: list[int]) -> None:
    """The second one comes back in a minute: both would write the same pages."""
    sync = desk.started()
    lock = sync._reader._reading.setdefault(SHOP, threading.Lock())
    with lock, pytest.raises(PlatformPreparing) as caught:
        sync.poll(SHOP)

    assert caught.value.wait == 60
    sync.poll(SHOP)
    assert desk.products() == TITLES


def test_a_redacted_shop_is_not_written_again(desk: Desk, numbers: list[int]) -> None:
    """Its pages go with its documents."""
    busy_after(desk, 5)
    assert len(desk.pages()) == 5
    body = json.dumps({"shop_domain": SHOP})
    redact = Event("shopify", "1", SHOP, "shop/redact", body, desk.clock.now())

    desk.started().handle(SHOP, [WaitingEvent(1, 0, redact, 0.0)])

    assert desk.place.data.keys(f"users/{USER}/") == []


def test_a_small_shop_writes_no_pages(desk: Desk) -> None:
    """One page is stored as what it is: the catalogue."""
    desk.shopify.put_products(SHOP, TITLES[:25])

    desk.started().poll(SHOP)

    assert desk.products() == TITLES[:25]
    assert desk.pages() == []
