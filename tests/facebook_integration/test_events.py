"""What is in a webhook of Meta, with everything that may be wrong in it."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facebook_integration.events import CHANGE, MESSAGE, message_id, split, spoken
from shared.clock import SystemClock
from shared.merchants.inbox import Inbox, open_inbox

PAGE, CUSTOMER = "1001", "7001"
AT = 1_795_300_000_123


def said(mid: str = "m_1", sender: str = CUSTOMER, recipient: str = PAGE) -> dict[str, Any]:
    """A message."""
    return {
        "sender": {"id": sender},
        "recipient": {"id": recipient},
        "timestamp": AT,
        "message": {"mid": mid, "text": "Grüezi"},
    }


def body(*entries: dict[str, Any]) -> dict[str, Any]:
    """A webhook."""
    return {"object": "page", "entry": list(entries)}


def test_each_update_of_each_page_is_an_event() -> None:
    """Several Pages in one POST, messages, postbacks and changes, each with its time."""
    postback = {**said(), "postback": {"mid": "m_3", "payload": "BUY", "title": "Buy"}}
    del postback["message"]
    change = {"field": "name", "value": "Käsehaus"}

    found = split(
        body(
            {"id": PAGE, "time": AT, "messaging": [said("m_1"), said("m_2")]},
            {"id": "1002", "time": AT, "messaging": [postback]},
            {"id": "1002", "time": 1_795_300_000, "changes": [change]},
        )
    )

    assert [(one.account, one.topic) for one in found] == [
        (PAGE, MESSAGE),
        (PAGE, MESSAGE),
        ("1002", MESSAGE),
        ("1002", CHANGE),
    ]
    assert [one.event_id for one in found][:3] == ["m_1", "m_2", "m_3"]
    assert json.loads(found[0].body) == said("m_1")
    assert json.loads(found[3].body) == change
    assert [one.sent_at for one in found] == [
        *[datetime.fromtimestamp(AT / 1000, UTC)] * 3,
        datetime.fromtimestamp(1_795_300_000, UTC),
    ]


def test_the_same_change_has_the_same_name() -> None:
    """So that a retry is met; the same value at another time, or of another Page, is news."""
    change = {"field": "name", "value": "Käsehaus"}

    def named(page: str, at: int) -> str:
        return split(body({"id": page, "time": at, "changes": [change]}))[0].event_id

    assert named(PAGE, AT) == named(PAGE, AT)
    assert len({named(PAGE, AT), named(PAGE, AT + 1), named("1002", AT)}) == 3


@pytest.mark.parametrize(
    "document",
    [
        {"delivery": {"mids": ["m_1"], "watermark": AT}},
        {"read": {"watermark": AT}},
        {"reaction": {"mid": "m_1", "emoji": "x"}},
        {"message": "text"},
        {"message": {"mid": "m_1"}, "timestamp": "yesterday"},
        {"message": {"mid": "m_1"}, "sender": {"id": "../../secrets"}},
        {"message": {"mid": "m_1"}, "sender": {}},
        {"message": {"mid": "m_1"}, "sender": None, "recipient": None},
        {"message": {"mid": "m_1"}, "sender": {"id": PAGE}, "recipient": {"id": PAGE}},
    ],
)
def test_what_is_no_message_of_a_person_is_left_out(document: dict[str, Any]) -> None:
    """Receipts, and what is malformed: ids become parts of object keys."""
    event = {key: value for key, value in said().items() if key != "message"}

    assert split(body({"id": PAGE, "time": AT, "messaging": [{**event, **document}]})) == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"object": "user", "entry": [{"id": PAGE, "messaging": [said()]}]},
        {"object": "page"},
        {"object": "page", "entry": "x"},
        {"object": "page", "entry": [1, None, {"id": "x"}, {"id": PAGE}]},
        {"object": "page", "entry": [{"id": "1/2", "messaging": [said()]}]},
        {"object": "page", "entry": [{"id": "1" * 33, "messaging": [said()]}]},
        {"object": "page", "entry": [{"messaging": [said()]}]},
        {"object": "page", "entry": [{"id": PAGE, "messaging": said(), "changes": "x"}]},
        {"object": "page", "entry": [{"id": PAGE, "changes": [{"value": 1}, {"field": 2}]}]},
    ],
)
def test_what_is_no_page_is_left_out(document: dict[str, Any]) -> None:
    """Nothing in it, and no failure."""
    assert split(document) == []


def test_an_echo_belongs_to_the_customer() -> None:
    """What the Page said is part of the conversation with whom it was said to."""
    echo = said("m_2", sender=PAGE, recipient=CUSTOMER)

    for document in (said(), echo):
        found = spoken(document, PAGE)
        assert found is not None
        assert (found.customer, found.document) == (CUSTOMER, document)


def test_an_event_without_a_mid_has_a_name_of_its_own() -> None:
    """Postbacks may have none; the same event twice is still the same."""
    pressed = {"sender": {"id": CUSTOMER}, "timestamp": AT, "postback": {"payload": "BUY"}}

    assert message_id(pressed) == message_id(dict(reversed(pressed.items())))
    assert message_id(pressed) != message_id({**pressed, "timestamp": AT + 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ANY_TEXT = st.text() | st.just("\ud83d")  # half of an emoji is JSON, too
IDS = st.sampled_from([PAGE, CUSTOMER, "x"])
SOUND = st.builds(
    lambda mid, text: {**said(), "message": {"mid": mid, "text": text}}, ANY_TEXT, ANY_TEXT
)
MESSAGING = SOUND | st.fixed_dictionaries(
    {
        "sender": st.fixed_dictionaries({"id": IDS}) | JSON,
        "recipient": st.fixed_dictionaries({"id": IDS}) | JSON,
        "timestamp": st.integers() | JSON,
        "message": st.fixed_dictionaries({"mid": ANY_TEXT, "text": ANY_TEXT}) | JSON,
    },
    optional={"postback": JSON},
)
CHANGES = st.fixed_dictionaries({"field": ANY_TEXT | JSON, "value": ANY_TEXT | JSON})
ENTRIES = st.fixed_dictionaries(
    {
        "id": st.just(PAGE) | IDS | JSON,
        "time": st.integers() | JSON,
        "messaging": st.lists(MESSAGING, max_size=3) | JSON,
        "changes": st.lists(CHANGES, max_size=2) | JSON,
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(entries=st.lists(ENTRIES | JSON, max_size=3))
def test_whatever_is_signed_can_be_kept(tmp_path: Path, entries: list[Any]) -> None:
    """Any JSON gives events that the inbox takes, half of an emoji in a `mid` included."""
    found = split({"object": "page", "entry": entries})

    with closing(open_inbox(tmp_path / "inbox.db")) as database:
        inbox = Inbox(database, SystemClock())
        inbox.add(found)
        waiting = [
            one
            for provider, account in inbox.due_accounts(["facebook"])
            for one in inbox.waiting(provider, account, 0, 1000)
        ]
        inbox.finish([one.sequence for one in waiting])

    assert {one.event.event_id for one in waiting} <= {one.event_id for one in found}
