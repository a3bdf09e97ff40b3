"""The document `shop_products.json`, and how news change it. Pure.

`{"products": [Product, ...], "deleted": [{"id", "at"}, ...]}`, both in the order of ids.
Webhooks come late, twice and in any order, and polling reads while they come: what was
deleted is remembered for some days, so that an older "updated" does not bring it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from shared.clock import format_utc, parse_utc
from shopify_integration.models import Product, instant_of

_REMEMBERED = timedelta(days=3)
_CLOCKS_DIFFER = timedelta(minutes=1)


def with_product(document: Any, product: Product) -> dict[str, Any]:
    """The document after a product was created or changed, unless that is old news."""
    return with_some(document, [product])


def with_some(document: Any, found: Iterable[Product]) -> dict[str, Any]:
    """The document after these products were found, each unless that is old news."""
    products, deleted = _parts(document)
    for product in found:
        if _is_gone(product, deleted):
            continue
        if not _is_newer(products.get(product.id), instant_of(product.updated_at)):
            products[product.id] = product.model_dump(mode="json")
        deleted.pop(product.id, None)
    return _document(products, deleted)


def with_first_variants(document: Any, product: Product, named: Sequence[str]) -> dict[str, Any]:
    """The document after a webhook that has the first variants of a product, and names all.

    The others stay as they are stored; those that were not stored yet are missing.
    """
    products, _ = _parts(document)
    stored = (products.get(product.id) or {}).get("variants", ())
    known = {one["id"]: one for one in stored} | {one.id: one for one in product.variants}
    variants = [known[variant] for variant in named if variant in known]
    whole = Product.model_validate({**product.model_dump(), "variants": variants})
    return with_product(document, whole)


def without_product(document: Any, product_id: str, at: datetime) -> dict[str, Any]:
    """The document after a product was deleted at a time, unless it was made again since."""
    products, deleted = _parts(document)
    if not _is_newer(products.get(product_id), at):
        products.pop(product_id, None)
        deleted[product_id] = max(at, deleted.get(product_id, at))
    return _document(products, deleted, at)


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
    return _document(found, gone, began_at)


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


def _document(
    products: dict[str, Any], deleted: dict[str, datetime], now: datetime | None = None
) -> dict[str, Any]:
    """The document. What is `now` is the latest time that anything in it tells of.

    Counted from there, and not from the news in hand, what is remembered does not depend on
    the order in which the news came.
    """
    told = [instant_of(product.get("updated_at")) for product in products.values()]
    latest = max((at for at in (*told, *deleted.values(), now) if at), default=None)
    recent = {one for one, at in deleted.items() if latest and at > latest - _REMEMBERED}
    return {
        "products": [products[one] for one in sorted(products, key=_order)],
        "deleted": [
            {"id": one, "at": format_utc(deleted[one])} for one in sorted(recent, key=_order)
        ],
    }


def _order(product_id: str) -> tuple[int, str]:
    return len(product_id), product_id
