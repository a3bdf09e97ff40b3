"""Conversations and messages: reading what was said, and the Send API."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.fakes.asked import Asked, Json
from tests.fakes.graph import nodes
from tests.fakes.graph.access import allow, no_such_object, page_token_of, token_of
from tests.fakes.graph.edges import fields_of, only
from tests.fakes.graph.errors import GraphError
from tests.fakes.graph.fields import Field, pick
from tests.fakes.graph.lists import one_page
from tests.fakes.graph.state import Conversation, Message, Page, World

DETAILED_MESSAGES = 20  # older ones are listed by id and time only
LONGEST_TEXT = 2000
CALLS_A_SECOND = 2  # of a Page at the Conversations API
WINDOW_MILLISECONDS = 24 * 3600 * 1000

_MESSAGE_FIELDS = "id,created_time"


def new_mid() -> str:
    """The id of a new message, as the platform makes them."""
    return f"m_{secrets.token_urlsafe(60)}"


def conversations(world: World, asked: Asked, page_id: str) -> Response:
    """A Page's conversations, the one with the newest message first."""
    only(asked, "GET")
    page_token_of(world, asked, page_id, "pages_messaging")
    _keep_to_two_a_second(world, page_id)
    allow(asked, "fields", "limit", "after", "before", "platform", "user_id", "folder")
    if (most := world.most_conversations) and int(asked.arguments.get("limit", 25)) > most:
        raise GraphError(
            1, "Please reduce the amount of data you're asking for, then retry your request"
        )
    if str(asked.arguments.get("platform", "messenger")).lower() != "messenger":
        raise GraphError(100, "(#100) Param platform must be one of {MESSENGER} for this Page")
    fields = fields_of(asked, "id,link,updated_time", nodes.CONVERSATION, "UnifiedThread")
    page = world.page(page_id)
    talks = sorted(page.conversations.values(), key=lambda one: (one.updated, one.id), reverse=True)
    customer = asked.arguments.get("user_id")
    if customer:
        talks = [one for one in talks if one.customer == customer]

    def show(talk: Conversation) -> Json:
        world.reads.setdefault(page_id, []).append(talk.customer)
        return _conversation(world, asked, page, talk, fields)

    path = f"{page_id}/conversations"
    return JSONResponse(one_page(world, asked, path, talks, lambda one: one.id, show))


def _keep_to_two_a_second(world: World, page_id: str) -> None:
    now = time.monotonic()
    recent = [at for at in world.listed_at.get(page_id, []) if at > now - 1]
    if len(recent) >= CALLS_A_SECOND:
        raise GraphError(613, "(#613) Calls to this api have exceeded the rate limit.")
    world.listed_at[page_id] = [*recent, now]


def _conversation(
    world: World, asked: Asked, page: Page, talk: Conversation, fields: tuple[Field, ...]
) -> Json:
    values = nodes.conversation_values(page, talk)
    shown = {**pick(fields, values), "id": talk.id}
    if talk.without:
        shown[talk.without] = None
    for field in fields:
        if field.name == "messages":
            shown["messages"] = _messages(world, asked, page, talk, field)
    return shown


def _messages(
    world: World, asked: Asked, page: Page, talk: Conversation, field: Field, *, nested: bool = True
) -> Json:
    """The messages of one conversation, newest first, without details beyond the twentieth."""
    newest = talk.newest_first()
    detailed = {one.mid for one in newest[:DETAILED_MESSAGES]}
    fields = field.fields or (Field("id", {}, ()), Field("created_time", {}, ()))
    bare = tuple(one for one in fields if one.name in ("id", "created_time"))

    def show(message: Message) -> Json:
        wanted = fields if message.mid in detailed else bare
        return {
            **pick(wanted, nodes.message_values(page, talk, message)),
            "id": message.mid,
        }

    inner = asked
    if nested:  # the outer list's `after`, `limit` and `fields` are not this list's
        own = ",".join(_written(one) for one in fields)
        kept = {name: asked.query[name] for name in ("access_token",) if name in asked.query}
        inner = Asked(
            asked.method, asked.path, {**kept, "fields": own}, {}, asked.headers, (), None
        )
    limit = min(field.limit or 25, DETAILED_MESSAGES) if nested else None
    return one_page(
        world, inner, f"{talk.id}/messages", newest, lambda one: one.mid, show, limit=limit
    )


def _written(field: Field) -> str:
    inner = ",".join(_written(one) for one in field.fields)
    return f"{field.name}{{{inner}}}" if inner else field.name


