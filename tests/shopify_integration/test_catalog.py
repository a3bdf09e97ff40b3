"""The document of a shop's products: news in any order, and polling in between, converge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import format_utc
from shopify_integration.catalog import Catalog, changed, with_all
from shopify_integration.models import Product, Variant, instant_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def product(product_id: str, changed: float) -> Product:
    """A product as it was after a change at that many seconds after noon."""
    return Product(
        id=product_id,
        title=f"Emmentaler, change {changed}",
        handle="emmentaler",
        status="active",
        description_html="",
        vendor="Sennerei",
        product_type="Käse",
        tags=("hard",),
        created_at=format_utc(NOON),
        updated_at=format_utc(after(changed)),
        variants=(
            Variant(
                id=f"9{product_id}", title="1 kg", sku=None, price="9.90", inventory_quantity=3
            ),
        ),
    )


def with_product(document: Any, news: Product) -> dict[str, Any]:
    """The document after one product changed."""
    return changed(document, [lambda catalog: catalog.put(news)])


def without_product(document: Any, product_id: str, at: datetime) -> dict[str, Any]:
    """The document after one product was deleted."""
    return changed(document, [lambda catalog: catalog.delete(product_id, at)])


@dataclass(frozen=True)
class News:
    """What a webhook tells: a product changed, or was deleted, so many seconds after noon."""

    product_id: str
    at: int
    deleted: bool

    def change(self, catalog: Catalog) -> None:
        """What it does."""
        if self.deleted:
            catalog.delete(self.product_id, after(self.at))
        else:
            catalog.put(product(self.product_id, self.at))

    def applied(self, document: Any) -> Any:
        """The document after it."""
        return changed(document, [self.change])


def changed_at(document: Any) -> dict[str, str]:
    """Which products are there, and their last change."""
    return {one["id"]: one["updated_at"] for one in document["products"]}


HISTORY = st.lists(
    st.builds(
        News,
        product_id=st.sampled_from(["7", "31", "100"]),
        at=st.integers(0, 3 * 24 * 3600 - 1),
        deleted=st.booleans(),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda news: news.at,
)


@given(history=HISTORY, data=st.data())
def test_any_order_of_the_same_news_gives_the_same_document(
    history: list[News], data: st.DataObject
) -> None:
    """Late, twice or shuffled: within the days that a deletion is remembered, order is nothing."""
    in_order: Any = None
    for news in sorted(history, key=lambda news: news.at):
        in_order = news.applied(in_order)
    again = data.draw(st.lists(st.sampled_from(history), max_size=6))
    shuffled: Any = None

    for news in data.draw(st.permutations([*history, *again])):
        shuffled = news.applied(shuffled)

    assert shuffled == in_order
    truth = {news.product_id: news for news in sorted(history, key=lambda news: news.at)}
    assert changed_at(in_order) == {
        one: format_utc(after(news.at)) for one, news in truth.items() if not news.deleted
    }


@given(history=HISTORY, data=st.data())
def test_news_and_pollings_in_any_order_end_at_the_truth(
    history: list[News], data: st.DataObject
) -> None:
    """Each polling saw the shop as it was at its time; what came before or since is not undone."""
    in_time = sorted(history, key=lambda news: news.at)
    document: Any = None
    polled_until = 0

    for news in data.draw(st.permutations(history)):
        document = news.applied(document)
        if data.draw(st.booleans()):
            at = data.draw(st.integers(polled_until, 3 * 24 * 3600))
            there = {one.product_id: one for one in in_time if one.at <= at}
            seen = [product(one.product_id, one.at) for one in there.values() if not one.deleted]
            document = with_all(document, seen, after(at))
            polled_until = at

    truth = {news.product_id: news for news in in_time}
    assert changed_at(document) == {
        one: format_utc(after(news.at)) for one, news in truth.items() if not news.deleted
    }


def test_a_polling_does_not_bring_back_what_was_deleted_while_it_read() -> None:
    """It saw the product before the deletion, and is applied after it."""
    document = with_product(None, product("7", 10))
    document = without_product(document, "7", after(100))

    document = with_all(document, [product("7", 10), product("31", 20)], after(50))

    assert list(changed_at(document)) == ["31"]
    assert document["deleted"] == [{"id": "7", "at": format_utc(after(100))}]


def test_a_late_change_does_not_bring_back_what_was_deleted() -> None:
    """Also when the deletion was told twice, the second time with an older time."""
    document = without_product(None, "7", after(100))
    document = without_product(document, "7", after(50))

    document = with_product(document, product("7", 80))

    assert document["products"] == []
    assert document["deleted"] == [{"id": "7", "at": format_utc(after(100))}]


def test_a_polling_keeps_what_was_made_while_it_read() -> None:
    """A webhook told of a product that was not there when its page was read."""
    document = with_product(None, product("7", 200))

    document = with_all(document, [product("31", 20)], after(150))

    assert list(changed_at(document)) == ["7", "31"]


def test_a_polling_keeps_what_a_webhook_told_since() -> None:
    """A page that was read before the change does not undo it."""
    document = with_product(None, product("7", 200))

    document = with_all(document, [product("7", 100)], after(150))

    assert changed_at(document) == {"7": format_utc(after(200))}


def test_a_polling_drops_what_is_not_there_any_more() -> None:
    """A deletion whose webhook never came is seen by polling."""
    document = with_product(with_product(None, product("7", 10)), product("31", 20))

    document = with_all(document, [product("31", 20)], after(1000))

    assert list(changed_at(document)) == ["31"]


def test_a_product_that_is_made_again_is_there() -> None:
    """News from after the deletion count, by webhook and by polling."""
    gone = without_product(None, "7", after(100))

    assert list(changed_at(with_product(gone, product("7", 101)))) == ["7"]
    assert list(changed_at(with_all(gone, [product("7", 101)], after(150)))) == ["7"]
    assert with_product(gone, product("7", 101))["deleted"] == []


@pytest.mark.parametrize("days", [2.9, 3.1])
def test_deletions_are_remembered_for_three_days(days: float) -> None:
    """Longer than any sender tries again, and not for ever."""
    later = days * 24 * 3600
    gone = without_product(None, "7", NOON)

    polled = with_all(gone, [], after(later))
    told = without_product(gone, "31", after(later))

    assert [one["id"] for one in polled["deleted"]] == (["7"] if days < 3 else [])
    assert [one["id"] for one in told["deleted"]] == (["7", "31"] if days < 3 else ["31"])


@pytest.mark.parametrize("document", [None, {}, [], "broken", {"products": []}])
def test_whatever_is_no_document_is_an_empty_one(document: Any) -> None:
    """A first product, or a store that somebody else wrote to."""
    assert list(changed_at(with_product(document, product("7", 1)))) == ["7"]


def test_products_are_in_the_order_of_their_numbers() -> None:
    """So that the same products are the same bytes."""
    document: Any = None
    for product_id in ("100", "31", "7"):
        document = with_product(document, product(product_id, 1))

    assert list(changed_at(document)) == ["7", "31", "100"]


def test_a_product_without_a_time_is_taken_as_it_comes() -> None:
    """Shopify may leave `updated_at` out; what is told last is kept."""
    bare = product("7", 1).model_copy(update={"updated_at": None})

    document = with_product(with_product(None, product("7", 5)), bare)

    assert document["products"] == [bare.model_dump(mode="json")]


FAR_APART = st.lists(
    st.builds(
        News,
        product_id=st.sampled_from(["7", "31", "100"]),
        at=st.integers(0, 9).map(lambda day: day * 24 * 3600),
        deleted=st.booleans(),
    ),
    max_size=12,
)


@given(history=FAR_APART, begins_at=st.integers(0, 12))
def test_a_batch_is_its_news_one_after_the_other(history: list[News], begins_at: int) -> None:
    """Also where a deletion is forgotten in the middle of it."""
    document = changed(None, [news.change for news in history[:begins_at]])
    one_by_one: Any = document
    for news in history[begins_at:]:
        one_by_one = news.applied(one_by_one)
    assert changed(document, [news.change for news in history[begins_at:]]) == one_by_one


def test_a_batch_looks_at_the_catalogue_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred changes of 2,000 products: each time that is stored is read once."""
    document = with_all(None, [product(str(number), 0) for number in range(2000)], after(1))
    read = 0

    def counting(text: str | None) -> datetime | None:
        nonlocal read
        read += 1
        return instant_of(text)

    monkeypatch.setattr("shopify_integration.catalog.instant_of", counting)
    news = [News(str(number), 10 + number, deleted=number % 7 == 0) for number in range(100)]
    after_it = changed(document, [one.change for one in news])
    assert len(after_it["products"]) == 1985
    assert read <= 2000 + 2 * len(news)
