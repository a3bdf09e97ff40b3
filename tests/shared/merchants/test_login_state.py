"""The `state` of a login: signed, ten minutes old at most, good once, and for one login."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.merchants.errors import LoginRefused
from shared.merchants.login_state import Login, StateTokens
from tests.support.clock import FixedClock

SECRET = "state-secret-of-the-tests-0123456789"
LOGIN = Login("shopify", "kaesehaus.myshopify.com", "user", "browser")


def once() -> Callable[[str, datetime], bool]:
    """Remembers what was used, as `Marks.use_state` does."""
    used: set[str] = set()

    def use_up(nonce: str, _expires_at: datetime) -> bool:
        first = nonce not in used
        used.add(nonce)
        return first

    return use_up


@pytest.fixture
def clock() -> FixedClock:
    """The time, which stands still."""
    return FixedClock()


@pytest.fixture
def states(clock: FixedClock) -> StateTokens:
    """States under the tests' secret."""
    return StateTokens(SECRET, once(), clock)


def test_a_state_is_redeemed_once(states: StateTokens) -> None:
    """The second time it is refused; another login's state is not."""
    first, second = states.issue(LOGIN), states.issue(LOGIN)

    states.redeem(first, LOGIN)

    with pytest.raises(LoginRefused):
        states.redeem(first, LOGIN)
    states.redeem(second, LOGIN)


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (600, True), (601, False), (1e6, False)])
def test_a_state_is_good_for_ten_minutes(
    states: StateTokens, clock: FixedClock, seconds: float, good: bool
) -> None:
    """Not a second longer, whatever the cookie says."""
    state = states.issue(LOGIN)

    clock.advance(seconds=seconds)

    if good:
        states.redeem(state, LOGIN)
    else:
        with pytest.raises(LoginRefused):
            states.redeem(state, LOGIN)


def test_it_is_remembered_for_as_long_as_it_is_good(clock: FixedClock) -> None:
    """A used state that is forgotten too early could be used again."""
    told: list[datetime] = []

    def use_up(_nonce: str, until: datetime) -> bool:
        told.append(until)
        return True

    states = StateTokens(SECRET, use_up, clock)
    state = states.issue(LOGIN)
    clock.advance(minutes=9)

    states.redeem(state, LOGIN)

    assert told == [clock.advance(minutes=10)]


@pytest.mark.parametrize(
    "other",
    [
        replace(LOGIN, provider="facebook"),
        replace(LOGIN, account="other.myshopify.com"),
        replace(LOGIN, account=""),
        replace(LOGIN, user="somebody"),
        replace(LOGIN, user=""),
        replace(LOGIN, browser="another"),
        replace(LOGIN, browser=""),
    ],
)
def test_a_state_is_for_one_login(states: StateTokens, other: Login) -> None:
    """Another platform, shop, user or browser is refused, and does not use it up."""
    state = states.issue(LOGIN)

    with pytest.raises(LoginRefused):
        states.redeem(state, other)

    states.redeem(state, LOGIN)


def test_a_state_of_another_secret_is_refused(states: StateTokens, clock: FixedClock) -> None:
    """Nobody else can make one."""
    foreign = StateTokens(SECRET + "x", once(), clock).issue(LOGIN)

    with pytest.raises(LoginRefused):
        states.redeem(foreign, LOGIN)


@given(text=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    """And never a failure."""
    states = StateTokens(SECRET, once(), FixedClock())

    with pytest.raises(LoginRefused):
        states.redeem(text, LOGIN)


@given(at=st.integers(0, 1000), sign=st.sampled_from("Az09-_."))
def test_a_changed_state_is_refused(at: int, sign: str) -> None:
    """Each of its characters counts."""
    states = StateTokens(SECRET, once(), FixedClock())
    state = states.issue(LOGIN)
    at %= len(state) - 1  # the last one has bits that mean nothing
    changed = state[:at] + sign + state[at + 1 :]

    if changed != state:
        with pytest.raises(LoginRefused):
            states.redeem(changed, LOGIN)
