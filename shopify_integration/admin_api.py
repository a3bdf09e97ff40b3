"""`ShopifyAdmin`: the requests to a shop's Admin API (GraphQL), and their refusals in our words.

Source: shopify.dev/docs/api/admin-graphql; throttling is HTTP 200 with an error in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from shared.clock import Clock
from shared.logs import fields
from shared.merchants.errors import (
    BodyMalformed,
    PlatformBusy,
    PlatformError,
    PlatformUnreachable,
    TokenRefused,
)
from shared.merchants.http_client import ATTEMPTS, ATTEMPTS_WHILE_WATCHED, Answer, Outbound
from shared.settings.platforms import origin
from shopify_integration.budgets import Budgets, cost_of
from shopify_integration.grants import Grant, grant_of_answer
from shopify_integration.models import (
    Product,
    ProductPage,
    Shop,
    number_of,
    product_of_graphql,
    shop_of_graphql,
)
from shopify_integration.queries import (
    PRODUCT,
    PRODUCTS,
    SHOP,
    SUBSCRIBE,
    SUBSCRIPTIONS,
    VARIANTS,
)
from shopify_integration.refusals import graphql_error, refusal, refusal_of_grant
from shopify_integration.settings import ShopifySettings

_log = logging.getLogger(__name__)

TOPICS = (
    "PRODUCTS_CREATE",
    "PRODUCTS_UPDATE",
    "PRODUCTS_DELETE",
    "SHOP_UPDATE",
    "APP_UNINSTALLED",
)

# A query may cost 1000 points at most, and each product and variant that it asks for costs one.
_PRODUCTS_A_PAGE = 25
_VARIANTS_A_PRODUCT = 30
_VARIANTS_A_PAGE = 250
_MOST_PAGES = 10_000

# A token, or what gives one that is good now, and is not the one that was refused. A long list is
# read with the latter: a token lives for an hour.
Token = str | Callable[[str | None], str]


class ShopifyAdmin:
    """Every method raises `PlatformError` or a subclass; `TokenRefused` means: connect again."""

    def __init__(self, settings: ShopifySettings, outbound: Outbound, clock: Clock) -> None:
        self._settings = settings
        self._outbound = outbound
        self._clock = clock
        self._budgets = Budgets(clock, outbound.pause)

    def base(self, shop: str) -> str:
        """Where a shop's administration is. `shop` is a checked full domain."""
        return self._settings.admin_url.replace("{shop}", shop)

    def exchange_code(self, shop: str, code: str) -> Grant:
        """The grant for the code of a callback, which is good for one use."""
        return self._grant(shop, {"code": code, "expiring": "1"}, ATTEMPTS_WHILE_WATCHED)

    def refresh(self, shop: str, refresh_token: str) -> Grant:
        """The next grant; the refresh token before is used up by that."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self._grant(shop, form, ATTEMPTS)

    def shop(self, shop: str, token: Token) -> Shop:
        """What Shopify tells of the shop."""
        return shop_of_graphql(self.query(shop, token, SHOP, {}).get("shop") or {})

    def products(self, shop: str, token: Token, after: str | None = None) -> Iterator[ProductPage]:
        """All products with all their variants, a page at a time, from a cursor on."""
        variables: dict[str, Any] = {
            "first": _PRODUCTS_A_PAGE,
            "variants": _VARIANTS_A_PRODUCT,
            "after": after,
        }
        for _ in range(_MOST_PAGES):
            with _as_asked(shop):
                found = self.query(shop, token, PRODUCTS, variables)["products"]
                nodes = list(found["nodes"])
                more, variables["after"] = _next(found)
                cursor = variables["after"] if more else None
            products, left_out = [], []
            for node in nodes:
                try:
                    products.append(
                        product_of_graphql(node, list(self._variants(shop, token, node)))
                    )
                except (BodyMalformed, KeyError, TypeError, AttributeError) as error:
                    named = number_of(node)
                    left_out.append(named)
                    about = fields(shop=shop, product=named, why=type(error).__name__)
                    _log.warning("left out: a malformed product", extra=about)
            yield ProductPage(tuple(products), tuple(left_out), cursor)
            if cursor is None:
                return
        raise PlatformError(f"the list of products of {shop} does not end")

    def product(self, shop: str, token: Token, product_id: str) -> Product | None:
        """One product with all its variants; None when it is deleted."""
        variables = {"id": f"gid://shopify/Product/{product_id}", "variants": _VARIANTS_A_PAGE}
        with _as_asked(shop):
            node = self.query(shop, token, PRODUCT, variables)["product"]
            if node is None:
                return None
            variants = list(self._variants(shop, token, node))
        return product_of_graphql(node, variants)

    def subscribe(self, shop: str, token: Token) -> None:
        """Have the news of a shop sent to us; what is subscribed already stays as it is."""
        address = self._settings.webhook_address
        with _as_asked(shop):
            answer = self.query(shop, token, SUBSCRIPTIONS, {"first": 250})
            nodes = answer["webhookSubscriptions"]["nodes"]
            there = {node["topic"] for node in nodes if node["uri"] == address}
            for topic in TOPICS:
                if topic not in there:
                    self._subscribe(shop, token, topic, address)

    def download(self, shop: str, url: str, sink: BinaryIO, most_bytes: int) -> int:
        """Write a file to which a shop's answer led; the status. See `Outbound.download`."""
        if urlsplit(url).scheme != "https" and origin(url) != origin(self.base(shop)):
            raise PlatformError(f"{shop} has led to an address without https, which is not used")
        return self._outbound.patiently(
            lambda: self._outbound.download(url, _emptied(sink), most_bytes)
        )

    def query(
        self, shop: str, token: Token, query: str, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The `data` in the answer to a query, which costs points, or to a mutation."""
        url = f"{self.base(shop)}/admin/api/{self._settings.version}/graphql.json"

        def ask_with(value: str) -> dict[str, Any]:
            with self._budgets.spending(shop, query):
                answer = self._outbound.send(
                    "POST",
                    url,
                    document={"query": query, "variables": variables},
                    headers={"X-Shopify-Access-Token": value},
                )
                if answer.status != 200:
                    raise refusal(shop, answer)
            self._compare_version(shop, answer)
            document = answer.document()
            cost = cost_of(document)
            self._budgets.note(shop, query, cost)
            if errors := document.get("errors"):
                raise graphql_error(shop, errors, cost)
            data = document.get("data")
            if not isinstance(data, dict):
                raise PlatformUnreachable(f"the answer of {shop} has no data in it")
            return data

        def ask() -> dict[str, Any]:
            self._budgets.check(shop)
            if isinstance(token, str):
                return ask_with(token)
            value = token(None)
            try:
                return ask_with(value)
            except TokenRefused:
                return ask_with(token(value))

        try:
            return self._outbound.patiently(ask)
        except PlatformBusy as error:
            if error.wait is not None:
                self._budgets.close(shop, error.wait)
            raise

    # --- requests -----------------------------------------------------------------------

    def _subscribe(self, shop: str, token: Token, topic: str, address: str) -> None:
        variables = {"topic": topic, "to": {"uri": address}}
        done = self.query(shop, token, SUBSCRIBE, variables)["webhookSubscriptionCreate"]
        told = "; ".join(error["message"] for error in done["userErrors"])
        if told and "taken" not in told.lower():  # another process was quicker
            raise PlatformError(
                f"{shop} refused the webhook {topic}: {told[:200]}",
                "Check SHOPIFY_WEBHOOK_ADDRESS: it must be public and https.",
            )

    def _variants(
        self, shop: str, token: Token, node: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        found = node["variants"]
        for _ in range(_MOST_PAGES):
            yield from found["nodes"]
            more, cursor = _next(found)
            if not more:
                return
            variables = {"id": node["id"], "first": _VARIANTS_A_PAGE, "after": cursor}
            product = self.query(shop, token, VARIANTS, variables)["product"]
            if product is None:  # deleted since
                return
            found = product["variants"]

    def _grant(self, shop: str, form: Mapping[str, str], attempts: int) -> Grant:
        secrets = {
            "client_id": self._settings.api_key,
            "client_secret": self._settings.api_secret,
        }

        def ask() -> Grant:
            answer = self._outbound.send(
                "POST", f"{self.base(shop)}/admin/oauth/access_token", form={**secrets, **form}
            )
            if answer.status != 200:
                raise refusal_of_grant(shop, answer)
            return grant_of_answer(answer.document(), self._clock.now())

        return self._outbound.patiently(ask, attempts)

    def _compare_version(self, shop: str, answer: Answer) -> None:
        served = answer.headers.get("x-shopify-api-version")
        if served and served != self._settings.version:
            _log.warning(
                "Shopify answers with another version than SHOPIFY_API_VERSION; set a newer one",
                extra=fields(shop=shop, asked=self._settings.version, served=served[:20]),
            )


def _next(connection: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether a page is followed by another one, and the cursor for that."""
    return connection["pageInfo"]["hasNextPage"], connection["pageInfo"]["endCursor"]


def _emptied(sink: BinaryIO) -> BinaryIO:
    sink.seek(0)
    sink.truncate()
    return sink


@contextmanager
def _as_asked(shop: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError) as error:
        raise PlatformError(f"the answer of {shop} has an unexpected form") from error
