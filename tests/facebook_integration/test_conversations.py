"""A poll of a Page reads what has changed, and goes on where one before it was cut short."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.merchants.errors import PlatformBusy, PlatformError
from tests.facebook_integration.conftest import NOON, USER, Desk

MANY = 30  # more than one list has


def customers(count: int, first: int = 0) -> list[str]:
    """Whoever wrote, the earliest one first."""
    return [f"70010{number:05}" for number in range(first, first + count)]


def write(desk: Desk, page: str, count: int = MANY, first: int = 0) -> list[str]:
    """So many customers write, a minute apart; the last of them at noon, or after it."""
    found = customers(count, first)
    for number, customer in enumerate(found, first):
        at = NOON + timedelta(minutes=number - MANY)
        desk.meta.customer_says(page, customer, f"Grüezi {number}", at, deliver=False)
    return found


def stored(desk: Desk, page: str, people: list[str]) -> list[int]:
    """How many messages of each conversation are stored."""
    return [len(desk.talk(page, customer)) for customer in people]


def progress(desk: Desk, page: str) -> Any:
    """How far the conversations have been read, as it is noted."""
    return desk.place.data.read(f"users/{USER}/facebook/{page}/conversations_read.json")


def test_what_has_not_changed_is_not_read_again(desk: Desk) -> None:
    """Of 30 conversations one changes: the next poll asks for one list, and not for both."""
    (page,) = desk.connected()
    found = write(desk, page)
    desk.sync.poll(page)
    assert sorted(desk.meta.reads(page)) == found
    desk.meta.paging(size=1)

    desk.meta.customer_says(page, found[3], "Offen?", NOON, deliver=False)
    desk.sync.poll(page)

    # The changed one, the one that was the last, and the first that is older than that.
    assert desk.meta.reads(page) == [found[3], found[-1], found[-2]]
    assert len(desk.talk(page, found[3])) == 2
    desk.sync.poll(page)
    assert desk.meta.reads(page) == [found[3], found[-1]]


def test_all_is_read_where_stored_conversations_are_missing(desk: Desk) -> None:
    """Somebody emptied a folder of the bucket: no webhook tells of it, the next poll mends it."""
    (page,) = desk.connected()
    found = write(desk, page)
    desk.sync.poll(page)
    for customer in found[:2]:
        desk.store.delete(f"users/{USER}/facebook/{page}/conversations/{customer}.json")

    desk.sync.poll(page)

    assert stored(desk, page, found) == [1] * MANY


def test_a_reading_that_a_limit_cut_short_goes_on(desk: Desk) -> None:
    """With the next list, though new messages came meanwhile; those are read as well."""
    (page,) = desk.connected()
    found = write(desk, page)
    desk.meta.paging(size=10)
    desk.meta.fail("conversations", 80006, skip=2, subject=page)
    with pytest.raises(PlatformBusy):
        desk.sync.poll(page)
    assert stored(desk, page, found) == [0] * 10 + [1] * 20
    desk.meta.reads(page)

    new = write(desk, page, 2, MANY)
    desk.clock.advance(hours=1)
    desk.sync.poll(page)

    assert stored(desk, page, [*found, *new]) == [1] * 32
    # What was left, and then from the top to where the first reading began.
    assert desk.meta.reads(page)[:12] == [*reversed(found[:10]), *reversed(new)]
    assert progress(desk, page)["after"] is None


def test_a_cursor_that_meta_no_longer_takes_begins_the_reading_anew(desk: Desk) -> None:
    """The conversation that it names is gone, say."""
    (page,) = desk.connected()
    found = write(desk, page)
    desk.meta.paging(size=10)
    desk.meta.fail("conversations", 80006, skip=1, subject=page)
    with pytest.raises(PlatformBusy):
        desk.sync.poll(page)
    desk.clock.advance(hours=1)
    desk.meta.fail("conversations", 100, subject=page)

    desk.sync.poll(page)

    assert stored(desk, page, found) == [1] * MANY


def test_a_malformed_conversation_is_read_again_until_it_is_stored(desk: Desk) -> None:
    """What was left out is not taken for read: the next polls come down to it, and no further."""
    (page,) = desk.connected()
    found = write(desk, page)
    desk.meta.spoil(page, found[27], "participants")
    desk.sync.poll(page)
    assert stored(desk, page, found) == [1] * 27 + [0] + [1] * 2
    desk.meta.reads(page)
    desk.meta.paging(size=1)
    desk.sync.poll(page)
    assert desk.meta.reads(page) == [*reversed(found[26:])]

    desk.meta.spoil(page, found[27], None)
    desk.sync.poll(page)

    assert stored(desk, page, found) == [1] * MANY


def test_a_conversation_without_a_time_has_all_read_again(desk: Desk) -> None:
    """When it changed cannot be told: it is stored, and the reading is not taken for whole."""
    (page,) = desk.connected()
    found = write(desk, page, 4)
    desk.meta.spoil(page, found[2], "updated_time")
    desk.sync.poll(page)
    assert stored(desk, page, found) == [1] * 4
    desk.meta.reads(page)
    desk.meta.paging(size=1)
    desk.sync.poll(page)
    assert desk.meta.reads(page) == [*reversed(found)]

    desk.meta.spoil(page, found[2], None)
    desk.sync.poll(page)
    desk.meta.reads(page)
    desk.sync.poll(page)
    assert desk.meta.reads(page) == [found[3], found[2]]


def test_a_time_in_the_future_hides_nothing(desk: Desk) -> None:
    """One conversation says that it will change in a year; what changes before is still read."""
    (page,) = desk.connected()
    first, second = customers(2)
    desk.meta.customer_says(page, first, "Grüezi", NOON + timedelta(days=365), deliver=False)
    desk.sync.poll(page)

    desk.meta.customer_says(page, second, "Offen?", NOON + timedelta(hours=1), deliver=False)
    desk.clock.advance(days=1)
    desk.sync.poll(page)

    assert stored(desk, page, [first, second]) == [1, 1]


@pytest.mark.parametrize(
    "noted", [[], {"until": 5}, {"until": "soon"}, {"stored": "many"}, {"after": 1}, {"new": 1}]
)
def test_a_note_that_cannot_be_read_says_nothing(desk: Desk, noted: Any) -> None:
    """All is read then."""
    (page,) = desk.connected()
    found = write(desk, page, 2)
    key = f"users/{USER}/facebook/{page}/conversations_read.json"
    desk.place.data.change(key, lambda _: noted)

    desk.sync.poll(page)

    assert stored(desk, page, found) == [1, 1]


def test_a_poll_outlives_its_token(desk: Desk) -> None:
    """The Page's token ends between two lists: the next one is asked for with another token."""
    (page,) = desk.connected()
    found = write(desk, page)
    desk.meta.paging(size=10)
    desk.meta.page_token_lasts(page, calls=4)  # the subscription, the Page, and two lists

    desk.sync.poll(page)

    assert stored(desk, page, found) == [1] * MANY
    assert [call.status for call in desk.meta.calls("conversations")] == [200, 200, 400, 200]
    assert len(desk.meta.calls("subscribed_apps")) == 1


def test_a_plain_refusal_fails_the_poll(desk: Desk) -> None:
    """Nothing of it is taken for read."""
    (page,) = desk.connected()
    found = write(desk, page, 2)
    desk.meta.fail("conversations", 100, subject=page)

    with pytest.raises(PlatformError):
        desk.sync.poll(page)

    assert progress(desk, page) is None
    desk.sync.poll(page)
    assert stored(desk, page, found) == [1, 1]
