"""`GET /`: what this browser's user has connected, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from shared.clock import format_utc
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.platform import Connection, Platform
from shared.web.plain_page import render_page, wants_page

_SHOP_FORM = (
    '<form action="/shopify/login" method="get"><p><label for="shop">Your shop: </label>'
    '<input id="shop" name="shop" required autocomplete="off" placeholder="my-shop"> '
    "<button>Connect a shop</button></p></form>"
)
_PAGES_LINK = '<p><a href="/facebook/login">Connect Facebook Pages</a></p>'
_CONNECT_SHOP = "Connect a shop: open /shopify/YOUR-SHOP/login in a browser."
_CONNECT_PAGES = "Connect Facebook Pages: open /facebook/login in the same browser."
_SET_UP = "Set up the Shopify app: SHOPIFY_API_KEY and the others in .env; see docs/bot.md."
_NOTHING = "Nothing: messages and products are kept up to date."


class ConnectionState(BaseModel):
    """One shop or Page; `since` and `reason` are there when it has to be connected again."""

    account: str
    state: Literal["connected", "reconnect"]
    since: str | None
    reason: str | None


class FrontDocument(BaseModel):
    """What a program reads at `/`."""

    session: bool
    shops: list[ConnectionState]
    pages: list[ConnectionState]
    next: str


def front_routes() -> APIRouter:
    """The route; the app's state has `browsers` and the `platforms` that are set up."""
    router = APIRouter(tags=["front page"])

    @router.get(
        "/",
        response_model=FrontDocument,
        responses={200: {"content": {"text/html": {}}, "description": "A plain page or JSON"}},
        summary="What is connected, and what to do next",
    )
    def front(request: Request) -> Any:
        browsers: BrowserSessions = request.app.state.browsers
        platforms: Sequence[Platform] = request.app.state.platforms
        user = browsers.user(request)
        found = (
            [one for platform in platforms for one in platform.connections(user)] if user else []
        )
        ready = any(platform.provider == "shopify" for platform in platforms)
        document = describe(found, session=user is not None, ready=ready)
        return _page(document) if wants_page(request) else document

    return router


def describe(
    connections: Sequence[Connection], *, session: bool, ready: bool = True
) -> FrontDocument:
    """The document about these connections. Pure. `ready`: shops can be connected here."""
    shops = [_state(one) for one in connections if one.provider == "shopify"]
    pages = [_state(one) for one in connections if one.provider == "facebook"]
    broken = [one.account for one in (*shops, *pages) if one.state == "reconnect"]
    if not ready:
        following = _SET_UP
    elif not shops:
        following = _CONNECT_SHOP
    elif broken:
        following = f"Connect again: {', '.join(broken)}."
    elif not pages:
        following = _CONNECT_PAGES
    else:
        following = _NOTHING
    return FrontDocument(session=session, shops=shops, pages=pages, next=following)


def _state(connection: Connection) -> ConnectionState:
    mark = connection.reconnect
    return ConnectionState(
        account=connection.account,
        state="reconnect" if mark else "connected",
        since=format_utc(mark.since) if mark else None,
        reason=mark.reason if mark else None,
    )


def _page(document: FrontDocument) -> Response:
    told = ["This bot answers your customers in Messenger."]
    if document.next == _SET_UP:
        return render_page("Sales bot", [*told, _SET_UP, "Backups are made already: see /admin/"])
    if not document.shops:
        return render_page(
            "Sales bot", [*told, "First connect your Shopify shop."], body=_SHOP_FORM
        )
    shops = "".join(_item(one, f"/shopify/{one.account}/login") for one in document.shops)
    pages = "".join(_item(one, "/facebook/login") for one in document.pages)
    body = (
        f"<h2>Shops</h2><ul>{shops}</ul>"
        f"<h2>Facebook Pages</h2>{f'<ul>{pages}</ul>' if pages else '<p>None yet.</p>'}"
        f"{_PAGES_LINK}<h2>Next</h2><p>{escape(document.next)}</p>{_SHOP_FORM}"
    )
    return render_page("Sales bot", told, body=body)


def _item(one: ConnectionState, link: str) -> str:
    if one.state == "connected":
        return f"<li>{escape(one.account)}: connected</li>"
    return (
        f'<li>{escape(one.account)}: <strong><a href="{escape(link)}">reconnect</a></strong> '
        f"({escape(one.reason or '')}, since {escape(one.since or '')})</li>"
    )
