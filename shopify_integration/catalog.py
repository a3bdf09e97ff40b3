"""The document `shop_products.json`, and how news change it. Pure.

`{"products": [Product, ...], "deleted": [{"id", "at"}, ...]}`, both in the order of ids.
Webhooks come late, twice and in any order, and polling reads while they come: what was
deleted is remembered for some days, so that an older "updated" does not bring it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from shared.clock import format_utc, parse_utc
from shopify_integration.models import Product, instant_of

_REMEMBERED = timedelta(days=3)
_CLOCKS_DIFFER = timedelta(minutes=1)

# What one of the news does.
Change = Callable[["Catalog"], None]


class Catalog:
    """A document while the news of a batch change it: it is taken apart and put together once."""

    def __init__(self, document: Any) -> None:
        self._products, self._deleted = _parts(document)
        # The latest time that anything in it tells of; it never goes back.
        self._latest = _latest(self._products, self._deleted)

    def put(self, product: Product) -> None:
        """A product was created or changed, unless that is old news."""
        at = instant_of(product.updated_at)
        gone_at = self._deleted.get(product.id)
        if gone_at and self._is_remembered(gone_at) and (at is None or at <= gone_at):
            return
        if not _is_newer(self._products.get(product.id), at):
            self._products[product.id] = product.model_dump(mode="json")
            self._tell(at)
        self._deleted.pop(product.id, None)

    def put_first_variants(self, product: Product, named: Sequence[str]) -> None:
        """The same of a webhook that has the first variants of a product, and names all.

        The others stay as they are stored; those that were not stored yet are missing.
        """
        stored = (self._products.get(product.id) or {}).get("variants", ())
        known = {one["id"]: one for one in stored} | {one.id: one for one in product.variants}
        variants = [known[variant] for variant in named if variant in known]
        self.put(Product.model_validate({**product.model_dump(), "variants": variants}))

    def delete(self, product_id: str, at: datetime) -> None:
        """A product was deleted at a time, unless it was made again since."""
        if not _is_newer(self._products.get(product_id), at):
            self._products.pop(product_id, None)
            self._deleted[product_id] = max(at, self._deleted.get(product_id, at))
        self._tell(at)

    def document(self) -> dict[str, Any]:
        """The document now."""
        return _document(self._products, self._deleted, self._latest)

    def _tell(self, at: datetime | None) -> None:
        self._latest = max((one for one in (self._latest, at) if one), default=None)

    def _is_remembered(self, gone_at: datetime) -> bool:
        return self._latest is None or gone_at > self._latest - _REMEMBERED


def put(catalog: Catalog, product: Product) -> None:
    """The change by a product; see `Catalog.put`."""
    catalog.put(product)


def changed(document: Any, changes: Iterable[Change]) -> dict[str, Any]:
    """The document after news, in order."""
    catalog = Catalog(document)
    for change in changes:
        change(catalog)
    return catalog.document()


def with_all(
    document: Any,
    polled: Iterable[Product],
    began_at: datetime,
    left_out: Collection[str] = (),
    seen: Collection[str] = (),
) -> dict[str, Any]:
    """The document after a polling that began at a time, and found these products.

    Those that were `left_out` stay as they are stored; "" among them may be any product. So do
    those that the polling had `seen` before, and stored then.
    """
    products, deleted = _parts(document)
    found: dict[str, Any] = {}
    for product in polled:
        if _is_gone(product, deleted):
            continue  # deleted while we were reading
        before = products.get(product.id)
        newer = _is_newer(before, instant_of(product.updated_at))
        found[product.id] = before if newer else product.model_dump(mode="json")
    for product_id, before in products.items():
        kept = product_id in seen or product_id in left_out or "" in left_out
        # Or it was made while we were reading.
        if product_id not in found and (kept or _is_newer(before, began_at - _CLOCKS_DIFFER)):
            found[product_id] = before
    gone = {one: when for one, when in deleted.items() if one not in found}
    latest = max((at for at in (_latest(found, gone), began_at) if at), default=None)
    return _document(found, gone, latest)


def _is_gone(product: Product, deleted: dict[str, datetime]) -> bool:
    """Whether it was deleted after its last change, which this news tells of."""
    gone_at, changed_at = deleted.get(product.id), instant_of(product.updated_at)
    return gone_at is not None and (changed_at is None or changed_at <= gone_at)


def _is_newer(stored: Any, than: datetime | None) -> bool:
    at = instant_of(stored.get("updated_at")) if stored else None
    return at is not None and than is not None and at > than


def _parts(document: Any) -> tuple[dict[str, Any], dict[str, datetime]]:
    found = document if isinstance(document, dict) else {}
    products = {str(product["id"]): product for product in found.get("products", ())}
    deleted = {str(one["id"]): parse_utc(one["at"]) for one in found.get("deleted", ())}
    return products, deleted


def _latest(products: dict[str, Any], deleted: dict[str, datetime]) -> datetime | None:
    told = (instant_of(product.get("updated_at")) for product in products.values())
    return max((at for at in (*told, *deleted.values()) if at), default=None)


def _document(
    products: dict[str, Any], deleted: dict[str, datetime], latest: datetime | None
) -> dict[str, Any]:
    """The document. `latest` is the latest time that anything in it tells of.

    Counted from there, and not from the news in hand, what is remembered does not depend on
    the order in which the news came.
    """
    recent = {one for one, at in deleted.items() if latest and at > latest - _REMEMBERED}
    return {
        "products": [products[one] for one in sorted(products, key=_order)],
        "deleted": [
            {"id": one, "at": format_utc(deleted[one])} for one in sorted(recent, key=_order)
        ],
    }


def _order(product_id: str) -> tuple[int, str]:
    return len(product_id), product_id
