"""The stand-in itself: which path is which edge, faults first, and every call remembered."""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tests.fakes.asked import Asked, read
from tests.fakes.faults import Fault, happen
from tests.fakes.serving import application
from tests.fakes.shopify import admin_api, bulk, oauth
from tests.fakes.shopify.control import Control
from tests.fakes.shopify.state import API_VERSION, World

_PATH = re.compile(
    r"/shops/(?P<shop>[a-z0-9][a-z0-9-]*\.myshopify\.com)/admin/"
    r"(?:oauth/(?P<oauth>authorize|access_token)|api/(?P<version>[^/]+)/graphql\.json)"
)


def build(base_url: str) -> Starlette:
    """A new world and its application."""
    world = World(base_url)

    async def platform(request: Request) -> Response:
        asked = await read(request)
        edge, shop, version = _edge(asked)
        part = admin_api.operation_of(asked) if edge == "graphql" else None
        status, code = 0, None
        try:
            answer, code = await _answer(world, asked, edge, shop, version, part)
            status = answer.status_code
            if edge == "graphql":
                answered = world.options.answered_version or API_VERSION
                answer.headers["x-shopify-api-version"] = answered
            return answer
        finally:
            token = asked.headers.get("x-shopify-access-token")
            sent = (token, "header" if token else None)
            name = f"{edge}:{part}" if part else edge
            world.calls.append(asked.call(name, shop, sent, status, code))

    return application(platform, Control(world).actions())


def _edge(asked: Asked) -> tuple[str, str | None, str]:
    if asked.path.startswith(bulk.PATH):
        return "bulk", None, ""
    found = _PATH.fullmatch(asked.path)
    if not found:
        return "unknown", None, ""
    return found["oauth"] or "graphql", found["shop"], found["version"] or ""


async def _answer(
    world: World, asked: Asked, edge: str, shop: str | None, version: str, part: str | None
) -> tuple[Response, str | None]:
    if edge == "bulk":
        fault = world.faults.take(edge, None)
        answer = await happen(fault) if fault else None
        answer = answer or bulk.file(world, asked.path)
        return answer, None
    store = world.shops.get(shop or "")
    if store is None:
        page = "<p>Sorry, this shop is currently unavailable</p>"
        return HTMLResponse(page, status_code=404), "404"
    fault = world.faults.take(edge, shop, part)
    if fault and fault.kind not in ("error", "throttle"):
        answer = await happen(fault)
        if answer:
            return answer, None
    if edge == "authorize":
        return oauth.authorize(world, asked, store.domain), None
    if edge == "access_token":
        try:
            if fault and fault.kind == "error":
                raise _oauth_error(fault)
            return oauth.access_token(world, asked, store.domain), None
        except oauth.OAuthError as error:
            return error.response(), error.error
    return admin_api.answer(world, asked, store, version, fault)


def _oauth_error(fault: Fault) -> oauth.OAuthError:
    message = fault.details.get("message") or "as the test wants it"
    return oauth.OAuthError(fault.details["code"], message)