def conversation(world: World, asked: Asked, talk_id: str, edge: str | None) -> Response:
    """One conversation, or the whole list of its messages."""
    only(asked, "GET")
    page, talk = _own_talk(world, asked, talk_id)
    if edge is None:
        allow(asked, "fields")
        fields = fields_of(asked, "id,link,updated_time", nodes.CONVERSATION, "UnifiedThread")
        return JSONResponse(_conversation(world, asked, page, talk, fields))
    allow(asked, "fields", "limit", "after", "before")
    fields = fields_of(asked, _MESSAGE_FIELDS, nodes.MESSAGE, "Message")
    field = Field("messages", {}, fields)
    return JSONResponse(_messages(world, asked, page, talk, field, nested=False))


def message(world: World, asked: Asked, mid: str) -> Response:
    """One message, if it is among the newest twenty of its conversation."""
    only(asked, "GET")
    token = token_of(world, asked)
    allow(asked, "fields")
    fields = fields_of(asked, _MESSAGE_FIELDS, nodes.MESSAGE, "Message")
    page = world.pages.get(token.page or "")
    for talk in page.conversations.values() if page else ():
        if page and mid in [one.mid for one in talk.newest_first()[:DETAILED_MESSAGES]]:
            values = nodes.message_values(page, talk, talk.messages[mid])
            return JSONResponse({**pick(fields, values), "id": mid})
    raise no_such_object(mid, asked.method)


def customer(world: World, asked: Asked, customer_id: str) -> Response:
    """The profile of somebody who wrote to the Page."""
    only(asked, "GET")
    token = token_of(world, asked)
    allow(asked, "fields")
    values = nodes.customer_values(world, customer_id)
    if values is None or not token.page or customer_id not in world.pages[token.page].conversations:
        raise no_such_object(customer_id, asked.method)
    fields = fields_of(asked, "first_name,last_name,profile_pic,id", nodes.CUSTOMER, "User")
    return JSONResponse({**pick(fields, values), "id": customer_id})


def _own_talk(world: World, asked: Asked, talk_id: str) -> tuple[Page, Conversation]:
    token = token_of(world, asked)
    page = world.pages.get(token.page or "")
    if page and "pages_messaging" in token.scopes:
        for talk in page.conversations.values():
            if talk.id == talk_id:
                return page, talk
    raise no_such_object(talk_id, asked.method)


def send(world: World, asked: Asked, page_id: str) -> Response:
    """The Send API: a text to a customer who wrote within the last 24 hours."""
    only(asked, "POST")
    page_token_of(world, asked, page_id, "pages_messaging")
    allow(asked, "recipient", "messaging_type", "message", "tag", "notification_type")
    recipient = _object(asked, "recipient", {"id"})
    content = _object(asked, "message", {"text", "quick_replies", "metadata"})
    if asked.arguments.get("messaging_type") != "RESPONSE":
        raise GraphError(100, "(#100) Param messaging_type must be RESPONSE within the window")
    text = content.get("text")
    if not isinstance(text, str) or not text:
        raise GraphError(100, "(#100) param message must be non-empty.")
    if len(text) > LONGEST_TEXT:
        raise GraphError(
            100, "(#100) Length of param message[text] must be less than or equal to 2000"
        )
    page = world.page(page_id)
    talk = page.conversations.get(str(recipient.get("id")))
    if talk is None:
        raise GraphError(100, "(#100) No matching user found", subcode=2018001)
    now = int(time.time() * 1000)
    heard = [one.at for one in talk.messages.values() if not one.from_page]
    if not heard or max(heard) < now - WINDOW_MILLISECONDS:
        raise GraphError(
            10, "(#10) This message is sent outside of allowed window.", subcode=2018278
        )
    sent = Message(mid=new_mid(), at=now, from_page=True, text=text, by_app=True)
    talk.messages[sent.mid] = sent
    page.sent.append({"recipient": talk.customer, "mid": sent.mid, "text": text})
    return JSONResponse({"recipient_id": talk.customer, "message_id": sent.mid})


def _object(asked: Asked, name: str, known: set[str]) -> dict[str, Any]:
    given = asked.arguments.get(name)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    if not isinstance(given, dict):
        raise GraphError(100, f"(#100) The parameter {name} is required")
    if set(given) - known:
        unknown = sorted(set(given) - known)[0]
        raise GraphError(100, f"(#100) Invalid keys {unknown!r} were found in param {name!r}.")
    return given
