"""Meta's limits: nothing is asked before its time, and what was cut short is made up for."""

from __future__ import annotations

import json

import pytest

from facebook_integration.limits import limit_of_refusal
from shared.merchants.errors import PlatformBusy, TokenRefused
from shared.merchants.http_client import Answer
from tests.facebook_integration.conftest import NOON, Desk

CUSTOMER = "7001002003"


def test_a_limit_of_37_minutes_is_kept(desk: Desk) -> None:
    """Of one Page: the other one is polled meanwhile; afterwards it is made up for, by itself."""
    limited, other = desk.connected(2)
    for page in (limited, other):
        desk.meta.customer_says(page, CUSTOMER, "Grüezi", NOON, deliver=False)
    desk.meta.limit(80006, minutes=37, subject=limited)

    assert desk.polling.poll() == 1
    assert desk.asked(limited) == 1
    assert len(desk.talk(other, CUSTOMER)) == 1
    desk.meta.clear_faults()
    for _ in range(7):
        desk.clock.advance(minutes=5)
        desk.first_syncs.work()
    assert desk.asked(limited) == 1

    desk.clock.advance(minutes=3)
    desk.first_syncs.work()

    assert len(desk.talk(limited, CUSTOMER)) == 1
    assert desk.marked() == []


@pytest.mark.parametrize("code", [4, 341])
def test_a_limit_of_the_app_is_one_of_all_pages(desk: Desk, code: int) -> None:
    """One call meets it; no other Page is asked until its time has come."""
    pages = desk.connected(3)
    desk.meta.limit(code, minutes=5)

    assert desk.polling.poll() == 3
    assert len(desk.meta.calls()) == 1
    desk.meta.clear_faults()
    desk.clock.advance(minutes=6)
    while desk.first_syncs.work():
        pass

    assert all(desk.asked(page) > 0 for page in pages)
    assert desk.polling.poll() == 0


@pytest.mark.parametrize("code", [17, 32, 613, 80001, 80014])
def test_a_limit_without_a_time_is_waited_for_a_quarter_of_an_hour(desk: Desk, code: int) -> None:
    """Six tries in half a minute, and the next Page, made it last longer."""
    (page,) = desk.connected()
    desk.meta.limit(code, subject=page)
    desk.polling.poll()
    desk.meta.clear_faults()

    desk.clock.advance(minutes=13)
    with pytest.raises(PlatformBusy):
        desk.sync.poll(page)
    assert desk.asked(page) == 1
    desk.clock.advance(minutes=3)
    desk.sync.poll(page)


@pytest.mark.parametrize(
    ("header", "usage"),
    [
        ("x-app-usage", {"call_count": 96, "total_cputime": 5, "total_time": 5}),
        ("x-page-usage", {"call_count": 5, "total_cputime": 99, "total_time": 5}),
        ("x-business-use-case-usage", {"1": [{"type": "messenger", "total_time": 97}]}),
        (
            "x-business-use-case-usage",
            {"1": [{"type": "messenger", "estimated_time_to_regain_access": 3}]},
        ),
    ],
)
def test_calls_end_before_the_limit(desk: Desk, header: str, usage: object) -> None:
    """The usage headers of a good answer are read: the next call waits for some minutes."""
    (page,) = desk.connected()
    desk.meta.uses({header: json.dumps(usage)})

    with pytest.raises(PlatformBusy) as caught:
        desk.sync.poll(page)

    assert desk.asked(page) == 1
    assert caught.value.wait is not None
    desk.meta.uses(None)
    desk.clock.advance(seconds=caught.value.wait + 1)
    desk.sync.poll(page)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"call_count": "many"}', "9" * 5000])
def test_headers_that_cannot_be_read_say_nothing(desk: Desk, text: str) -> None:
    """They come from outside."""
    (page,) = desk.connected()
    desk.meta.uses({"x-app-usage": text, "x-business-use-case-usage": text})

    desk.sync.poll(page)


def test_conversations_are_asked_for_twice_a_second(desk: Desk) -> None:
    """The platform refuses a third call within the second, which never happens."""
    (page,) = desk.connected()
    for number in range(5):
        desk.meta.customer_says(page, f"{CUSTOMER}{number}", "Grüezi", NOON, deliver=False)
    desk.meta.paging(size=1)

    desk.sync.poll(page)

    calls = desk.meta.calls("conversations")
    assert len(calls) == 5
    assert {call.status for call in calls} == {200}


def test_less_is_asked_for_when_it_was_too_much(desk: Desk) -> None:
    """Error 1: a shorter list, and all of it in the end."""
    (page,) = desk.connected()
    customers = [f"{CUSTOMER}{number}" for number in range(4)]
    for customer in customers:
        desk.meta.customer_says(page, customer, "Grüezi", NOON, deliver=False)
    desk.meta.gives_at_most(2)

    desk.sync.poll(page)

    assert [len(desk.talk(page, customer)) for customer in customers] == [1, 1, 1, 1]


@pytest.mark.parametrize("code", [102, 190])
def test_a_session_that_ended_is_renewed(desk: Desk, code: int) -> None:
    """Through the person who granted it."""
    (page,) = desk.connected()
    desk.meta.rotate_page_token(page)
    desk.meta.fail("subscribed_apps", code, subject=page)

    desk.sync.poll(page)

    desk.meta.fail("subscribed_apps", code, subject=page)
    desk.meta.expire_user_tokens()
    with pytest.raises(TokenRefused):
        desk.sync.poll(page)


def test_what_a_refusal_says_of_time() -> None:
    """`Retry-After` in seconds counts first, also where a proxy says it; a day is the most."""

    def seconds(code: int | None, status: int, **headers: str) -> float | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        limit = limit_of_refusal(code, Answer(status, named, b""))
        return limit.seconds if limit else None

    usage = json.dumps({"1": [{"estimated_time_to_regain_access": 37}]})
    assert seconds(4, 400, x_business_use_case_usage=usage) == 37 * 60
    assert seconds(None, 429, retry_after="90", x_business_use_case_usage=usage) == 90
    assert seconds(None, 429) == 900
    assert seconds(613, 400, retry_after="999999") == 24 * 3600
    assert seconds(100, 400, retry_after="90") is None
