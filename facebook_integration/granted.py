"""Which Pages a login granted: a person's own, those they chose, and those of their portfolios.

Source: developers.facebook.com/docs/facebook-login/facebook-login-for-business, and the Graph
API's references of `me/accounts`, `me/businesses`, `owned_pages` and `client_pages`. A Page that a
Business Portfolio holds is not in `me/accounts`.
"""

from __future__ import annotations

import logging

from facebook_integration.errors import PageUnavailable
from facebook_integration.graph import Graph
from facebook_integration.models import GrantedPage, TokenFacts
from shared.logs import fields
from shared.merchants.errors import PermissionMissing

_log = logging.getLogger(__name__)

BUSINESS_SCOPE = "business_management"


def granted_pages(graph: Graph, token: str, facts: TokenFacts) -> list[GrantedPage]:
    """The Pages of a login, each once, in the order of ids. Raises `PlatformError`."""
    found = {page.id: page for page in graph.pages(token)}
    for page in facts.pages:
        if page not in found:
            try:
                found[page] = graph.granted_page(page, token)
            except (PageUnavailable, PermissionMissing) as error:
                _log.warning("left out: %s", error.message, extra=fields(page=page))
    if BUSINESS_SCOPE in facts.scopes and not facts.pages:
        for business in graph.businesses(token):
            for edge in ("owned_pages", "client_pages"):
                for granted in graph.pages(token, f"{business}/{edge}"):
                    found.setdefault(granted.id, granted)
    return [found[page] for page in sorted(found)]
