"""`ProductDocuments`: the products of a shop in the store, in pieces where there are many.

    shop_products.json                   up to a thousand products; of more, the names of the pieces
    shop_products/0064-0007.json         piece 7 of 64, in the same form

A product is in the piece whose number is the CRC-32 of its id modulo their number, so that a change
reads and writes that piece alone. When there are too many for the pieces, new ones are written
beside them, then the document that names them, and then the former are deleted: a crash leaves the
one or the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from zlib import crc32

from shared.merchants.documents import MerchantData
from shopify_integration import catalog
from shopify_integration.models import Product

# Of a document: a megabyte or less.
MOST_PRODUCTS = 1000
_MOST_PIECES = 4096
_PIECES = "shop_products/"


@dataclass(frozen=True)
class News:
    """What a webhook says of one product."""

    product_id: str
    change: catalog.Change


class ProductDocuments:
    """Changes the documents of a shop's folder, which its caller has `alone`.

    Raises `StoreError`. No document gets many more than `most` products.
    """

    def __init__(self, data: MerchantData, most: int = MOST_PRODUCTS) -> None:
        self._data = data
        self._most = most

    def change(self, folder: str, news: Sequence[News]) -> None:
        """Apply news, in order; each document that they are about is parsed once."""
        pieces = self._change_head(folder, partial(catalog.changed, changes=_changes(news)))
        found: defaultdict[int, list[News]] = defaultdict(list)
        for one in news if pieces else ():
            found[_number(one.product_id, pieces)].append(one)
        for number, of_piece in found.items():
            change = partial(catalog.changed, changes=_changes(of_piece))
            self._data.change(_key(folder, pieces, number), change)

    def add(self, folder: str, products: Iterable[Product]) -> None:
        """Apply what a polling has found so far."""
        self.change(folder, [News(one.id, partial(catalog.put, product=one)) for one in products])

    def polled(
        self,
        folder: str,
        products: Sequence[Product],
        began_at: datetime,
        left_out: Collection[str] = (),
        seen: Collection[str] = (),
    ) -> None:
        """Apply a polling that began at a time, and found these; see `catalog.with_all`."""

        def all_of(document: Any, found: Sequence[Product]) -> dict[str, Any]:
            return catalog.with_all(document, found, began_at, left_out, seen)

        pieces = self._change_head(folder, partial(all_of, found=products))
        parts: defaultdict[int, list[Product]] = defaultdict(list)
        for product in products if pieces else ():
            parts[_number(product.id, pieces)].append(product)
        for number in range(pieces):
            self._data.change(_key(folder, pieces, number), partial(all_of, found=parts[number]))
        if len({product.id for product in products}.union(seen)) > pieces * self._most > 0:
            self._divide(folder, pieces, _keys(folder, pieces))

    def _change_head(self, folder: str, change: Callable[[Any], dict[str, Any]]) -> int:
        """Change the one document, or leave it as it is and return into how many it is divided."""
        pieces = size = 0

        def change_if_whole(document: Any) -> Any:
            nonlocal pieces, size
            pieces = _pieces_of(document)
            if pieces:
                return document
            after = change(document)
            size = len(after["products"])
            return after

        self._data.change(_head(folder), change_if_whole)
        if size > self._most:
            self._divide(folder, 0, [_head(folder)])
        return pieces

    def _divide(self, folder: str, before: int, keys: Iterable[str]) -> None:
        """Divide what is in documents into more pieces than before, half full."""
        whole: dict[str, list[Any]] = {"products": [], "deleted": []}
        for key in keys:
            document = self._data.read(key) or {}
            for name, found in whole.items():
                found.extend(document.get(name, ()))
        pieces = max(2, 2 * before)
        while len(whole["products"]) > pieces * self._most // 2 and pieces < _MOST_PIECES:
            pieces *= 2
        parts = [dict[str, list[Any]](products=[], deleted=[]) for _ in range(pieces)]
        for name, found in whole.items():
            for one in found:
                parts[_number(str(one["id"]), pieces)][name].append(one)
        for number, part in enumerate(parts):
            self._data.change(_key(folder, pieces, number), partial(_put, part))
        head = {"products": [], "deleted": [], "pieces": _keys("", pieces)}
        self._data.change(_head(folder), partial(_put, head))
        self._data.remove_all(f"{folder}{_PIECES}", keep=_keys(folder, pieces))


def _put(document: Any, _before: Any) -> Any:
    return document


def _changes(news: Sequence[News]) -> list[catalog.Change]:
    return [one.change for one in news]


def _pieces_of(head: Any) -> int:
    """Into how many pieces the document names; 0 where it has the products itself."""
    names = head.get("pieces") if isinstance(head, dict) else None
    return len(names) if isinstance(names, list) and len(names) <= _MOST_PIECES else 0


def _number(product_id: str, pieces: int) -> int:
    return crc32(product_id.encode()) % pieces


def _head(folder: str) -> str:
    return f"{folder}shop_products.json"


def _key(folder: str, pieces: int, number: int) -> str:
    return f"{folder}{_PIECES}{pieces:04d}-{number:04d}.json"


def _keys(folder: str, pieces: int) -> list[str]:
    return [_key(folder, pieces, number) for number in range(pieces)]
