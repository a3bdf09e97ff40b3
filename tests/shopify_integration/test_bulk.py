"""A large catalogue comes as one file; whatever is wrong with that, it comes by pages."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from shared.merchants.errors import PlatformError, PlatformPreparing, PlatformUnreachable
from shopify_integration.bulk import FileNotWhole, Operation, products_in
from shopify_integration.errors import ShopUnavailable
from tests.shopify_integration.conftest import FOLDER, SHOP, Desk

TITLES = [f"Cheese {number:04}" for number in range(1001)]
PAGES = "graphql:products"
RUN, STATUS = "graphql:bulkOperationRunQuery", "graphql:bulkOperation"


@pytest.fixture
def numbers(desk: Desk) -> list[int]:
    """Those of 1,001 products: so many come as a file."""
    return desk.shopify.put_products(SHOP, TITLES)


def prepared(desk: Desk) -> float:
    """A poll finds that Shopify prepares the file; after how many seconds to come again."""
    with pytest.raises(PlatformPreparing) as caught:
        desk.started().poll(SHOP)
    assert caught.value.wait is not None
    return caught.value.wait


def asked(desk: Desk, edge: str) -> int:
    """How many requests there were."""
    return len(desk.shopify.calls(edge))


def test_a_large_catalogue_is_read_from_one_file(desk: Desk, numbers: list[int]) -> None:
    """No page is asked for; variants, and what was deleted at the shop, are as by pages."""
    many = [{"title": f"{number} kg"} for number in range(300)]
    desk.shopify.put_product(SHOP, numbers[7], variants=many, deliver=False)
    desk.clock.advance(seconds=prepared(desk))
    desk.started().poll(SHOP)

    assert desk.products() == TITLES
    titles = [variant["title"] for variant in desk.stored()[7]["variants"]]
    assert titles == [one["title"] for one in many]
    assert asked(desk, PAGES) == 0
    assert desk.place.data.keys(f"{FOLDER}products_bulk/") == []

    desk.shopify.delete_product(SHOP, numbers[0], deliver=False)
    desk.clock.advance(days=1)
    desk.clock.advance(seconds=prepared(desk))
    desk.started().poll(SHOP)
    assert desk.products() == TITLES[:0] + TITLES[1:]


def test_the_same_product_comes_by_file_and_by_page(desk: Desk, numbers: list[int]) -> None:
    """So that one after the other writes nothing."""
    desk.clock.advance(seconds=prepared(desk))
    desk.started().poll(SHOP)
    by_file = desk.stored()
    desk.shopify.configure(bulk_outcome="FAILED", bulk_looks=0, restore_rate=100_000.0)

    desk.started().poll(SHOP)

    assert asked(desk, PAGES) == 41
    assert desk.stored() == by_file


def test_a_restart_waits_for_the_same_file(desk: Desk, numbers: list[int]) -> None:
    """One operation is begun, whoever looks at it, and ever less often."""
    desk.shopify.configure(bulk_looks=9)
    waits = []
    for _ in range(8):
        waits.append(prepared(desk))
        desk.clock.advance(seconds=waits[-1])
    desk.clock.advance(minutes=30)
    waits.append(prepared(desk))
    desk.started().poll(SHOP)

    assert asked(desk, RUN) == 1
    assert waits[0] == 10
    assert waits == sorted(waits)
    assert waits[-1] == 300
    assert desk.products() == TITLES


def test_a_shop_that_is_available_again_says_so_at_once(desk: Desk, numbers: list[int]) -> None:
    """It answers, though its file is still to come."""
    desk.shopify.answer_status("graphql", 402)
    with pytest.raises(ShopUnavailable):
        desk.started().poll(SHOP)
    assert list(desk.place.marks.unavailable("shopify")) == [SHOP]

    prepared(desk)

    assert desk.place.marks.unavailable("shopify") == {}


def test_a_smaller_catalogue_is_read_by_pages(desk: Desk) -> None:
    """Its pages are there before a file would be."""
    desk.shopify.put_products(SHOP, TITLES[:30])

    desk.started().poll(SHOP)

    assert asked(desk, RUN) == 0
    assert desk.products() == TITLES[:30]


@pytest.mark.parametrize("outcome", ["FAILED", "CANCELED", "EXPIRED"])
def test_an_operation_that_did_not_end_well_is_not_taken_for_all(
    desk: Desk, numbers: list[int], outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed one has half of the products: none is taken away, all are read by pages."""
    desk.shopify.configure(bulk_outcome=outcome, restore_rate=100_000.0)
    desk.clock.advance(seconds=prepared(desk))

    desk.started().poll(SHOP)

    assert f"has not ended well: {outcome}" in caplog.text
    assert desk.products() == TITLES
    assert asked(desk, PAGES) == 41
    assert desk.place.data.keys(f"{FOLDER}products_bulk/") == []


def lose_lines(desk: Desk) -> None:
    """The file ends too early, between two products."""
    desk.shopify.configure(bulk_lines_lost=2, restore_rate=100_000.0)


def lose_file(desk: Desk) -> None:
    """The file has expired."""
    desk.shopify.lose_bulk_files(SHOP)


