"""What is said is stored, whichever app owns the thread, and whether it is a text or a file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from facebook_integration.events import split
from facebook_integration.graph import SUBSCRIBED_FIELDS
from facebook_integration.models import messages_of
from tests.facebook_integration.conftest import NOON, Desk

CUSTOMER, PAGE = "7001002003", "1001"
MESSAGE = {
    "sender": {"id": CUSTOMER},
    "recipient": {"id": PAGE},
    "timestamp": 1_790_000_000_000,
    "message": {"mid": "m_1", "text": "Grüezi"},
}


def body(channel: str, event: dict[str, Any]) -> dict[str, Any]:
    """A webhook's body."""
    return {"object": "page", "entry": [{"id": PAGE, "time": 1, channel: [event]}]}


def test_standby_is_stored_as_messages_are() -> None:
    """The same event under the same id: an app that gets both stores it once."""
    assert split(body("standby", MESSAGE)) == split(body("messaging", MESSAGE)) != []


def test_a_referral_is_part_of_the_conversation() -> None:
    """How a customer came: it is no message, and has an id of its own."""
    told = {name: value for name, value in MESSAGE.items() if name != "message"}
    told["referral"] = {"ref": "summer", "source": "SHORTLINK", "type": "OPEN_THREAD"}

    (event,) = split(body("messaging", told))

    assert json.loads(event.body) == told


EDIT = {"mid": "m_1", "text": "Grüezi!", "num_edit": 1}


def test_each_edit_of_a_message_is_an_event() -> None:
    """The message has the same id; the same edit twice is one event."""
    bare = {name: value for name, value in MESSAGE.items() if name != "message"}
    first = {**bare, "message_edit": EDIT}
    second = {**bare, "message_edit": {**EDIT, "text": "Salü", "num_edit": 2}}

    ids = [
        event.event_id for one in (first, second, first) for event in split(body("messaging", one))
    ]

    assert ids[0] == ids[2]
    assert len({*ids, "m_1"}) == 3


@pytest.mark.parametrize(
    "changes", [{"text": None}, {"text": 5}, {"mid": None}, {"mid": "a b"}, {"mid": ""}]
)
def test_an_edit_of_nothing_is_left_out(changes: dict[str, Any]) -> None:
    """It names no message, or has no text."""
    bare = {name: value for name, value in MESSAGE.items() if name != "message"}
    told = {**bare, "message_edit": {**EDIT, **changes}}

    assert split(body("messaging", told)) == []


@pytest.mark.parametrize(
    "kind", ["pass_thread_control", "take_thread_control", "request_thread_control"]
)
def test_a_handover_is_part_of_the_conversation(kind: str) -> None:
    """Who answers from then on: it is no message, and has an id of its own."""
    told = {name: value for name, value in MESSAGE.items() if name != "message"}
    told[kind] = {"previous_owner_app_id": "1", "new_owner_app_id": "2", "metadata": ""}

    (event,) = split(body("messaging", told))

    assert json.loads(event.body) == told
    assert event.event_id != "m_1"


def test_standby_and_referrals_are_subscribed(desk: Desk) -> None:
    """Meta sends what was subscribed, and refuses what it does not know."""
    (page,) = desk.connected()

    desk.sync.poll(page)

    assert desk.meta.subscribed_fields(page) == list(SUBSCRIBED_FIELDS)
    wanted = {"standby", "messaging_referrals", "message_edits", "messaging_handovers"}
    assert wanted <= set(SUBSCRIBED_FIELDS)


def test_a_polled_image_is_an_attachment(desk: Desk) -> None:
    """It was stored as an empty text."""
    (page,) = desk.connected()
    image = {"id": "9", "mime_type": "image/jpeg", "image_data": {"url": "https://cdn.example/a"}}
    desk.meta.customer_says(page, CUSTOMER, None, NOON, attachments=[image], deliver=False)

    desk.sync.poll(page)

    (event,) = desk.talk(page, CUSTOMER)
    files = [{"type": "image", "payload": {"url": "https://cdn.example/a"}}]
    assert event["message"]["attachments"] == files
    assert "text" not in event["message"]


def test_other_files_have_their_type() -> None:
    """What is neither image, video nor audio is a file; one without an address is still there."""
    attachments = [
        {"mime_type": "video/mp4", "video_data": {"url": "https://cdn.example/v"}},
        {"mime_type": "application/pdf", "file_url": "https://cdn.example/f"},
        {"mime_type": None},
    ]
    message = {
        "id": "m_1",
        "created_time": "2026-11-22T12:00:00+0000",
        "from": {"id": CUSTOMER},
        "message": "see",
        "attachments": {"data": attachments},
    }
    conversation = {
        "participants": {"data": [{"id": CUSTOMER}, {"id": PAGE}]},
        "messages": {"data": [message]},
    }

    _, (event,) = messages_of(conversation, PAGE)

    assert event["message"]["text"] == "see"
    assert event["message"]["attachments"] == [
        {"type": "video", "payload": {"url": "https://cdn.example/v"}},
        {"type": "file", "payload": {"url": "https://cdn.example/f"}},
        {"type": "file", "payload": {}},
    ]
