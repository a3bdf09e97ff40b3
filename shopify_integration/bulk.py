"""Bulk operations: Shopify makes one file of all products, which no limit slows down.

Source: shopify.dev, "Perform bulk operations with the GraphQL Admin API". The file has a line of
JSON for each product, followed by one for each of its variants, and is there for seven days.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from shared.logs import fields
from shared.merchants.errors import BodyMalformed, PlatformError
from shopify_integration.admin_api import ShopifyAdmin, Token
from shopify_integration.models import Product, number_of, product_of_graphql
from shopify_integration.queries import ALL_PRODUCTS, BULK_STATUS, PRODUCTS_COUNT, RUN_BULK

_log = logging.getLogger(__name__)

_MOST_BYTES = 2 * 1024**3
_LONGEST_LINE = 4 * 1024**2


class FileNotWhole(PlatformError):
    """The file of an operation does not have what Shopify said, or is gone."""


@dataclass(frozen=True)
class Operation:
    """How an operation is. `url` is None without a file: of no products, or of a failure.

    `products` is how many it found, `objects` that and all variants.
    """

    status: str
    error: str | None
    url: str | None
    products: int
    objects: int

    @property
    def is_running(self) -> bool:
        """Whether it is still to end."""
        return self.status in ("CREATED", "RUNNING", "CANCELING")


class BulkOperations:
    """Raises `PlatformError`."""

    def __init__(self, admin: ShopifyAdmin) -> None:
        self._admin = admin

    def count(self, shop: str, token: Token) -> int:
        """How many products a shop has, or at least has."""
        found = self._admin.query(shop, token, PRODUCTS_COUNT, {}).get("productsCount")
        return _whole_number(found.get("count")) if isinstance(found, dict) else 0

    def begin(self, shop: str, token: Token) -> str | None:
        """The id of a new operation for all products; None where Shopify takes none now."""
        answer = self._admin.query(shop, token, RUN_BULK, {"query": ALL_PRODUCTS})
        done = answer.get("bulkOperationRunQuery") or {}
        named = (done.get("bulkOperation") or {}).get("id")
        if isinstance(named, str) and not done.get("userErrors"):
            return named
        told = "; ".join(str(one.get("message")) for one in done.get("userErrors") or ())
        _log.warning("no bulk operation: %s", told[:200], extra=fields(shop=shop))
        return None

    def look(self, shop: str, token: Token, operation_id: str) -> Operation | None:
        """How an operation is; None when Shopify does not know it."""
        found = self._admin.query(shop, token, BULK_STATUS, {"id": operation_id}).get(
            "bulkOperation"
        )
        if not isinstance(found, dict):
            return None
        url, error = found.get("url"), found.get("errorCode")
        return Operation(
            str(found.get("status")),
            str(error) if error else None,
            url if isinstance(url, str) else None,
            _whole_number(found.get("rootObjectCount")),
            _whole_number(found.get("objectCount")),
        )

    def fetch(self, shop: str, operation: Operation, sink: BinaryIO) -> None:
        """Write the file of a completed operation; raises `FileNotWhole` when it is gone."""
        if operation.url is None:
            return
        status = self._admin.download(shop, operation.url, sink, _MOST_BYTES)
        if status != 200:
            raise FileNotWhole(f"the file of all products of {shop} is gone ({status})")


def products_in(
    file: BinaryIO, shop: str, operation: Operation, left_out: set[str]
) -> Iterator[Product]:
    """The products in the file of an operation, with all their variants.

    One that is malformed is left out: its id, or "" where it has none, is added to `left_out`.
    Raises `FileNotWhole` before the first one.
    """
    _check(file, shop, operation)
    file.seek(0)
    for node, variants in _grouped(_objects(file)):
        try:
            product = product_of_graphql(node, variants)
        except (BodyMalformed, KeyError, TypeError, AttributeError) as error:
            named = number_of(node)
            left_out.add(named)
            about = fields(shop=shop, product=named, why=type(error).__name__)
            _log.warning("left out: a malformed product", extra=about)
        else:
            yield product


def _check(file: BinaryIO, shop: str, operation: Operation) -> None:
    """Raise `FileNotWhole` unless a file has what its operation found."""
    products = objects = 0
    for _, variants in _grouped(_objects(file)):
        products, objects = products + 1, objects + 1 + len(variants)
    # It was begun for a large catalogue: one of nothing is not believed.
    if (products, objects) != (operation.products, operation.objects) or not products:
        raise FileNotWhole(
            f"the file of all products of {shop} has {objects} objects, not {operation.objects}"
        )


def _grouped(
    objects: Iterable[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each product with the variants that follow it."""
    product: dict[str, Any] | None = None
    variants: list[dict[str, Any]] = []
    for one in objects:
        parent = one.get("__parentId")
        if parent is None:
            if product is not None:
                yield product, variants
            product, variants = one, []
        elif product is not None and parent == product.get("id"):
            variants.append(one)
        else:
            raise FileNotWhole("a variant in the file does not follow its product")
    if product is not None:
        yield product, variants


def _objects(file: BinaryIO) -> Iterator[dict[str, Any]]:
    while line := file.readline(_LONGEST_LINE):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise FileNotWhole("a line of the file is not a JSON object")
        yield found


def _whole_number(value: Any) -> int:
    """A number that may come as a text (`UnsignedInt64`); else 0."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
