"""Conversations: what webhooks tell and what polling finds become one document."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facebook_integration.models import (
    GrantedPage,
    Grantor,
    UserToken,
    grantor_of_text,
    grantor_to_text,
    messages_of,
    with_change,
    with_polled,
    with_told,
)
from tests.support.clock import MIDNIGHT

PAGE, CUSTOMER = "1001", "7001"


def told(number: int) -> dict[str, Any]:
    """A message as a webhook has it: milliseconds, and all details."""
    return {
        "sender": {"id": CUSTOMER},
        "recipient": {"id": PAGE},
        "timestamp": 1_795_300_000_000 + 700 * (number // 2) + 123,
        "message": {"mid": f"m_{number}", "text": f"text {number}", "attachments": [number]},
    }


def polled(number: int) -> dict[str, Any]:
    """The same message as polling finds it: whole seconds, and less of it."""
    event = told(number)
    return {
        **event,
        "timestamp": event["timestamp"] // 1000 * 1000,
        "message": {"mid": f"m_{number}", "text": f"text {number}"},
    }


def mids(document: Sequence[dict[str, Any]]) -> set[str]:
    """Which messages are in it."""
    return {event["message"]["mid"] for event in document}


def edit(number: int, edits: int) -> dict[str, Any]:
    """So many edits of the same message later."""
    event = {name: value for name, value in told(number).items() if name != "message"}
    changed = {"mid": f"m_{number}", "text": f"text {number}, edit {edits}", "num_edit": edits}
    return {**event, "timestamp": event["timestamp"] + 10_000 * edits, "message_edit": changed}


NUMBERS = st.lists(st.integers(0, 12), max_size=8)
STEPS = st.lists(st.tuples(st.booleans(), NUMBERS), max_size=6)


def after(document: Any, steps: Sequence[tuple[bool, Sequence[int]]]) -> Any:
    """The document after webhooks (true) and pollings (false) with these messages."""
    for by_webhook, numbers in steps:
        if by_webhook:
            document = with_told(document, [told(number) for number in numbers])
        else:
            document = with_polled(document, [polled(number) for number in numbers])
    return document


@given(steps=STEPS, data=st.data())
def test_webhooks_and_pollings_commute(
    steps: list[tuple[bool, list[int]]], data: st.DataObject
) -> None:
    """In any order and any number of times they give the same document, sorted by time."""
    in_order = after(None, steps)
    again = data.draw(st.lists(st.sampled_from(steps), max_size=3)) if steps else []

    assert after(None, data.draw(st.permutations([*steps, *again]))) == in_order
    assert after(in_order, steps) == in_order
    assert in_order is None or [event["timestamp"] for event in in_order] == sorted(
        event["timestamp"] for event in in_order
    )


@given(before=STEPS, numbers=NUMBERS)
def test_a_polling_never_takes_anything_away(
    before: list[tuple[bool, list[int]]], numbers: list[int]
) -> None:
    """It has only the newest messages: older ones stay, and those told keep all details."""
    document = after([], before)

    found = with_polled(document, [polled(number) for number in numbers])

    assert mids(found) == mids(document) | {f"m_{number}" for number in numbers}
    assert all(event in found for event in document)


def test_what_a_webhook_tells_counts_more() -> None:
    """Its time has milliseconds, and it has attachments; whichever came first."""
    assert with_told([polled(1)], [told(1)]) == [told(1)]
    assert with_polled([told(1)], [polled(1)]) == [told(1)]


@given(data=st.data(), last=st.integers(1, 5))
def test_the_last_edit_counts_whatever_came_first(data: st.DataObject, last: int) -> None:
    """Messages, edits and pollings in any order and number give the text of the last edit."""
    edits = [edit(1, number) for number in range(1, last + 1)]
    steps = [told(1), polled(1), *edits]
    again = data.draw(st.lists(st.sampled_from(steps), max_size=3))
    document: Any = None
    for step in data.draw(st.permutations([*steps, *again])):
        is_polled = step == polled(1)
        document = (with_polled if is_polled else with_told)(document, [step])

    (event,) = document
    assert event["message"] == {**told(1)["message"], "text": f"text 1, edit {last}"}
    assert event["timestamp"] == told(1)["timestamp"]
    noted = {**edits[-1]["message_edit"], "timestamp": edits[-1]["timestamp"]}
    assert event["message_edit"] == noted


def test_an_edit_without_its_message_is_kept() -> None:
    """Its text is there; the message that comes later does not undo it."""
    document = with_told(None, [edit(1, 2)])
    assert [one["message_edit"]["text"] for one in document] == ["text 1, edit 2"]

    assert [one["message"]["text"] for one in with_told(document, [told(1)])] == ["text 1, edit 2"]


@pytest.mark.parametrize("number", ["2", 2])
def test_the_number_of_an_edit_may_be_a_text(number: object) -> None:
    """The reference shows a text and says integer."""
    second = edit(1, 2)
    second["message_edit"]["num_edit"] = number

    for order in ([second, edit(1, 1)], [edit(1, 1), second]):
        (event,) = with_told([told(1)], order)
        assert event["message"]["text"] == "text 1, edit 2"


def test_what_a_polling_adds_to_a_message_is_kept() -> None:
    """A webhook without a text meets a polling that has it."""
    bare = told(1)
    bare["message"] = {"mid": "m_1", "attachments": [1]}

    for document in (with_polled([bare], [polled(1)]), with_told([polled(1)], [bare])):
        assert document[0]["message"] == {"mid": "m_1", "text": "text 1", "attachments": [1]}


@pytest.mark.parametrize("document", [None, {}, "text", 5])
def test_whatever_is_no_conversation_is_an_empty_one(document: Any) -> None:
    """A first message, or a store that somebody else wrote to."""
    assert with_told(document, [told(1)]) == [told(1)]


def conversation(*messages: dict[str, Any], people: Sequence[str] = (PAGE, CUSTOMER)) -> Any:
    """A conversation as polling finds it."""
    return {
        "participants": {"data": [{"id": one} for one in people]},
        "messages": {"data": list(messages)},
    }


def found(mid: str, sender: str = CUSTOMER) -> dict[str, Any]:
    """A message in it."""
    return {
        "id": mid,
        "created_time": "2026-11-22T00:00:01+0000",
        "from": {"id": sender},
        "message": "Grüezi",
    }


def test_a_polled_message_has_the_form_of_a_webhook() -> None:
    """Sender, recipient, milliseconds; what the Page said is an echo."""
    customer, events = messages_of(conversation(found("m_1"), found("m_2", PAGE)), PAGE)

    at = int(MIDNIGHT.timestamp() * 1000) + 1000
    assert customer == CUSTOMER
    assert events == [
        {
            "sender": {"id": CUSTOMER},
            "recipient": {"id": PAGE},
            "timestamp": at,
            "message": {"mid": "m_1", "text": "Grüezi"},
        },
        {
            "sender": {"id": PAGE},
            "recipient": {"id": CUSTOMER},
            "timestamp": at,
            "message": {"mid": "m_2", "text": "Grüezi", "is_echo": True},
        },
    ]


def test_a_message_without_details_is_left_out() -> None:
    """Of older messages Meta tells id and time only: they do not stop the polling."""
    older = {"id": "m_0", "created_time": "2026-11-22T00:00:00+0000"}

    assert [
        event["message"]["mid"] for event in messages_of(conversation(found("m_1"), older), PAGE)[1]
    ] == ["m_1"]


@pytest.mark.parametrize(
    "people", [(), (PAGE,), (PAGE, CUSTOMER, "7002"), (PAGE, "../../secrets"), (PAGE, "")]
)
def test_a_conversation_with_nobody_or_many_is_left_out(people: tuple[str, ...]) -> None:
    """Its document is named after the one customer."""
    assert messages_of(conversation(found("m_1"), people=people), PAGE) == ("", [])


@pytest.mark.parametrize(
    ("document", "change", "expected"),
    [
        (None, {"field": "name", "value": "New"}, {"id": PAGE, "name": "New"}),
        (
            {"id": PAGE, "name": "Old"},
            {"field": "name", "value": "New"},
            {"id": PAGE, "name": "New"},
        ),
        ({"id": PAGE}, {"field": "category", "value": "Food"}, {"id": PAGE, "category": "Food"}),
        ({"id": PAGE}, {"field": "access_token", "value": "secret"}, {"id": PAGE}),
        ({"id": PAGE}, {"field": "name", "value": {"verb": "update"}}, {"id": PAGE}),
        ({"id": PAGE}, {}, {"id": PAGE}),
    ],
)
def test_a_change_of_the_profile_is_its_name_or_category(
    document: Any, change: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Nothing else gets into the document this way."""
    assert with_change(document, PAGE, change) == expected


@pytest.mark.parametrize("expires_at", [None, MIDNIGHT + timedelta(days=60)])
def test_a_stored_grantor_comes_back(expires_at: Any) -> None:
    """Token, user, Pages and times are what they were."""
    grantor = Grantor("EAAB-token", "0000-user", (PAGE, "1002"), expires_at, MIDNIGHT)

    assert grantor_of_text(grantor_to_text(grantor)) == grantor


def test_tokens_are_not_in_any_text() -> None:
    """What is logged by mistake tells no token."""
    shown = repr(
        (
            UserToken("EAAB-secret", 5),
            GrantedPage(PAGE, "Käsehaus", "EAAB-secret"),
            Grantor("EAAB-secret", "user", (), None, MIDNIGHT),
        )
    )

    assert "secret" not in shown
