"""Building Facebook's side of the bot from its settings: the only place that makes its parts."""

from __future__ import annotations

from facebook_integration.graph import Graph
from facebook_integration.oauth import PageLogins
from facebook_integration.pages import Pages
from facebook_integration.routes import FacebookFace
from facebook_integration.sync import PageSync
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.platform import Workplace
from shared.settings.platforms import FacebookSettings


def build_facebook(
    settings: FacebookSettings, place: Workplace, browsers: BrowserSessions
) -> tuple[FacebookFace, PageSync]:
    """What its routes work with, and the platform behind them."""
    graph = Graph(settings, place.outbound)
    pages = Pages(place.tokens, graph)
    logins = PageLogins(settings, graph, pages, place)
    return FacebookFace(settings, logins, place.inbox, browsers), PageSync(pages, graph, place)
