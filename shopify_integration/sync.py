"""Keeping a shop's documents fresh: by what webhooks tell, and by polling."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shared.logs import fields
from shared.merchants.documents import user_folder
from shared.merchants.errors import (
    BodyMalformed,
    PermissionMissing,
    PlatformError,
    PlatformPreparing,
    TokenRefused,
)
from shared.merchants.inbox import Event, Provider, WaitingEvent
from shared.merchants.platform import Connection, Workplace
from shopify_integration.admin_api import ShopifyAdmin, Token
from shopify_integration.errors import ShopUnavailable
from shopify_integration.models import (
    Product,
    Shop,
    product_of_webhook,
    shop_of_webhook,
    variants_named,
)
from shopify_integration.oauth import CONNECTED
from shopify_integration.product_documents import News, ProductDocuments
from shopify_integration.products import ProductReader
from shopify_integration.shops import Shops

_log = logging.getLogger(__name__)

# What the next minute does not change: the merchant has to do something.
_LASTING = (TokenRefused, PermissionMissing, ShopUnavailable)


class ShopSync:
    """The `Platform` of Shopify. An account is the full domain of a shop."""

    provider: Provider = "shopify"

    def __init__(self, shops: Shops, admin: ShopifyAdmin, place: Workplace) -> None:
        self._shops = shops
        self._admin = admin
        self._place = place
        self._products = ProductDocuments(place.data)
        self._reader = ProductReader(admin, self._products, place.data, place.clock)
        self._acts: dict[str, Callable[[str, Event], None]] = {
            CONNECTED: self._on_connected,
            "shop/update": self._on_shop,
            "app/uninstalled": self._on_uninstalled,
            "shop/redact": self._on_redact,
            "customers/redact": self._on_customer,
            "customers/data_request": self._on_customer,
        }
        self._product_changes: dict[str, Callable[[str, Event], News]] = {
            "products/create": self._changed,
            "products/update": self._changed,
            "products/delete": self._deleted,
        }

    def connections(self, user: str) -> list[Connection]:
        """See `Platform.connections`."""
        marks = self._place.marks.reconnects("shopify")
        unavailable = self._place.marks.unavailable("shopify")
        return [
            Connection("shopify", shop, marks.get(shop), unavailable.get(shop))
            for shop in self._shops.owned_by(user)
        ]

    def owner(self, account: str) -> str | None:
        """See `Platform.owner`."""
        return self._shops.owner(account)

    def accounts(self) -> list[str]:
        """See `Platform.accounts`."""
        return self._shops.connected()

    def poll(self, account: str) -> None:
        """See `Platform.poll`. Webhooks that Shopify dropped are subscribed again.

        Each request has a token that is good then: a long polling outlives one.
        """
        try:
            self._fetch(account, partial(self._shops.fresh, account))
        except ShopUnavailable as error:
            self._mark(account, error)
            raise
        except PlatformPreparing:
            self._place.marks.clear_unavailable("shopify", account)
            raise
        self._place.marks.clear_unavailable("shopify", account)

    def lane(self, event: Event) -> str:
        """See `Platform.lane`. The products are one document, the shop's metadata another."""
        if event.topic in self._product_changes:
            return "products"
        return event.topic if event.topic == "shop/update" else "account"

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        """See `Platform.handle`. Product changes of one batch are one change of the document."""
        owner = self._shops.owner(account)
        if owner is None:
            _log.info("dropped: unknown shop", extra=fields(shop=account, events=len(events)))
            return
        news: list[News] = []
        for event in (waiting.event for waiting in events):
            try:
                if event.topic in self._product_changes:
                    news.append(self._product_changes[event.topic](account, event))
                elif event.topic in self._acts:
                    self._acts[event.topic](account, event)
                else:
                    _log.info("dropped: topic", extra=fields(shop=account, topic=event.topic))
            except BodyMalformed as error:
                _log.warning(
                    "dropped: %s", error.message, extra=fields(shop=account, topic=event.topic)
                )
        if news:
            self._act(owner, account, lambda folder: self._products.change(folder, news))

    # --- products -----------------------------------------------------------------------

    def _changed(self, shop: str, event: Event) -> News:
        """A webhook has the first 100 variants of a product: one that names more is asked for."""
        body = _body(event)
        product, named = product_of_webhook(body), variants_named(body)
        if len(named) <= len(product.variants):
            return News(product.id, lambda stored: stored.put(product))
        whole: Product | None = None
        try:
            whole = self._shops.with_token(
                shop, lambda token: self._admin.product(shop, token, product.id)
            )
        except _LASTING as error:
            self._mark(shop, error)
            return News(product.id, lambda stored: stored.put_first_variants(product, named))
        if whole is None:  # deleted since, which has a webhook of its own
            return News(product.id, lambda _: None)
        return News(product.id, lambda stored: stored.put(whole))

    def _deleted(self, _shop: str, event: Event) -> News:
        product_id = _body(event).get("id")
        if not isinstance(product_id, int | str):
            raise BodyMalformed("a deleted product has no id")
        at = event.sent_at or self._place.clock.now()
        return News(str(product_id), lambda stored: stored.delete(str(product_id), at))

    def _fetch(self, shop: str, token: Token) -> None:
        owner = self._owner(shop)
        self._admin.subscribe(shop, token)
        self._store_shop(owner, self._admin.shop(shop, token), shop)
        self._reader.read(shop, token, _folder(owner, shop), partial(self._act, owner, shop))

    # --- the shop -----------------------------------------------------------------------

    def _on_connected(self, shop: str, _event: Event) -> None:
        self._place.marks.want_first_sync("shopify", shop)

    def _on_shop(self, shop: str, event: Event) -> None:
        """Ask for what is true now: news come late and in any order."""
        try:
            found = self._shops.with_token(shop, lambda token: self._admin.shop(shop, token))
        except _LASTING as error:
            self._mark(shop, error)
            found = shop_of_webhook(_body(event), shop)
        self._store_shop(self._owner(shop), found, shop)

    def _on_uninstalled(self, shop: str, event: Event) -> None:
        if self._is_older_than_the_grant(shop, event):
            _log.info("dropped: stale", extra=fields(shop=shop, topic=event.topic))
            return
        self._shops.disconnect(shop)
        self._place.marks.mark_reconnect("shopify", shop, "the app was uninstalled")
        _log.warning("reconnect: the app was uninstalled", extra=fields(shop=shop))

    def _on_redact(self, shop: str, event: Event) -> None:
        """Two days after the app was uninstalled nothing of the shop may be left."""
        if self._is_older_than_the_grant(shop, event):
            _log.info("dropped: stale", extra=fields(shop=shop, topic=event.topic))
            return
        folder = _folder(self._owner(shop), shop)
        self._place.marks.note_forgotten(folder)
        with self._place.data.alone(folder):
            removed = self._place.data.remove_all(folder)
            self._shops.forget(shop)
        self._place.marks.note_forgotten(folder)  # what was copied meanwhile, too
        self._place.marks.clear_reconnect("shopify", shop)
        self._place.marks.clear_unavailable("shopify", shop)
        _log.warning("redacted", extra=fields(shop=shop, documents=removed))

    def _on_customer(self, shop: str, event: Event) -> None:
        """Of a shop's customers nothing is stored: there is nothing to send or to delete."""
        _log.info("nothing is stored of customers", extra=fields(shop=shop, topic=event.topic))

    def _store_shop(self, owner: str, found: Shop, shop: str) -> None:
        document, data = found.model_dump(mode="json"), self._place.data
        self._act(
            owner,
            shop,
            lambda folder: data.change(f"{folder}shop_metadata.json", lambda _: document),
        )

    def _act(self, owner: str, shop: str, act: Callable[[str], object]) -> None:
        """Change documents in the folder of a shop, if the shop is still this user's."""
        folder = _folder(owner, shop)
        with self._place.data.alone(folder):
            if self._shops.owner(shop) == owner:
                act(folder)

    def _owner(self, shop: str) -> str:
        owner = self._shops.owner(shop)
        if owner is None:
            raise TokenRefused(f"{shop} has no user", f"Connect it again: /shopify/{shop}/login")
        return owner

    def _is_older_than_the_grant(self, shop: str, event: Event) -> bool:
        grant = self._shops.grant(shop)
        if grant is None or grant.granted_at is None or event.sent_at is None:
            return False
        return event.sent_at < grant.granted_at

    def _mark(self, shop: str, error: PlatformError) -> None:
        if isinstance(error, ShopUnavailable):
            if self._place.marks.mark_unavailable(
                "shopify", shop, f"{error.message}. {error.hint}"
            ):
                about = fields(shop=shop)
                _log.warning("unavailable: %s. %s", error.message, error.hint, extra=about)
            return
        if self._place.marks.mark_reconnect("shopify", shop, error.message):
            _log.warning("reconnect: %s. %s", error.message, error.hint, extra=fields(shop=shop))


def _body(event: Event) -> dict[str, Any]:
    try:
        body = json.loads(event.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BodyMalformed("the body is not a JSON object")
    return body


def _folder(owner: str, shop: str) -> str:
    return f"{user_folder(owner)}shopify/{shop}/"
