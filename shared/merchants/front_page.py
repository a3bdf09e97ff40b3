"""`GET /`: what this browser's user has connected, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from html import escape
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, create_model

from shared.clock import format_utc
from shared.errors import AppError
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.platform import Connection, FrontEntry, Platform, PlatformDefinition
from shared.web.plain_page import render_page, wants_page

_NOBODY = ""  # as the UUID of a user
_NOTHING = "Nothing: messages and products are kept up to date."


class ConnectionState(BaseModel):
    """One account; `since` and `reason` are there unless it is connected."""

    account: str
    state: Literal["connected", "reconnect", "unavailable"]
    since: str | None
    reason: str | None


class FrontPage:
    """What `/` answers about these platforms; the first of them is where a merchant begins."""

    def __init__(self, definitions: Sequence[PlatformDefinition]) -> None:
        self._entries = {definition.name: definition.front for definition in definitions}
        self._first = definitions[0].name
        lists: dict[str, Any] = {
            entry.accounts: (list[ConnectionState], ...) for entry in self._entries.values()
        }
        self.model: type[BaseModel] = create_model(
            "FrontDocument",
            __doc__="What a program reads at `/`.",
            session=(bool, ...),
            **lists,
            next=(str, ...),
        )

    def describe(
        self, connections: Sequence[Connection], *, session: bool, ready: bool = True
    ) -> dict[str, Any]:
        """The document about these connections. Pure. `ready`: the first platform is set up."""
        states = self._states(connections)
        lists = {entry.accounts: states[name] for name, entry in self._entries.items()}
        return {"session": session, **lists, "next": self._next(states, ready=ready)}

    def page(self, connections: Sequence[Connection], *, ready: bool = True) -> Response:
        """The same for a person."""
        first = self._entries[self._first]
        about = [entry.about for entry in self._entries.values() if entry.about]
        states = self._states(connections)
        if not ready:
            return render_page(
                "Sales bot", [*about, first.set_up, "Backups are made already: see /admin/"]
            )
        if not states[self._first]:
            return render_page("Sales bot", [*about, first.begin], body=first.form)
        sections = "".join(
            _section(entry, states[name]) + ("" if entry is first else entry.form)
            for name, entry in self._entries.items()
        )
        following = escape(self._next(states, ready=ready))
        body = f"{sections}<h2>Next</h2><p>{following}</p>{first.form}"
        return render_page("Sales bot", about, body=body)

    def _states(self, connections: Sequence[Connection]) -> dict[str, list[ConnectionState]]:
        return {
            name: [_state(connection) for connection in connections if connection.provider == name]
            for name in self._entries
        }

    def _next(self, states: dict[str, list[ConnectionState]], *, ready: bool) -> str:
        first = self._entries[self._first]
        accounts = [account for name in states for account in states[name]]
        broken = [account.account for account in accounts if account.state == "reconnect"]
        if not ready:
            return first.set_up
        if not states[self._first]:
            return first.connect
        if broken:
            return f"Connect again: {', '.join(broken)}."
        empty = (entry for name, entry in self._entries.items() if not states[name])
        return next((entry.connect for entry in empty), _NOTHING)


def index_owners(platforms: Sequence[Platform]) -> None:
    """Let each platform put into its index whose accounts are whose, where that is not in it yet.

    Otherwise the first visitor waits until every account of everybody is decrypted.
    """
    for platform in platforms:
        with suppress(AppError):  # the visitor meets it, and status names it
            platform.connections(_NOBODY)


def front_routes(definitions: Sequence[PlatformDefinition]) -> APIRouter:
    """The route; the app's state has `browsers` and the `platforms` that are set up."""
    router = APIRouter(tags=["front page"])
    front_page = FrontPage(definitions)

    @router.head("/", include_in_schema=False)
    @router.get(
        "/",
        response_model=front_page.model,
        responses={200: {"content": {"text/html": {}}, "description": "A plain page or JSON"}},
        summary="What is connected, and what to do next",
    )
    def front(request: Request) -> Any:
        browsers: BrowserSessions = request.app.state.browsers
        platforms: Sequence[Platform] = request.app.state.platforms
        user = browsers.user(request)
        connections = (
            [one for platform in platforms for one in platform.connections(user)] if user else []
        )
        ready = any(platform.provider == definitions[0].name for platform in platforms)
        if wants_page(request):
            return front_page.page(connections, ready=ready)
        return front_page.describe(connections, session=user is not None, ready=ready)

    return router


def _state(connection: Connection) -> ConnectionState:
    mark = connection.reconnect or connection.unavailable
    broken: Literal["reconnect", "unavailable"] = (
        "reconnect" if connection.reconnect else "unavailable"
    )
    return ConnectionState(
        account=connection.account,
        state=broken if mark else "connected",
        since=format_utc(mark.since) if mark else None,
        reason=mark.reason if mark else None,
    )


def _section(entry: FrontEntry, accounts: Sequence[ConnectionState]) -> str:
    items = "".join(_item(account, entry.again(account.account)) for account in accounts)
    return f"<h2>{escape(entry.title)}</h2>{f'<ul>{items}</ul>' if items else '<p>None yet.</p>'}"


def _item(one: ConnectionState, link: str) -> str:
    if one.state == "connected":
        return f"<li>{escape(one.account)}: connected</li>"
    if one.state == "unavailable":
        why = f"{escape(one.reason or '')} (since {escape(one.since or '')})"
        return f"<li>{escape(one.account)}: <strong>unavailable</strong>: {why}</li>"
    return (
        f'<li>{escape(one.account)}: <strong><a href="{escape(link)}">reconnect</a></strong> '
        f"({escape(one.reason or '')}, since {escape(one.since or '')})</li>"
    )