def lose_operation(desk: Desk) -> None:
    """Shopify does not know the operation any more."""
    desk.shopify.lose_bulk_files(SHOP, known=False)


@pytest.mark.parametrize("harm", [lose_lines, lose_file, lose_operation])
def test_a_file_that_is_not_whole_is_not_taken(
    desk: Desk,
    numbers: list[int],
    harm: Callable[[Desk], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All is read by pages, and the log says why, without the address of the file."""
    desk.shopify.configure(restore_rate=100_000.0)
    desk.clock.advance(seconds=prepared(desk))
    harm(desk)

    with caplog.at_level(logging.WARNING):
        desk.started().poll(SHOP)

    assert desk.products() == TITLES
    assert asked(desk, PAGES) == 41
    assert "all products are read by pages" in caplog.text
    assert "Signature" not in caplog.text


def test_a_download_that_is_cut_is_tried_again(desk: Desk, numbers: list[int]) -> None:
    """At once, and by the next poll if the network is away: the file is still there."""
    desk.clock.advance(seconds=prepared(desk))
    desk.shopify.cut("bulk")
    desk.started().poll(SHOP)
    assert desk.products() == TITLES

    desk.clock.advance(days=1)
    desk.clock.advance(seconds=prepared(desk))
    desk.shopify.cut("bulk", times=None)
    sync = desk.started()
    desk.place.outbound._closing.set()  # no patience
    with pytest.raises(PlatformUnreachable):
        sync.poll(SHOP)
    assert len(desk.place.data.keys(f"{FOLDER}products_bulk/")) == 1


def test_while_another_operation_runs_all_is_read_by_pages(desk: Desk, numbers: list[int]) -> None:
    """One was begun whose note was lost: Shopify takes no second one."""
    desk.shopify.configure(bulk_looks=100, restore_rate=100_000.0)
    prepared(desk)
    desk.place.data.remove_all(f"{FOLDER}products_bulk/")

    desk.started().poll(SHOP)

    assert desk.products() == TITLES
    assert asked(desk, PAGES) == 41


def test_an_operation_of_yesterday_is_begun_anew(desk: Desk, numbers: list[int]) -> None:
    """Of what was deleted meanwhile the catalogue would not know any more."""
    prepared(desk)
    desk.clock.advance(hours=25)

    desk.clock.advance(seconds=prepared(desk))
    desk.started().poll(SHOP)

    assert asked(desk, RUN) == 2
    assert desk.products() == TITLES


def lines(*objects: dict[str, Any]) -> io.BytesIO:
    """A file of these objects."""
    return io.BytesIO(b"".join(json.dumps(one).encode() + b"\n" for one in objects))


PRODUCT = {
    "id": "gid://shopify/Product/1",
    "title": "Emmentaler",
    "handle": "e",
    "status": "ACTIVE",
    "descriptionHtml": "",
    "vendor": "",
    "productType": "",
    "tags": [],
    "createdAt": "2026-01-01T00:00:00Z",
    "updatedAt": "2026-01-01T00:00:00Z",
}
VARIANT = {
    "id": "gid://shopify/ProductVariant/2",
    "title": "1 kg",
    "sku": None,
    "price": "1.00",
    "inventoryQuantity": 1,
    "__parentId": PRODUCT["id"],
}


def read(file: io.BytesIO, products: int, objects: int) -> tuple[list[str], set[str]]:
    """The titles in a file, and what was left out."""
    left_out: set[str] = set()
    operation = Operation("COMPLETED", None, "https://x", products, objects)
    return [one.title for one in products_in(file, SHOP, operation, left_out)], left_out


def test_a_malformed_product_in_the_file_is_left_out() -> None:
    """By its id, as in a page."""
    bad = {**PRODUCT, "id": "gid://shopify/Product/3", "createdAt": "never"}
    assert read(lines(PRODUCT, VARIANT, bad), 2, 3) == (["Emmentaler"], {"3"})


@pytest.mark.parametrize(
    "file",
    [
        lines(PRODUCT),
        lines(VARIANT, PRODUCT),
        lines(PRODUCT, {**VARIANT, "__parentId": "gid://shopify/Product/9"}),
        lines(PRODUCT, VARIANT, VARIANT),
        io.BytesIO(b'{"id": "gid://shopify/Product/1", "tit'),
        io.BytesIO(b"[1]\n"),
        io.BytesIO(b"[" * 100_000),
        io.BytesIO(b""),
    ],
)
def test_a_file_that_is_something_else_is_refused(file: io.BytesIO) -> None:
    """Variants apart from their products, too few or too many objects, no JSON."""
    with pytest.raises(FileNotWhole):
        read(file, 1, 2)


def test_a_file_of_nothing_is_refused() -> None:
    """It was begun for a thousand products, all of which would go."""
    with pytest.raises(FileNotWhole):
        read(lines(), 0, 0)


@pytest.mark.parametrize("address", ["http://elsewhere.example/x", "file:///etc/passwd", "x"])
def test_a_file_is_fetched_over_https_only(desk: Desk, address: str) -> None:
    """Or from where the shop's administration is, as in these tests."""
    admin = desk.started()._reader._admin
    with pytest.raises(PlatformError, match="https"):
        admin.download(SHOP, address, io.BytesIO(), 10)
