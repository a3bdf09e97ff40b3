"""What Meta's answers become: tokens, Pages, and conversations in the form of webhooks. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from facebook_integration.events import edit_of, is_id, message_id
from shared.clock import format_utc, parse_utc
from shared.databases.binding import is_token, is_uuid


@dataclass(frozen=True)
class UserToken:
    """A token of a Facebook user; `seconds` until it expires, None when it does not."""

    value: str = field(repr=False)
    seconds: int | None


@dataclass(frozen=True)
class TokenFacts:
    """Whose token it is, which app it is for, and what it may do.

    `pages` are those that the person chose one by one; empty for "all current and future Pages".
    """

    app_id: str
    user_id: str
    scopes: tuple[str, ...]
    pages: tuple[str, ...]


@dataclass(frozen=True)
class GrantedPage:
    """A Page that a user granted; without a task on it that allows so, they get no token."""

    id: str
    name: str
    token: str | None = field(repr=False)


@dataclass(frozen=True)
class PageToken:
    """The token of a Page, and the Facebook user through whom we have it, if that was noted."""

    value: str = field(repr=False)
    grantor: str | None


def page_token_to_text(token: PageToken) -> str:
    """What is stored, encrypted, for a Page."""
    return json.dumps({"access_token": token.value, "grantor": token.grantor})


def page_token_of_text(text: str) -> PageToken:
    """The inverse of `page_token_to_text`; a bare token is from before the grantor was noted."""
    if not text.startswith("{"):
        return PageToken(text, None)
    found = json.loads(text)
    return PageToken(found["access_token"], found["grantor"])


def is_page_token(text: str) -> bool:
    """Whether a text is the token of a Page in either form."""
    try:
        token = page_token_of_text(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return (
        isinstance(token.value, str)
        and is_token(token.value)
        and (token.grantor is None or is_id(token.grantor))
    )


@dataclass(frozen=True)
class Grantor:
    """A Facebook user who connected Pages for one of our users (a UUID).

    Their token gives new Page tokens when those stop working. `elsewhere` are the Pages that they
    granted as well, and that another one of our users had connected before.
    """

    token: str = field(repr=False)
    user: str
    pages: tuple[str, ...]
    expires_at: datetime | None
    granted_at: datetime
    elsewhere: tuple[str, ...] = ()


def grantor_to_text(grantor: Grantor) -> str:
    """What is stored, encrypted, for a grantor."""
    return json.dumps(
        {
            "access_token": grantor.token,
            "user": grantor.user,
            "pages": grantor.pages,
            "expires_at": format_utc(grantor.expires_at) if grantor.expires_at else None,
            "granted_at": format_utc(grantor.granted_at),
            "elsewhere": grantor.elsewhere,
        }
    )


def grantor_of_text(text: str) -> Grantor:
    """The inverse of `grantor_to_text`."""
    found = json.loads(text)
    return Grantor(
        token=found["access_token"],
        user=found["user"],
        pages=tuple(found["pages"]),
        expires_at=parse_utc(found["expires_at"]) if found["expires_at"] else None,
        granted_at=parse_utc(found["granted_at"]),
        elsewhere=tuple(found.get("elsewhere", ())),
    )


def is_grantor(text: str) -> bool:
    """Whether a text is a whole grantor, whose user is a UUID."""
    try:
        grantor = grantor_of_text(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return (
        is_token(grantor.token)
        and isinstance(grantor.user, str)
        and is_uuid(grantor.user)
        and all(is_id(page) for page in (*grantor.pages, *grantor.elsewhere))
    )


def with_change(document: Any, page: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a Page after a change of its profile, of which only the news is known."""
    before = document if isinstance(document, dict) else {"id": page}
    value = change.get("value")
    if change.get("field") in ("name", "category") and isinstance(value, str):
        return {**before, str(change["field"]): value}
    return before


