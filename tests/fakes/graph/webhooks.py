"""Webhooks of the Graph API: their JSON, their signatures, and what can be wrong with those."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.fakes.asked import Json
from tests.fakes.delivery import Outgoing
from tests.fakes.graph.state import Conversation, Message, Page, World

SIGNATURES = ("valid", "wrong", "other-body", "missing", "sha1-only")
HANDOVERS = ("pass_thread_control", "take_thread_control", "request_thread_control")
ORDERS = ("given", "reversed", "shuffled")

INBOX_APP_ID = 263902037430900  # echoes of what people write in the Page's inbox name it


def as_meta_writes_it(payload: Any) -> bytes:
    """JSON in pure ASCII, with escaped slashes: the bytes that are signed and sent."""
    text = json.dumps(payload, ensure_ascii=True, separators=(",", ":"))
    return text.replace("/", "\\/").encode("ascii")


def message_event(world: World, page: Page, talk: Conversation, message: Message) -> Json:
    """An event of `entry[].messaging[]`; one that the Page sent is an echo."""
    content: Json = {"mid": message.mid}
    if message.text is not None:
        content["text"] = message.text
    if message.attachments:
        content["attachments"] = message.attachments
    sender, receiver = talk.customer, page.id
    if message.from_page:
        sender, receiver = receiver, sender
        app_id = int(world.app_id) if message.by_app else INBOX_APP_ID
        content |= {"is_echo": True, "app_id": app_id}
    return {
        "sender": {"id": sender},
        "recipient": {"id": receiver},
        "timestamp": message.at,
        "message": content,
    }


def edit_event(page: Page, talk: Conversation, message: Message, at: int) -> Json:
    """The event of `message_edits`: the new text, under the id of the message."""
    return {
        "sender": {"id": talk.customer},
        "recipient": {"id": page.id},
        "timestamp": at,
        "message_edit": {"mid": message.mid, "text": message.text, "num_edit": message.edits},
    }


def handover_event(page: Page, customer: str, kind: str, apps: Json, at: int) -> Json:
    """An event of `messaging_handovers`."""
    return {
        "sender": {"id": customer},
        "recipient": {"id": page.id},
        "timestamp": at,
        kind: {**apps, "metadata": ""},
    }


def field_of(event: Json) -> str | None:
    """Which field has to be subscribed for an event of a kind that not every app wants."""
    if "message_edit" in event:
        return "message_edits"
    return "messaging_handovers" if any(kind in event for kind in HANDOVERS) else None


def page_of(event: Json) -> str:
    """The Page that an event belongs to."""
    echo = event.get("message", {}).get("is_echo", False)
    return str(event["sender" if echo else "recipient"]["id"])


def entries(
    events: Sequence[Json],
    order: str,
    *,
    grouped: bool,
    is_elsewhere: Callable[[Json], bool] = lambda _: False,
) -> list[Json]:
    """The entries of one POST; `grouped` puts all events of a Page into one of them.

    The events of threads that another app owns come as `standby`.
    """
    if order not in ORDERS:
        raise ValueError(f"order is one of {ORDERS}")
    events = list(events)
    if order == "reversed":
        events.reverse()
    elif order == "shuffled":
        random.shuffle(events)
    made: dict[str, Json] = {}
    for number, event in enumerate(events):
        page = page_of(event)
        entry = made.setdefault(
            page if grouped else str(number),
            {"time": int(time.time() * 1000), "id": page},
        )
        channel = "standby" if is_elsewhere(event) else "messaging"
        entry.setdefault(channel, []).append(event)
    return list(made.values())


def change_entry(page: str, field: str, value: Any) -> Json:
    """An entry that tells of a changed field of a Page."""
    return {"id": page, "time": int(time.time()), "changes": [{"field": field, "value": value}]}


def webhook(
    world: World, url: str, body: bytes, signature: str, signature_header: str | None
) -> Outgoing:
    """A POST to the webhook, signed as `signature` says or with a header of one's own."""
    if signature not in SIGNATURES:
        raise ValueError(f"signature is one of {SIGNATURES}")
    key = world.app_secret if signature != "wrong" else "the secret of somebody else"
    signed = body if signature != "other-body" else body + b" "
    headers = [
        ("content-type", b"application/json"),
        ("user-agent", b"facebookexternalua"),
        ("accept", b"*/*"),
    ]
    if signature != "missing":
        sha1 = hmac.new(key.encode(), signed, hashlib.sha1).hexdigest()
        headers.append(("x-hub-signature", f"sha1={sha1}".encode()))
    if signature_header is not None:
        headers.append(("x-hub-signature-256", signature_header.encode("latin-1")))
    elif signature in ("valid", "wrong", "other-body"):
        sha256 = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
        headers.append(("x-hub-signature-256", f"sha256={sha256}".encode()))
    return Outgoing("POST", url, headers, body)


def verification(url: str, mode: str | None, token: str | None, challenge: str | None) -> Outgoing:
    """The GET with which the platform makes sure of the webhook address."""
    given = {"hub.mode": mode, "hub.challenge": challenge, "hub.verify_token": token}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return Outgoing("GET", f"{url}?{query}", [("user-agent", b"facebookplatform/1.0")], b"")


def signed_request(world: World, url: str, payload: Json, signature: str) -> Outgoing:
    """The form post of the deauthorize and data deletion callbacks."""
    if signature not in ("valid", "wrong", "missing", "malformed"):
        raise ValueError("signature is valid, wrong, missing or malformed")
    encoded = _b64url(json.dumps(payload).encode())
    key = world.app_secret if signature != "wrong" else "the secret of somebody else"
    sig = _b64url(hmac.new(key.encode(), encoded.encode(), hashlib.sha256).digest())
    form = {"signed_request": f"{sig}.{encoded}"}
    if signature == "missing":
        form = {}
    if signature == "malformed":
        form = {"signed_request": "ä.not base64.at all"}
    headers = [
        ("content-type", b"application/x-www-form-urlencoded"),
        ("user-agent", b"facebookplatform/1.0"),
    ]
    return Outgoing("POST", url, headers, urlencode(form).encode())


def _b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
