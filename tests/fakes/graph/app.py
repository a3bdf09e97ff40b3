"""The stand-in itself: which path is which edge, faults first, and every call remembered."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tests.fakes.asked import Asked, read
from tests.fakes.faults import Fault, happen
from tests.fakes.graph import edges, oauth, talk
from tests.fakes.graph.access import presented
from tests.fakes.graph.control import Control
from tests.fakes.graph.errors import GraphError
from tests.fakes.graph.state import VERSION, World
from tests.fakes.serving import application

_DIALOG_HOST = "dialog-host"
_PAGE_EDGES = ("subscribed_apps", "conversations", "messages")
_USER_EDGES = ("me", "accounts", "businesses", "permissions")
_BUSINESS_EDGES = ("owned_pages", "client_pages")


def build(base_url: str) -> Starlette:
    """A new world and its application."""
    world = World(base_url)

    async def platform(request: Request) -> Response:
        asked = await read(request)
        edge, subject = _edge(world, asked)
        status, detail = 0, None
        try:
            try:
                answer = await _answer(world, asked, edge, subject)
            except GraphError as error:
                detail = str(error.code)
                answer = error.response()
            status = answer.status_code
            answer.headers["facebook-api-version"] = VERSION
            for name, value in world.usage.items():
                answer.headers.setdefault(name, value)
            return answer
        finally:
            token = presented(asked)
            sent = (token.token, token.place)
            world.calls.append(asked.call(edge, subject, sent, status, detail))

    return application(platform, Control(world).actions())


def _edge(world: World, asked: Asked) -> tuple[str, str | None]:
    """The name of the edge that a path leads to, and the object that it is about."""
    parts = asked.segments
    if parts[:1] == [_DIALOG_HOST]:
        return "dialog", None
    rest = parts[1:]
    if rest == ["oauth", "access_token"]:
        return "oauth", None
    if rest == ["debug_token"]:
        return "debug_token", None
    if not rest or len(rest) > 2:
        return "unknown", None
    subject = rest[0]
    if subject == "me" and len(rest) == 2 and rest[1] in _PAGE_EDGES:
        token = world.tokens.get(presented(asked).token or "")
        return rest[1], (token.page if token else None) or "me"
    if subject in ("me", world.user_id):
        name = rest[1] if len(rest) == 2 else "me"
        return (name, None) if name in _USER_EDGES else ("unknown", None)
    if subject.startswith("t_"):
        name = "conversation_messages" if rest[1:] == ["messages"] else "conversation"
        return (name, subject) if rest[1:] in ([], ["messages"]) else ("unknown", subject)
    if subject.startswith("m_"):
        return ("message", subject) if len(rest) == 1 else ("unknown", subject)
    if len(rest) == 2:
        known = (*_PAGE_EDGES, *_BUSINESS_EDGES)
        return (rest[1] if rest[1] in known else "unknown"), subject
    return ("page" if subject in world.pages else "customer"), subject


async def _answer(world: World, asked: Asked, edge: str, subject: str | None) -> Response:
    fault = world.faults.take(edge, subject)
    if fault:
        answer = await _fault(fault)
        if answer:
            return answer
    if edge == "dialog":
        if asked.segments[1:] != [VERSION, "dialog", "oauth"] or asked.method != "GET":
            return HTMLResponse("<p>This page isn't available</p>", status_code=404)
        return oauth.dialog(world, asked)
    if asked.segments[:1] != [VERSION] or edge == "unknown":
        raise GraphError(2500, f"Unknown path components: {asked.path}")
    if edge in _WITHOUT_SUBJECT:
        return _WITHOUT_SUBJECT[edge](world, asked)
    if edge == "conversation_messages":
        return talk.conversation(world, asked, subject or "", "messages")
    if edge == "conversation":
        return talk.conversation(world, asked, subject or "", None)
    return _WITH_SUBJECT[edge](world, asked, subject or "")


async def _fault(fault: Fault) -> Response | None:
    if fault.kind != "error":
        return await happen(fault)
    details = fault.details
    raise GraphError(
        details["code"],
        details.get("message"),
        subcode=details.get("subcode"),
        status=details.get("status"),
        headers=details.get("headers"),
    )


_WITHOUT_SUBJECT = {
    "oauth": oauth.access_token,
    "debug_token": oauth.debug_token,
    "me": edges.me,
    "accounts": edges.accounts,
    "businesses": edges.businesses,
    "permissions": edges.permissions,
}
_WITH_SUBJECT = {
    "page": edges.page,
    "owned_pages": edges.owned_pages,
    "client_pages": edges.client_pages,
    "subscribed_apps": edges.subscribed_apps,
    "conversations": talk.conversations,
    "messages": talk.send,
    "message": talk.message,
    "customer": talk.customer,
}
