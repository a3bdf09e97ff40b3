"""What is in a webhook of Meta: one POST has up to 1000 updates, of several Pages. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.merchants.inbox import Event

MESSAGE = "message"
CHANGE = "change"

# Ids become parts of object keys.
_ID = re.compile(r"[0-9]{1,32}")
_MID = re.compile(r"[!-~]{1,500}")
# Who answers a customer, this app or another one of the Page, is handed over.
_HANDOVERS = ("pass_thread_control", "take_thread_control", "request_thread_control")
_EDIT = "message_edit"
_KINDS = ("message", _EDIT, "postback", "referral", *_HANDOVERS)


@dataclass(frozen=True)
class Spoken:
    """One messaging event of a conversation: of whom, and the event as Meta sent it."""

    customer: str
    document: Mapping[str, Any]


def is_id(value: object) -> bool:
    """Whether this is the id of a Page or a person."""
    return isinstance(value, str) and bool(_ID.fullmatch(value))


def split(body: Mapping[str, Any]) -> list[Event]:
    """An event for each message, edit, postback, referral, handover and change of the profile.

    Receipts and whatever else is not kept, and what is malformed, is left out.
    """
    if body.get("object") != "page":
        return []
    return [
        event
        for entry in _dicts(body.get("entry"))
        if is_id(page := str(entry.get("id")))
        for event in (*_messages(page, entry), *_changes(page, entry))
    ]


def spoken(document: Mapping[str, Any], page: str) -> Spoken | None:
    """Whose conversation a messaging event belongs to; None when that cannot be told."""
    for end in ("sender", "recipient"):
        person = document.get(end)
        found = person.get("id") if isinstance(person, dict) else None
        if found != page:
            return Spoken(str(found), document) if is_id(found) else None
    return None


def message_id(document: Mapping[str, Any]) -> str:
    """The `mid` of a messaging event, or a hash of the event where it has none that can be kept.

    An edit has that of the message which was edited.
    """
    for kind in _KINDS:
        part = document.get(kind)
        mid = part.get("mid") if isinstance(part, dict) else None
        if isinstance(mid, str) and _MID.fullmatch(mid):
            return mid
    return _hash(document)


@dataclass(frozen=True)
class Edit:
    """An edit of a message: the text since then; the number of edits, and milliseconds."""

    text: str
    number: int
    at: int
    document: Mapping[str, Any]

    @property
    def order(self) -> tuple[int, int]:
        """Later edits have more."""
        return self.number, self.at


def edit_of(document: Mapping[str, Any]) -> Edit | None:
    """The edit in a messaging event, or the one that was noted in a stored one."""
    found = document.get(_EDIT)
    if not isinstance(found, dict):
        return None
    text, mid, number = found.get("text"), found.get("mid"), found.get("num_edit")
    at = found.get("timestamp", document.get("timestamp"))
    if not (isinstance(text, str) and isinstance(mid, str) and _MID.fullmatch(mid)):
        return None
    counted = int(str(number)) if re.fullmatch(r"[0-9]{1,9}", str(number)) else 0
    instant = at if isinstance(at, int) else 0
    return Edit(text, counted, instant, {**found, "timestamp": instant})


def _messages(page: str, entry: Mapping[str, Any]) -> Iterator[Event]:
    # What goes on in a thread that another app of the Page owns is told as `standby`.
    for document in (*_dicts(entry.get("messaging")), *_dicts(entry.get("standby"))):
        wanted = any(isinstance(document.get(kind), dict) for kind in _KINDS)
        if wanted and isinstance(document.get("timestamp"), int) and spoken(document, page):
            named = message_id(document)
            if _EDIT in document:  # of which one message may have several
                if edit_of(document) is None:
                    continue
                named = _hash(document)
            yield _event(page, MESSAGE, named, document, document["timestamp"])


def _changes(page: str, entry: Mapping[str, Any]) -> Iterator[Event]:
    at = entry.get("time")
    for document in _dicts(entry.get("changes")):
        if isinstance(document.get("field"), str):
            named = hashlib.sha256(f"{page} {at} {_text(document)}".encode()).hexdigest()
            yield _event(page, CHANGE, named, document, at)


def _event(page: str, topic: str, event_id: str, document: Mapping[str, Any], at: object) -> Event:
    return Event("facebook", event_id, page, topic, _text(document), _instant(at))


def _instant(at: object) -> datetime | None:
    """Meta's times are milliseconds, those of some entries seconds, since the epoch."""
    if not isinstance(at, int) or not 0 < at < 10**14:
        return None
    return datetime.fromtimestamp(at / 1000 if at > 10**11 else at, UTC)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(document).encode()).hexdigest()


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
