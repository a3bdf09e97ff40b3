"""`ProductReader`: all products of a shop, a page at a time, each stored as it comes.

A page is a document in `products_read/`, with the cursor of the next one: what a restart or a
limit cuts short goes on there. At the end of all pages what is deleted at the shop goes, and so do
these documents. The products of a large shop come in one file, which Shopify makes meanwhile.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from pydantic import BaseModel, ValidationError

from shared.bounded import Instant
from shared.clock import Clock
from shared.logs import fields
from shared.merchants.documents import MerchantData
from shared.merchants.errors import PlatformError, PlatformPreparing
from shopify_integration.admin_api import ShopifyAdmin, Token
from shopify_integration.bulk import BulkOperations, FileNotWhole, Operation, products_in
from shopify_integration.models import Product, ProductPage
from shopify_integration.product_documents import ProductDocuments

_log = logging.getLogger(__name__)

# What was read first must not be much older than what is read last; and of what was deleted
# meanwhile a catalogue knows for three days.
_LONGEST = timedelta(days=1)
_SECONDS_BETWEEN_READERS = 60.0
# From so many products on, a file of all of them is there before their pages are read.
_LARGE = 1000
# So many products of a file are in memory.
_AT_ONCE = 5000
_SHORTEST_WAIT_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 300.0

# Changes documents in the folder of a shop, if that is still its user's.
Act = Callable[[Callable[[str], object]], None]


class _StoredPage(BaseModel):
    """A document in `products_read/`; `after` is the cursor of the next page."""

    began_at: Instant
    after: str
    products: tuple[Product, ...]
    left_out: tuple[str, ...]


class _StoredOperation(BaseModel):
    """The document in `products_bulk/`: a bulk operation that was begun."""

    began_at: Instant
    id: str


@dataclass
class _Reading:
    """One reading of all products; `pages` were stored, up to the cursor `after`."""

    began_at: datetime
    pages: int = 0
    after: str | None = None
    seen: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)

    def add(self, products: Sequence[Product], left_out: Sequence[str], after: str | None) -> None:
        """One more page was read."""
        self.pages += 1
        self.after = after
        self.seen |= {product.id for product in products}
        self.left_out |= set(left_out)


class ProductReader:
    """Raises `PlatformError` and `StoreError`."""

    def __init__(
        self, admin: ShopifyAdmin, products: ProductDocuments, data: MerchantData, clock: Clock
    ) -> None:
        self._admin = admin
        self._products = products
        self._data = data
        self._clock = clock
        self._bulk = BulkOperations(admin)
        self._reading: dict[str, threading.Lock] = {}

    def read(self, shop: str, token: Token, folder: str, act: Act) -> None:
        """Bring the products of a shop up to date; `folder` is how the keys of its documents begin.

        Goes on where a reading was cut short. Raises `PlatformPreparing` while Shopify prepares a
        file, and while another thread reads.
        """
        with self._alone(shop):
            reading = self._begun(shop, folder, act)
            if reading.after is None and self._read_in_bulk(shop, token, folder, act):
                return
            if reading.after is not None:
                try:
                    self._read(shop, token, folder, act, reading)
                except PlatformError as error:
                    if type(error) is not PlatformError:
                        raise
                    # A cursor does not last for ever.
                    _log.warning("all products are read again", extra=fields(shop=shop))
                else:
                    return
                self._forget(folder)
                reading = _Reading(self._clock.now())
            self._read(shop, token, folder, act, reading)

    def _read_in_bulk(self, shop: str, token: Token, folder: str, act: Act) -> bool:
        """Read all products of a large shop from one file; False where that cannot be done.

        Raises `PlatformPreparing` while Shopify makes the file, also after a restart.
        """
        now = self._clock.now()
        begun = self._operation(folder, now)
        if begun is None:
            if self._bulk.count(shop, token) < _LARGE:
                return False
            named = self._bulk.begin(shop, token)
            if named is None:
                return False
            begun = _StoredOperation(began_at=now, id=named)
            document = begun.model_dump(mode="json")
            act(lambda own: self._data.change(_operation_key(own), lambda _: document))
        try:
            operation = self._bulk.look(shop, token, begun.id)
            if operation is not None and operation.is_running:
                raise _preparing(shop, now - begun.began_at)
            if operation is None or operation.status != "COMPLETED":
                why = f"{operation.status} {operation.error}" if operation else "unknown"
                raise FileNotWhole(f"the bulk operation of {shop} has not ended well: {why}")
            self._take(shop, operation, act, begun.began_at)
        except FileNotWhole as error:
            about = fields(shop=shop)
            _log.warning("all products are read by pages: %s", error.message, extra=about)
            self._data.remove_all(_operation_folder(folder))
            return False
        self._data.remove_all(_operation_folder(folder))
        return True

    def _take(self, shop: str, operation: Operation, act: Act, began_at: datetime) -> None:
        """Put all that a completed operation found in place of the catalogue."""
        reading = _Reading(began_at)
        with tempfile.TemporaryFile() as file:
            self._bulk.fetch(shop, operation, file)
            file.seek(0)
            found = products_in(file, shop, operation, reading.left_out)
            while batch := list(islice(found, _AT_ONCE)):
                self._merge(batch, act)
                reading.add(batch, (), None)
        self._finish(reading, [], act)

    def _operation(self, folder: str, now: datetime) -> _StoredOperation | None:
        """The operation that was begun, unless that was long ago."""
        try:
            begun = _StoredOperation.model_validate(self._data.read(_operation_key(folder)))
        except ValidationError:
            return None
        return begun if now - _LONGEST < begun.began_at <= now else None

    def _read(self, shop: str, token: Token, folder: str, act: Act, reading: _Reading) -> None:
        waiting: list[Product] = []
        for page in self._admin.products(shop, token, reading.after):
            number = reading.pages
            waiting += page.products
            reading.add(page.products, page.left_out, page.after)
            if page.after is None:
                break
            self._store_page(number, page.after, page, reading, act)
            # With twice as many pages each time, all that is written of the catalogue is as much
            # as two of the last one.
            if reading.pages & (reading.pages - 1) == 0:
                self._merge(waiting, act)
                waiting = []
        self._finish(reading, waiting, act)
        if reading.pages > 1:
            self._forget(folder)

    def _begun(self, shop: str, folder: str, act: Act) -> _Reading:
        """The reading that was cut short, with all that it stored in the catalogue; else a new one.

        One that is not whole, or too old, is dropped.
        """
        now = self._clock.now()
        keys = self._data.keys(_pages_folder(folder))
        if not keys:
            return _Reading(now)
        try:
            if keys != [_page_key(folder, number) for number in range(len(keys))]:
                raise ValueError("a page is missing")
            pages = [_StoredPage.model_validate(self._data.read(key)) for key in keys]
            began_at = pages[0].began_at
            if not now - _LONGEST < began_at <= now or any(p.began_at != began_at for p in pages):
                raise ValueError("the pages are too old, or of two readings")
        except (ValidationError, ValueError):
            self._forget(folder)
            return _Reading(now)
        reading = _Reading(began_at)
        for page in pages:
            reading.add(page.products, page.left_out, page.after)
        self._merge([product for page in pages for product in page.products], act)
        _log.info("going on with the products", extra=fields(shop=shop, pages=len(pages)))
        return reading

    def _store_page(
        self, number: int, after: str, page: ProductPage, reading: _Reading, act: Act
    ) -> None:
        stored = _StoredPage(
            began_at=reading.began_at,
            after=after,
            products=page.products,
            left_out=page.left_out,
        ).model_dump(mode="json")
        act(lambda folder: self._data.change(_page_key(folder, number), lambda _: stored))

    def _merge(self, products: Sequence[Product], act: Act) -> None:
        act(lambda folder: self._products.add(folder, products))

    def _finish(self, reading: _Reading, last: Sequence[Product], act: Act) -> None:
        """What is deleted at the shop goes; the `last` products are still to be stored."""
        act(
            lambda folder: self._products.polled(
                folder, last, reading.began_at, reading.left_out, reading.seen
            )
        )

    def _forget(self, folder: str) -> None:
        # The first page goes first: what a crash leaves is not whole, and is dropped.
        self._data.remove_all(_pages_folder(folder))

    @contextmanager
    def _alone(self, shop: str) -> Iterator[None]:
        """Two threads would write the same pages."""
        lock = self._reading.setdefault(shop, threading.Lock())
        if not lock.acquire(blocking=False):
            raise PlatformPreparing(
                f"the products of {shop} are being read already",
                "The app will retry.",
                _SECONDS_BETWEEN_READERS,
            )
        try:
            yield
        finally:
            lock.release()


def _preparing(shop: str, since: timedelta) -> PlatformPreparing:
    """Come back after a while that grows with the time that it takes."""
    wait = min(max(since.total_seconds() / 4, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
    return PlatformPreparing(
        f"Shopify prepares a file of all products of {shop}", "The app will fetch it.", wait
    )


def _operation_folder(folder: str) -> str:
    return f"{folder}products_bulk/"


def _operation_key(folder: str) -> str:
    return f"{_operation_folder(folder)}operation.json"


def _pages_folder(folder: str) -> str:
    return f"{folder}products_read/"


def _page_key(folder: str, number: int) -> str:
    return f"{_pages_folder(folder)}{number:06}.json"
