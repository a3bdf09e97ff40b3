"""Building Shopify's side of the bot from its settings: the only place that makes its parts."""

from __future__ import annotations

from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.platform import Workplace
from shared.settings.platforms import ShopifySettings
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.oauth import ShopLogins
from shopify_integration.routes import ShopifyFace
from shopify_integration.shops import Shops
from shopify_integration.sync import ShopSync


def build_shopify(
    settings: ShopifySettings, place: Workplace, browsers: BrowserSessions
) -> tuple[ShopifyFace, ShopSync]:
    """What its routes work with, and the platform behind them."""
    admin = ShopifyAdmin(settings, place.outbound, place.clock)
    shops = Shops(place.tokens, admin, place.clock)
    logins = ShopLogins(settings, admin, shops, place)
    return ShopifyFace(settings, logins, place.inbox, browsers), ShopSync(shops, admin, place)
