"""The login at Facebook: the address that begins it, and what connects the Pages in the end.

Source: developers.facebook.com/docs/facebook-login, "Manually build a login flow".
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlencode

from facebook_integration.errors import SessionMissing
from facebook_integration.granted import granted_pages
from facebook_integration.graph import SCOPES, Graph
from facebook_integration.models import Grantor
from facebook_integration.pages import Pages
from facebook_integration.settings import FacebookSettings
from shared.logs import fields
from shared.merchants.errors import LoginDenied, LoginRefused, PermissionMissing
from shared.merchants.inbox import Event
from shared.merchants.login_state import Login
from shared.merchants.platform import Workplace

_log = logging.getLogger(__name__)

CONNECTED = "connected"
_AGAIN = "Begin again on the first page, and grant all that the bot asks for."


class PageLogins:
    """Begins and finishes logins. `browser` is the hash of the browser's login mark."""

    def __init__(
        self, settings: FacebookSettings, graph: Graph, pages: Pages, place: Workplace
    ) -> None:
        self._settings = settings
        self._graph = graph
        self._pages = pages
        self._place = place

    def begin(self, user: str | None, browser: str) -> str:
        """The address of the dialog; raises `SessionMissing` for who has no session."""
        if user is None:
            raise SessionMissing(
                "Pages are connected to a shop, and this browser is not logged in to one",
                "Connect a shop first, on the first page.",
            )
        query = {
            "client_id": self._settings.app_id,
            "redirect_uri": self._settings.redirect_uri,
            "state": self._place.states.issue(Login("facebook", "", user, browser)),
            "response_type": "code",
        }
        if self._settings.config_id:
            query["config_id"] = self._settings.config_id  # has the permissions
        else:
            query["scope"] = ",".join(SCOPES)
        base = f"{self._settings.dialog_url}/{self._settings.version}/dialog/oauth"
        return f"{base}?{urlencode(query)}"

    def finish(self, query: Sequence[tuple[str, str]], user: str | None, browser: str) -> str:
        """Connect the Pages of a callback; the UUID of the user whose session it is.

        Raises `LoginRefused`, `LoginDenied`, `PermissionMissing`, and what Meta refuses.
        """
        values = dict(query)
        if user is None or len(values) != len(query):
            raise LoginRefused(
                "this login cannot be finished: the session is over, or the address is malformed",
                "Connect the shop again on the first page, then the Pages.",
            )
        self._place.states.redeem(values.get("state", ""), Login("facebook", "", user, browser))
        if "error" in values or not values.get("code"):
            raise LoginDenied("the Pages were not connected", _AGAIN)
        token = self._graph.extend(self._graph.exchange_code(values["code"]).value)
        facts = self._graph.inspect(token.value)
        if missing := [scope for scope in SCOPES if scope not in facts.scopes]:
            raise PermissionMissing(f"Facebook did not grant {', '.join(missing)}", _AGAIN)
        granted = granted_pages(self._graph, token.value, facts)
        if not granted:
            raise LoginDenied("no Page was granted", _AGAIN)
        pages = [page for page in granted if page.token is not None]
        for page in granted:
            if page.token is None:
                _log.warning("left out: no token", extra=fields(page=page.id))
        if not pages:
            raise LoginDenied(
                f"Facebook issued no token for {', '.join(page.name for page in granted)[:200]}: "
                "this person may not read messages there",
                "Ask an admin of the Page to give them full control of it, then begin again.",
            )
        now = self._place.clock.now()
        grantor = Grantor(
            token=token.value,
            user=user,
            pages=(),
            expires_at=now + timedelta(seconds=token.seconds) if token.seconds else None,
            granted_at=now,
        )
        connected = self._pages.connect(facts.user_id, grantor, pages)
        for page in connected:
            self._place.marks.clear_reconnect("facebook", page.id)
        self._place.inbox.add(
            Event("facebook", secrets.token_hex(16), page.id, CONNECTED, "{}") for page in connected
        )
        _log.info(
            "connected", extra=fields(pages=len(connected), elsewhere=len(pages) - len(connected))
        )
        return user
