"""Building Facebook's side of the bot from its settings: the only place that makes its parts."""

from __future__ import annotations

from facebook_integration.errors import FACEBOOK_STATUSES
from facebook_integration.front import FRONT
from facebook_integration.graph import Graph
from facebook_integration.oauth import PageLogins
from facebook_integration.pages import Pages, fits
from facebook_integration.routes import FacebookInterface, facebook_routes
from facebook_integration.settings import FacebookSettings, read_facebook
from facebook_integration.sync import PageSync
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.platform import PlatformDefinition, Workplace


def build_facebook(
    settings: FacebookSettings, place: Workplace, browsers: BrowserSessions
) -> tuple[FacebookInterface, PageSync]:
    """What its routes work with, and the platform behind them."""
    graph = Graph(settings, place.outbound, place.clock)
    pages = Pages(place.tokens, graph)
    logins = PageLogins(settings, graph, pages, place)
    interface = FacebookInterface(settings, logins, place.inbox, place.requests, browsers)
    return interface, PageSync(pages, graph, place)


PLATFORM = PlatformDefinition(
    name="facebook",
    package="facebook_integration",
    read_settings=read_facebook,
    routes=facebook_routes,
    build=build_facebook,
    front=FRONT,
    statuses=FACEBOOK_STATUSES,
    secret_names=(
        "appsecret_proof",
        "fb_exchange_token",
        r"(?:hub(?:\.|%2E))?verify_token",
        "input_token",
        "signed_request",
    ),
    fits=fits,
)
