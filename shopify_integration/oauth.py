"""The login of a shop: the address that begins it, and the checks that finish it.

Source: shopify.dev/docs/apps/build/authentication-authorization, "authorization code grant".
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlencode
from uuid import uuid4

from shared.logs import fields
from shared.merchants.errors import LoginDenied, LoginRefused, PermissionMissing
from shared.merchants.inbox import Event
from shared.merchants.login_state import Login
from shared.merchants.platform import Workplace
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.grants import missing_scopes
from shopify_integration.settings import ShopifySettings
from shopify_integration.shop_domain import is_shop
from shopify_integration.shops import Shops
from shopify_integration.signatures import callback_is_signed

_log = logging.getLogger(__name__)

CONNECTED = "connected"
_FRESH = timedelta(minutes=5)


class ShopLogins:
    """Begins and finishes logins. `browser` is the hash of the browser's login mark."""

    def __init__(
        self,
        settings: ShopifySettings,
        admin: ShopifyAdmin,
        shops: Shops,
        place: Workplace,
    ) -> None:
        self._settings = settings
        self._admin = admin
        self._shops = shops
        self._place = place

    def begin(self, shop: str, user: str | None, browser: str) -> str:
        """The address at Shopify where the merchant agrees."""
        query = {
            "client_id": self._settings.api_key,
            "scope": ",".join(self._settings.scopes),
            "redirect_uri": self._settings.redirect_uri,
            "state": self._place.states.issue(Login("shopify", shop, user or "", browser)),
        }
        return f"{self._admin.base(shop)}/admin/oauth/authorize?{urlencode(query)}"

    def opened(self, query: Sequence[tuple[str, str]]) -> str:
        """The shop from which Shopify opens the app; raises `LoginRefused`.

        `query` is decoded, in its order.
        """
        return self._signed_shop(query, "address")

    def finish(self, query: Sequence[tuple[str, str]], user: str | None, browser: str) -> str:
        """Connect the shop of a callback; the UUID of the user whose it is.

        `query` is decoded, in its order. A shop that comes back keeps its user. Raises
        `LoginRefused`, `LoginDenied`, `PermissionMissing`, and what the exchange raises.
        """
        values = dict(query)
        shop = self._signed_shop(query, "callback")
        self._place.states.redeem(
            values.get("state", ""), Login("shopify", shop, user or "", browser)
        )
        known = self._shops.owner(shop)
        if user and known and known != user:
            raise LoginRefused(
                f"{shop} is connected by another account of this bot, and this browser has a "
                "session of a different one",
                "To work with that account, connect the shop in a private window. To move the "
                "shop, uninstall the app in it, wait two days, then connect it here.",
            )
        if not values.get("code"):
            raise LoginDenied(
                "the shop was not connected", "Begin again, and agree at Shopify to connect it."
            )
        grant = self._admin.exchange_code(shop, values["code"])
        if missing := missing_scopes(self._settings.scopes, grant.scopes):
            raise PermissionMissing(
                f"{shop} did not grant {', '.join(missing)}", "Begin again, and grant all of it."
            )
        owner = known or user or str(uuid4())
        self._shops.connect(shop, grant, owner)
        self._place.marks.clear_reconnect("shopify", shop)
        self._place.inbox.add([Event("shopify", secrets.token_hex(16), shop, CONNECTED, "{}")])
        _log.info("connected", extra=fields(shop=shop, expires=grant.expires_at is not None))
        return owner

    def _signed_shop(self, query: Sequence[tuple[str, str]], what: str) -> str:
        values = dict(query)
        if not callback_is_signed(query, self._settings.api_secret):
            raise LoginRefused(
                f"this {what} is not signed by Shopify", "Begin again on the first page."
            )
        shop = values.get("shop", "")
        if not is_shop(shop) or not self._is_fresh(values.get("timestamp", "")):
            raise LoginRefused(
                f"this {what} is not for a shop, or is too old", "Begin again on the first page."
            )
        return shop

    def _is_fresh(self, timestamp: str) -> bool:
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
            return False
        return abs(self._place.clock.now().timestamp() - int(timestamp)) <= _FRESH.total_seconds()
