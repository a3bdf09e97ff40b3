"""`FakeShopify`: starts the stand-in for Shopify, and makes it do what a test needs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.fakes.delivery import Delivery
from tests.support.fake_deliveries import Burst, deliveries
from tests.support.fake_platform import FakePlatform
from tests.support.fake_process import FakeProcess


@dataclass(frozen=True)
class PutProduct:
    """A product that was put: its webhook topic and body, and what came of telling the bot."""

    product_id: int
    topic: str
    body: dict[str, Any]
    deliveries: list[Delivery]


@dataclass(frozen=True)
class SentWebhook:
    """A webhook and every request that was made for it."""

    webhook_id: str
    deliveries: list[Delivery]


@dataclass(frozen=True)
class ShopToken:
    """The current pair of a shop; `good` is false once it expired."""

    access_token: str
    refresh_token: str | None
    scopes: list[str]
    good: bool


class FakeShopify(FakePlatform):
    """The running stand-in. Edges for faults: `authorize`, `access_token`, `graphql`, and by the
    first field of the query `graphql:products`, `graphql:shop` and so on; `bulk` is the file of a
    bulk operation.
    """

    def __init__(self, process: FakeProcess) -> None:
        super().__init__(process)
        self._read_settings()

    def _read_settings(self) -> None:
        known = self._process.control("settings")
        self.url: str = known["base_url"]
        self.version: str = known["version"]
        self.api_key: str = known["api_key"]
        self.api_secret: str = known["api_secret"]

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[FakeShopify]:
        """One in a process of its own, for the length of a `with` block."""
        with FakeProcess("tests.fakes.shopify") as process:
            yield cls(process)

    def reset(self) -> None:
        """Another app and no shops: nothing of what was is left but the address."""
        self._process.control("reset")
        self._read_settings()

    def settings(self, bot_url: str | None = None) -> dict[str, str]:
        """The bot's `SHOPIFY_*` settings; with `bot_url` its own addresses, which are registered.

        Those are `/shopify/callback` and `/shopify/webhook` under `bot_url`.
        """
        settings = {
            "SHOPIFY_ADMIN_URL": f"{self.url}/shops/{{shop}}",
            "SHOPIFY_API_VERSION": self.version,
            "SHOPIFY_API_KEY": self.api_key,
            "SHOPIFY_API_SECRET": self.api_secret,
        }
        if bot_url is not None:
            settings["SHOPIFY_REDIRECT_URI"] = f"{bot_url}/shopify/callback"
            settings["SHOPIFY_WEBHOOK_ADDRESS"] = f"{bot_url}/shopify/webhook"
            self.register(
                redirect_uri=settings["SHOPIFY_REDIRECT_URI"],
                webhook=settings["SHOPIFY_WEBHOOK_ADDRESS"],
            )
        return settings

    def register(self, *, redirect_uri: str | None = None, webhook: str | None = None) -> None:
        """Enter the bot's addresses; others are refused from then on."""
        self._process.control("register", redirect_uri=redirect_uri, webhook=webhook)

    def configure(self, **changes: Any) -> None:
        """Differ from the usual; `tests.fakes.shopify.state.Options` has the names."""
        self._process.control("configure", **changes)

    # Shops and products

    def add_shop(self, shop: str, **values: Any) -> int:
        """A new shop; its number. `values` are fields of GraphQL's `Shop`, as `name`."""
        return int(self._process.control("add_shop", shop=shop, values=values))

    def change_shop(self, shop: str, *, deliver: bool = True, **values: Any) -> list[Delivery]:
        """Other values of the shop, told to the subscriptions of `shop/update`."""
        return deliveries(
            self._process.control("change_shop", shop=shop, values=values, deliver=deliver)
        )

    def put_product(
        self, shop: str, product_id: int | None = None, *, deliver: bool = True, **values: Any
    ) -> PutProduct:
        """A new product, or other `values` of one: fields of `tests.fakes.shopify.state.Product`.

        `variants` is a list of dicts with fields of `Variant`. With `deliver` every subscription
        to `products/create` or `products/update` is told; there may be none.
        """
        read = self._process.control(
            "put_product", shop=shop, product_id=product_id, values=values, deliver=deliver
        )
        return PutProduct(
            read["product_id"], read["topic"], read["body"], deliveries(read["deliveries"])
        )

    def lose_bulk_files(self, shop: str, *, known: bool = True) -> None:
        """As after seven days: the files are gone; if not `known`, the operations as well."""
        self._process.control("lose_bulk_files", shop=shop, known=known)

    def put_products(self, shop: str, titles: Sequence[str]) -> list[int]:
        """A new product with each of these titles, of which nobody is told; their numbers."""
        found: list[int] = self._process.control("put_products", shop=shop, titles=list(titles))
        return found

    def delete_product(self, shop: str, product_id: int, *, deliver: bool = True) -> list[Delivery]:
        """The end of a product, told to the subscriptions of `products/delete`."""
        return deliveries(
            self._process.control(
                "delete_product", shop=shop, product_id=product_id, deliver=deliver
            )
        )

    def product_body(self, shop: str, product_id: int) -> dict[str, Any]:
        """A product as a webhook has it, now: to be sent later, when it is stale."""
        body: dict[str, Any] = self._process.control(
            "product_body", shop=shop, product_id=product_id
        )
        return body

    # Installation and tokens

    def callback_url(
        self,
        shop: str,
        state: str,
        *,
        scope: str = "read_products",
        redirect_uri: str | None = None,
        **defects: Any,
    ) -> str:
        """The bot's callback address with a new, good code, correct but for the defects.

        `hmac_is`: wrong, missing, malformed or of-other-query; `age_seconds` of the timestamp;
        `shop_in_query`: another shop; `duplicate=("shop", "x")`: a second value; `extra`: more
        parameters; `without=["state"]`; or any of code, host, shop, state, timestamp by name.
        All but the first is signed as it is sent.
        """
        return str(
            self._process.control(
                "callback",
                shop=shop,
                state=state,
                scope=scope,
                redirect_uri=redirect_uri,
                defects=defects,
            )
        )

    def next_callback(self, **defects: Any) -> None:
        """The same defects, in the next redirect of the authorization page."""
        self._process.control("next_callback", defects=defects)

    def sign_query(self, pairs: Sequence[tuple[str, str]]) -> str:
        """The right `hmac` of a query of a test's own."""
        return str(self._process.control("sign_query", pairs=[list(one) for one in pairs]))

    def token(self, shop: str) -> ShopToken | None:
        """The pair that was issued last, unless it is revoked."""
        read = self._process.control("token", shop=shop)
        return ShopToken(**read) if read else None

    def expire_access_token(self, shop: str) -> int:
        """The access token is past its time, the refresh token is not. How many were good."""
        return int(self._process.control("expire_access_token", shop=shop))

    def revoke_tokens(self, shop: str) -> int:
        """All tokens of the shop are void, refresh tokens too. How many were good."""
        return int(self._process.control("revoke_tokens", shop=shop))

    def rotate_token(self, shop: str) -> ShopToken:
        """As if somebody else had refreshed: the bot's pair is void, this is the new one."""
        return ShopToken(**self._process.control("rotate_token", shop=shop))

    def uninstall(self, shop: str, *, deliver: bool = True) -> list[Delivery]:
        """The merchant removes the app: tokens and subscriptions end, `app/uninstalled` is told."""
        return deliveries(self._process.control("uninstall", shop=shop, deliver=deliver))

    def subscriptions(self, shop: str) -> dict[str, str]:
        """What the bot subscribed to: topic, as PRODUCTS_UPDATE, to address."""
        read = self._process.control("subscriptions", shop=shop)
        return {one["topic"]: one["uri"] for one in read}

    # Faults

    def throttle(
        self,
        edge: str = "graphql",
        *,
        times: int | None = 1,
        skip: int = 0,
        shop: str | None = None,
        currently_available: float = 0,
        restore_rate: float = 1000.0,
        requested: int | None = None,
    ) -> None:
        """The next calls answer THROTTLED; to wait is (requested - available) / rate seconds."""
        self._fault(
            edge,
            "throttle",
            times=times,
            skip=skip,
            subject=shop,
            currently_available=currently_available,
            restore_rate=restore_rate,
            requested=requested,
        )

    def fail(
        self,
        edge: str,
        code: str,
        *,
        message: str | None = None,
        times: int | None = 1,
        skip: int = 0,
        shop: str | None = None,
    ) -> None:
        """The next calls answer an error: a GraphQL one with status 200, an OAuth one with 400."""
        self._fault(edge, "error", times=times, skip=skip, subject=shop, code=code, message=message)

    # Webhooks

    def send_webhook(
        self,
        shop: str,
        topic: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        product_id: int | None = None,
        customer: Mapping[str, Any] | None = None,
        webhook_id: str | None = None,
        event_id: str | None = None,
        triggered_at: datetime | None = None,
        api_version: str | None = None,
        signature: str = "valid",
        signature_header: str | None = None,
        headers: Mapping[str, str | None] | None = None,
        copies: int = 1,
        retries: int = 0,
        pause: float = 0.05,
        url: str | None = None,
    ) -> SentWebhook:
        """Send a webhook to the registered address, whether the bot subscribed or not.

        Without a body it is made of what the shop, or the product, is now. `copies` and `retries`
        (the platform's are 8, while it is not accepted) have the same webhook id. `signature` is
        valid, wrong, other-body, hex or missing; `signature_header` is sent instead. `headers`
        replaces headers by their lower-case name, None leaves one out.
        """
        raw = body if isinstance(body, bytes) or body is None else json.dumps(dict(body)).encode()
        read = self._process.control(
            "webhook",
            shop=shop,
            topic=topic,
            body=None if raw is None else base64.b64encode(raw).decode(),
            product_id=product_id,
            customer=dict(customer) if customer else None,
            webhook_id=webhook_id,
            event_id=event_id,
            triggered_at=triggered_at.isoformat() if triggered_at else None,
            api_version=api_version,
            signature=signature,
            signature_header=signature_header,
            headers=dict(headers or {}),
            copies=copies,
            retries=retries,
            pause=pause,
            url=url,
        )
        return SentWebhook(read["webhook_id"], deliveries(read["deliveries"]))

    def burst(self, shop: str, count: int = 500, seconds: float = 5.0, *, copies: int = 1) -> Burst:
        """So many `products/update`, each of another product and with an id of its own."""
        read = self._process.control(
            "burst", shop=shop, count=count, seconds=seconds, copies=copies
        )
        return Burst(read["ids"], deliveries(read["deliveries"]))

    def sign(self, body: bytes) -> str:
        """The right `X-Shopify-Hmac-Sha256` of these bytes, for a request of one's own."""
        return str(self._process.control("sign", body=base64.b64encode(body).decode()))
