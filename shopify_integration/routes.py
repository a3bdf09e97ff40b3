"""The routes under `/shopify`: login, callback, webhook."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from shared.clock import Clock
from shared.logs import fields
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.errors import (
    BodyMalformed,
    LoginDenied,
    LoginRefused,
    PermissionMissing,
    PlatformError,
    PlatformUnset,
)
from shared.merchants.inbox import Event, Inbox
from shared.merchants.platform import interface_of
from shared.merchants.protected.requests import ProtectedRequests
from shared.merchants.statuses import WEBHOOK_REFUSALS, refusals
from shared.merchants.webhook_requests import (
    json_object,
    one_header,
    query,
    signed_body,
    signed_json,
)
from shopify_integration.errors import SHOPIFY_STATUSES, ShopInvalid
from shopify_integration.oauth import ShopLogins
from shopify_integration.settings import SHOPIFY_NAMES, ShopifySettings
from shopify_integration.shop_domain import is_shop, parse_shop
from shopify_integration.signatures import SIGNATURE, webhook_is_signed

_log = logging.getLogger(__name__)

# Where the bodies of the topics about a whole shop, or about its customers, name it.
_OF_SHOP = {
    "shop/redact": "shop_domain",
    "customers/redact": "shop_domain",
    "customers/data_request": "shop_domain",
    "app/uninstalled": "myshopify_domain",
    "shop/update": "myshopify_domain",
}
# Their time says whether they are about an earlier connection; clocks differ by so much.
_ENDS = ("shop/redact", "app/uninstalled")
# Shopify sends these once; their work must be done whatever becomes of the inbox.
_PROTECTED = (*_ENDS, "customers/redact")
_CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True)
class ShopifyInterface:
    """What the routes work with."""

    settings: ShopifySettings
    logins: ShopLogins
    inbox: Inbox
    requests: ProtectedRequests
    browsers: BrowserSessions
    clock: Clock


def shopify_routes() -> APIRouter:
    """The routes; they work with the interface of `interface_of`."""
    router = APIRouter(prefix="/shopify", tags=["shopify"])

    @router.get(
        "/login",
        status_code=302,
        response_class=RedirectResponse,
        responses=refusals(ShopInvalid, own=SHOPIFY_STATUSES),
        summary="Go to the login of the shop that a form names",
    )
    def named_login(request: Request, shop: str) -> Response:
        _interface(request)
        return RedirectResponse(f"/shopify/{parse_shop(shop)}/login", 302)

    @router.get(
        "/open",
        status_code=302,
        response_class=RedirectResponse,
        responses=refusals(LoginRefused),
        openapi_extra={"parameters": query("hmac", "host", "shop", "timestamp")},
        summary="Where Shopify opens the app: the login of that shop begins at once",
    )
    def open_app(request: Request) -> Response:
        interface = _interface(request)
        shop = interface.logins.opened(request.query_params.multi_items())
        response = RedirectResponse("/", 302)
        browser = interface.browsers.begin_login(request, response)
        address = interface.logins.begin(shop, interface.browsers.user(request), browser)
        response.headers["location"] = address
        return response

    @router.get(
        "/{shop}/login",
        status_code=302,
        response_class=RedirectResponse,
        responses=refusals(ShopInvalid, own=SHOPIFY_STATUSES),
        summary="Connect a shop: its handle or its full domain",
    )
    def login(request: Request, shop: str) -> Response:
        interface = _interface(request)
        domain = parse_shop(shop)
        response = RedirectResponse("/", 302)
        browser = interface.browsers.begin_login(request, response)
        address = interface.logins.begin(domain, interface.browsers.user(request), browser)
        response.headers["location"] = address
        return response

    @router.get(
        "/callback",
        status_code=303,
        response_class=RedirectResponse,
        responses=refusals(LoginRefused, LoginDenied, PermissionMissing, PlatformError),
        openapi_extra={"parameters": query("code", "hmac", "shop", "state", "timestamp")},
        summary="Where Shopify sends the merchant back to",
    )
    def callback(request: Request) -> Response:
        interface = _interface(request)
        owner = interface.logins.finish(
            request.query_params.multi_items(),
            interface.browsers.user(request),
            interface.browsers.login_mark(request),
        )
        response = RedirectResponse("/", 303)
        interface.browsers.finish_login(request, response, owner)
        return response

    @router.post(
        "/webhook",
        responses=refusals(*WEBHOOK_REFUSALS),
        openapi_extra=signed_json(
            "X-Shopify-Hmac-Sha256",
            "X-Shopify-Topic",
            "X-Shopify-Shop-Domain",
            "X-Shopify-Webhook-Id",
            "X-Shopify-Triggered-At",
        ),
        summary="Shopify sends events",
    )
    async def webhook(request: Request) -> dict[str, str]:
        interface = _interface(request)
        secret = interface.settings.api_secret
        body = await signed_body(
            request,
            "x-shopify-hmac-sha256",
            SIGNATURE,
            lambda body, signature: webhook_is_signed(body, signature, secret),
        )
        # Shopify signs callbacks with the same key, and merchants see those. What is signed of one
        # is sorted by name, `shop` comes before any brace, and what a webhook has begins with that.
        if not body.startswith(b"{"):
            raise BodyMalformed("the body is not a JSON object", "Nothing was done.")
        event = _event(request, body, json_object(body), interface.clock.now())
        if event is None:
            _log.info("dropped a webhook that names no shop, or two")
        else:
            _compare_version(request, interface.settings.version)
            if event.topic in _PROTECTED:
                await interface.requests.accept(event)
            else:
                await run_in_threadpool(interface.inbox.add, [event])
        return {"status": "ok"}

    return router


def _interface(request: Request) -> ShopifyInterface:
    interface: ShopifyInterface | None = interface_of(request, "shopify")
    if interface is None:
        raise PlatformUnset(
            "Shopify is not set up", f"Set {', '.join(SHOPIFY_NAMES)} in .env and restart."
        )
    return interface


def _event(
    request: Request, body: bytes, document: Mapping[str, Any], now: datetime
) -> Event | None:
    """The event of a signed webhook; None when its headers do not name a shop.

    They are not signed: the body of a topic about a whole shop, and any that names its shop, has to
    name the same one. Raises `BodyMalformed` for the end of a connection in the future.
    """
    shop = (one_header(request, "x-shopify-shop-domain") or "").lower()
    topic = one_header(request, "x-shopify-topic") or ""
    if not is_shop(shop) or not topic or len(topic) > 100:
        return None
    required = {_OF_SHOP[topic]} if topic in _OF_SHOP else set()
    named = required | {name for name in _OF_SHOP.values() if name in document}
    if any(str(document.get(name)).lower() != shop for name in named):
        return None
    at = _instant(request.headers.get("x-shopify-triggered-at", ""))
    if at is not None and at > now:
        if topic in _ENDS and at > now + _CLOCKS_DIFFER:
            raise BodyMalformed(
                "the webhook is from the future", "Check this host's clock; Shopify sends it again."
            )
        at = now
    event_id = request.headers.get("x-shopify-webhook-id", "")
    if not 0 < len(event_id) <= 200:
        event_id = sha256(f"{shop} {topic} ".encode() + body).hexdigest()
    return Event(
        "shopify",
        event_id,
        shop,
        topic,
        body.decode(errors="replace"),
        at,
    )


def _instant(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _compare_version(request: Request, version: str) -> None:
    served = request.headers.get("x-shopify-api-version", version)
    if served != version:
        _log.warning(
            "webhooks have another version than SHOPIFY_API_VERSION",
            extra=fields(asked=version, served=served[:20]),
        )
