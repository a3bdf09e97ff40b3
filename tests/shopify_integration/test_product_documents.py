"""The products of a shop in the store: one document, or pieces where there are many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StoreError
from shared.merchants.documents import MerchantData
from shared.store.directory import DirectoryStore
from shared.store.object_store import ByteProgress, Sink, ignore_bytes
from shopify_integration.catalog import changed
from shopify_integration.product_documents import News, ProductDocuments
from tests.shopify_integration.test_catalog import HISTORY, after, product
from tests.shopify_integration.test_catalog import News as Told
from tests.support.clock import FixedClock

FOLDER = "users/1/shopify/a.myshopify.com/"
HEAD = f"{FOLDER}shop_products.json"


class CountingStore(DirectoryStore):
    """A folder that counts what is fetched from it, and what is written."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read = 0
        self.written: list[str] = []
        self.writes_left: int | None = None

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        super().get(key, sink, progress)
        self.read += (Path(self.location) / key).stat().st_size

    def replace(self, key: str, body: bytes) -> None:
        """See `DocumentStore.replace`; after so many it fails, as where the process is killed."""
        if self.writes_left is not None:
            if not self.writes_left:
                raise StoreError("the process is killed here")
            self.writes_left -= 1
        self.written.append(key)
        super().replace(key, body)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    """An empty folder."""
    return CountingStore(tmp_path / "store")


def documents(store: DirectoryStore, most: int = 1000) -> ProductDocuments:
    """The documents in a store."""
    return ProductDocuments(MerchantData(store, FixedClock()), most)


def put(product_id: str, at: float) -> News:
    """A product changed."""
    return News(product_id, lambda catalog: catalog.put(product(product_id, at)))


def stored(store: DirectoryStore) -> dict[str, str]:
    """All products in the store as a reader of the documents finds them, and their last change."""
    folder = Path(store.location)
    head = json.loads((folder / HEAD).read_bytes())
    found = list(head["products"])
    for name in head.get("pieces", ()):
        found += json.loads((folder / FOLDER / name).read_bytes())["products"]
    assert len({one["id"] for one in found}) == len(found), "each is in one document"
    return {one["id"]: one["updated_at"] for one in sorted(found, key=lambda one: int(one["id"]))}


def keys(store: DirectoryStore) -> list[str]:
    """The keys of the documents."""
    return sorted(found.key for found in store.list("users/"))


def test_a_change_in_a_large_catalogue_costs_its_piece(store: CountingStore) -> None:
    """Of 20,000 products, one that changes has less than a thirtieth of the bytes read and
    written; a batch of changes of one piece reads it once."""
    products = [product(str(number), 0) for number in range(20_000)]
    documents(store).polled(FOLDER, products, after(1))
    whole = sum((Path(store.location) / key).stat().st_size for key in keys(store))
    store.read, store.written = 0, []
    documents(store).change(FOLDER, [put("77", 10)])
    assert 0 < store.read < whole / 30
    assert len(store.written) == 1
    once = store.read
    store.read = 0
    documents(store).change(FOLDER, [put("77", 20 + number) for number in range(100)])
    assert store.read <= once + 100
    assert len(stored(store)) == 20_000


def test_a_small_catalogue_is_one_document(store: CountingStore) -> None:
    """In the form that it always had."""
    products = [product(str(number), 0) for number in range(3)]
    documents(store, 3).polled(FOLDER, products, after(1))
    documents(store, 3).change(FOLDER, [put("1", 5)])
    assert keys(store) == [HEAD]
    assert set(json.loads((Path(store.location) / HEAD).read_bytes())) == {"products", "deleted"}


def test_a_document_that_grows_is_divided(store: CountingStore) -> None:
    """By a webhook, and by a polling again and again; no piece is left of the former ones."""
    for number in range(4):
        documents(store, 3).change(FOLDER, [put(str(number), number)])
    assert len(keys(store)) == 1 + 4
    for count in (20, 100):
        products = [product(str(number), 50) for number in range(count)]
        documents(store, 3).polled(FOLDER, products, after(60))
        assert len(stored(store)) == count
    pieces = json.loads((Path(store.location) / HEAD).read_bytes())["pieces"]
    assert keys(store) == sorted([HEAD, *(f"{FOLDER}{name}" for name in pieces)])
    sizes = [
        len(json.loads((Path(store.location) / FOLDER / one).read_bytes())["products"])
        for one in pieces
    ]
    assert max(sizes) <= 6


@given(history=HISTORY, begins_at=st.integers(0, 12))
def test_pieces_hold_what_one_document_would(
    tmp_path_factory: pytest.TempPathFactory, history: list[Told], begins_at: int
) -> None:
    """Whatever the news, in which order, and wherever the division comes."""
    store = CountingStore(tmp_path_factory.mktemp("store"))
    news = [News(one.product_id, one.change) for one in history]
    for batch in (news[:begins_at], news[begins_at:]):
        documents(store, 1).change(FOLDER, batch)
    whole = changed(None, [one.change for one in history])
    assert stored(store) == {one["id"]: one["updated_at"] for one in whole["products"]}


@pytest.mark.parametrize("from_pieces", [False, True])
def test_a_kill_anywhere_in_a_division_loses_nothing(tmp_path: Path, from_pieces: bool) -> None:
    """A reader finds all products after it, and the next polling ends what was begun."""
    writes, killed = 0, True
    while killed:
        store = CountingStore(tmp_path / f"after-{writes}")
        few = [product(str(number), 0) for number in range(8 if from_pieces else 3)]
        documents(store, 3).polled(FOLDER, few, after(1))
        many = [product(str(number), 0) for number in range(40)]
        store.writes_left = writes
        try:
            documents(store, 3).polled(FOLDER, many, after(2))
            killed = False
        except StoreError:
            assert len(few) <= len(stored(store)) <= len(many)
        store.writes_left = None
        documents(store, 3).polled(FOLDER, many, after(3))
        assert len(stored(store)) == len(many)
        pieces = json.loads((Path(store.location) / HEAD).read_bytes())["pieces"]
        assert keys(store) == sorted([HEAD, *(f"{FOLDER}{name}" for name in pieces)])
        writes += 1
    assert writes > 10


def test_what_a_polling_adds_as_it_comes_is_divided_at_its_end(store: CountingStore) -> None:
    """By all that it has seen, and not by the last page of it; what it has not seen goes."""
    products = [product(str(number), 0) for number in range(40)]
    documents(store, 4).add(FOLDER, [*products[:5], product("99", 0)])
    documents(store, 4).add(FOLDER, products[5:39])
    seen = {one.id for one in products}

    documents(store, 4).polled(FOLDER, products[39:], after(1000), (), seen)

    assert list(stored(store)) == [one.id for one in products]
    assert len(json.loads((Path(store.location) / HEAD).read_bytes())["pieces"]) >= 10