def changed_at(conversation: Any) -> datetime | None:
    """When a listed conversation changed last; None when that cannot be told."""
    try:
        return datetime.fromisoformat(conversation["updated_time"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def messages_of(conversation: Mapping[str, Any], page: str) -> tuple[str, list[dict[str, Any]]]:
    """The customer of a conversation, and its messages as the events that a webhook sends.

    The customer is empty when it is not a conversation with one person. A message without a
    sender is left out: Meta tells the details of the newest twenty only.
    """
    people = [str(one.get("id")) for one in conversation["participants"]["data"]]
    customers = [one for one in people if one != page]
    if len(customers) != 1 or not is_id(customers[0]):
        return "", []
    listed = conversation.get("messages", {}).get("data", ())
    return customers[0], [_message(one, page, customers[0]) for one in listed if one.get("from")]


def _message(found: Mapping[str, Any], page: str, customer: str) -> dict[str, Any]:
    sent_by_page = str(found["from"]["id"]) == page
    sender, recipient = (page, customer) if sent_by_page else (customer, page)
    message: dict[str, Any] = {"mid": str(found["id"]), "text": found.get("message") or ""}
    if attachments := _attachments(found.get("attachments")):
        message["attachments"] = attachments
        if not message["text"]:  # a webhook has none either
            del message["text"]
    if sent_by_page:
        message["is_echo"] = True
    at = datetime.fromisoformat(found["created_time"])
    return {
        "sender": {"id": sender},
        "recipient": {"id": recipient},
        "timestamp": int(at.timestamp() * 1000),
        "message": message,
    }


def _attachments(found: Any) -> list[dict[str, Any]]:
    """Attachments of a listed message in the form of webhooks: type, and where the file is."""
    listed = found.get("data", ()) if isinstance(found, dict) else ()
    made = []
    for one in listed:
        kind = str(one.get("mime_type") or "file").partition("/")[0]
        media = one.get("image_data") or one.get("video_data") or {}
        url = media.get("url") or one.get("file_url")
        known = kind if kind in ("image", "video", "audio") else "file"
        made.append({"type": known, "payload": {"url": url} if url else {}})
    return made


def with_told(document: Any, events: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A conversation with what webhooks told; what they say of a message counts most."""
    return _merged(document, events, told=True)


def with_polled(document: Any, events: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A conversation with what polling found, which knows less of each message, and fewer."""
    return _merged(document, events, told=False)


def _merged(document: Any, events: Sequence[Mapping[str, Any]], *, told: bool) -> list[Any]:
    listed = [event for event in document if _is_event(event)] if isinstance(document, list) else []
    found: dict[str, dict[str, Any]] = {message_id(event): event for event in listed}
    for event in events:
        named = message_id(event)
        before = found.get(named, {})
        found[named] = _edited(
            _union(before, event) if told else _union(event, before), before, event
        )
    return sorted(found.values(), key=lambda event: (event["timestamp"], message_id(event)))


def _is_event(event: object) -> bool:
    return isinstance(event, dict) and isinstance(event.get("timestamp"), int)


def _union(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """Both events; `strong` wins where they differ."""
    both = {**weak, **strong}
    if isinstance(weak.get("message"), dict) and isinstance(strong.get("message"), dict):
        both["message"] = {**weak["message"], **strong["message"]}
    elif isinstance(weak.get("message"), dict):  # the other one is an edit of it
        both["timestamp"] = weak["timestamp"]
    return both


def _edited(both: dict[str, Any], *events: Mapping[str, Any]) -> dict[str, Any]:
    """A message with the text of its last edit, which is noted in it, whatever came first."""
    last = max(
        (edit for event in events if (edit := edit_of(event))),
        key=lambda one: one.order,
        default=None,
    )
    if last is None:
        return both
    both["message_edit"] = last.document
    if isinstance(both.get("message"), dict):
        both["message"] = {**both["message"], "text": last.text}
    return both
