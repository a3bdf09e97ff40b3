"""Building Shopify's side of the bot from its settings: the only place that makes its parts."""

from __future__ import annotations

from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.platform import PlatformDefinition, Workplace
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.errors import SHOPIFY_STATUSES
from shopify_integration.front import FRONT
from shopify_integration.oauth import ShopLogins
from shopify_integration.routes import ShopifyInterface, shopify_routes
from shopify_integration.settings import ShopifySettings, read_shopify
from shopify_integration.shops import Shops, fits
from shopify_integration.sync import ShopSync


def build_shopify(
    settings: ShopifySettings, place: Workplace, browsers: BrowserSessions
) -> tuple[ShopifyInterface, ShopSync]:
    """What its routes work with, and the platform behind them."""
    admin = ShopifyAdmin(settings, place.outbound, place.clock)
    shops = Shops(place.tokens, admin, place.clock)
    logins = ShopLogins(settings, admin, shops, place)
    interface = ShopifyInterface(
        settings, logins, place.inbox, place.requests, browsers, place.clock
    )
    return interface, ShopSync(shops, admin, place)


PLATFORM = PlatformDefinition(
    name="shopify",
    package="shopify_integration",
    read_settings=read_shopify,
    routes=shopify_routes,
    build=build_shopify,
    front=FRONT,
    statuses=SHOPIFY_STATUSES,
    secret_names=("hmac", "signature"),
    fits=fits,
)
