"""The state of a login: signed, short-lived, good once, and bound to whoever began it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shared.merchants.errors import LoginRefused
from shared.merchants.login_state import Login, StateTokens
from tests.bot.conftest import new_shop
from tests.support.app_process import AppProcess
from tests.support.bot import Bot
from tests.support.clock import FixedClock
from tests.support.installation import STATE_TOKEN_SECRET, Installation
from tests.support.merchant import Merchant, connected, here, refused, value_in

LOGIN = Login("shopify", "a.myshopify.com", "user", "browser")


def always(*_: object) -> bool:
    """Every nonce is new."""
    return True


def signed_callback(bot: Bot, shop: str, state: str, **defects: Any) -> str:
    """A callback with a new, good code, as from Shopify."""
    return here(bot.shopify.callback_url(shop, state, **defects))


# --- the state itself -------------------------------------------------------------------


def test_a_state_is_good_for_ten_minutes() -> None:
    """It is redeemed up to its 600th second, and refused from then on."""
    clock = FixedClock()
    states = StateTokens("a secret", always, clock)
    state = states.issue(LOGIN)
    clock.advance(seconds=600)
    states.redeem(state, LOGIN)
    clock.advance(seconds=1)
    with pytest.raises(LoginRefused):
        states.redeem(state, LOGIN)


def test_a_state_from_the_future_is_refused() -> None:
    """A clock that was set back does not make states last longer."""
    clock = FixedClock()
    states = StateTokens("a secret", always, clock)
    state = states.issue(LOGIN)
    clock.advance(seconds=-120)
    with pytest.raises(LoginRefused):
        states.redeem(state, LOGIN)


def test_a_used_nonce_is_remembered_as_long_as_its_state_lives() -> None:
    """What is told to `use_up` outlives the state, whenever that is redeemed."""
    clock = FixedClock()
    until: list[datetime] = []

    def use_up(_: str, end: datetime) -> bool:
        until.append(end)
        return True

    states = StateTokens("a secret", use_up, clock)
    begun = clock.now()
    states.redeem(states.issue(LOGIN), LOGIN)
    assert (until[0] - begun).total_seconds() >= 600


def test_every_change_of_a_state_is_refused() -> None:
    """No byte of it can be changed, and another secret does not sign."""
    states = StateTokens("a secret", always, FixedClock())
    state = states.issue(LOGIN)
    for place, old in enumerate(state):
        new = "A" if old != "A" else "B"
        changed = state[:place] + new + state[place + 1 :]
        if changed.rpartition(".")[2][:-1] == state.rpartition(".")[2][:-1]:
            continue  # the last digit of base64 has bits that mean nothing
        with pytest.raises(LoginRefused):
            states.redeem(changed, LOGIN)
    foreign = StateTokens("another secret", always, FixedClock()).issue(LOGIN)
    for wrong in (foreign, "", ".", state.rpartition(".")[0], "ä" * 10, "x" * 5000):
        with pytest.raises(LoginRefused):
            states.redeem(wrong, LOGIN)
    states.redeem(state, LOGIN)


@pytest.mark.parametrize("name", ["provider", "account", "user", "browser"])
def test_a_state_fits_only_the_login_that_it_was_issued_for(name: str) -> None:
    """Provider, account, user and browser all have to be the same; a misfit uses nothing up."""
    used: list[str] = []

    def use_up(nonce: str, _: datetime) -> bool:
        used.append(nonce)
        return True

    states = StateTokens("a secret", use_up, FixedClock())
    state = states.issue(LOGIN)
    other = {"provider": "facebook"}.get(name, "other")
    with pytest.raises(LoginRefused):
        states.redeem(state, Login(**{**vars(LOGIN), name: other}))
    assert used == []
    states.redeem(state, LOGIN)


def test_a_state_cannot_be_signed_with_nothing() -> None:
    """Without a secret there are no logins, instead of logins that anybody can forge."""
    with pytest.raises(ValueError, match="secret"):
        StateTokens("", always, FixedClock())


# --- at Shopify -------------------------------------------------------------------------


def test_a_state_is_good_once_at_shopify(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """The same browser cannot finish the same login again, not even with a new code."""
    callback = merchant.begin_shop(shop)
    mark = merchant.cookies["login"]
    connected(merchant.get(callback))
    with merchant.with_cookies(login=mark) as same:
        again = signed_callback(lasting_bot, shop, value_in(callback, "state"))
        refused(same.get(again), 403, "login_refused")
        refused(same.get(callback), 403, "login_refused")


def test_a_state_is_bound_to_the_browser(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """Who steals the address of a callback cannot finish the login, and cannot spoil it."""
    callback = merchant.begin_shop(shop)
    with merchant.with_cookies() as thief:
        refused(thief.get(callback), 403, "login_refused")
        thief.leave_for_shop(new_shop(lasting_bot))
        refused(thief.get(callback), 403, "login_refused")
        for mark in ("", "x" * 43, "ä", merchant.cookies["login"][:-1]):
            refused(
                thief.get(callback, headers=[(b"cookie", f"login={mark}".encode())]),
                403,
                "login_refused",
            )
    connected(merchant.get(callback))


def test_a_state_is_bound_to_the_shop(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """A state for one shop does not connect another one, though Shopify signed for that."""
    state = value_in(merchant.begin_shop(shop), "state")
    other = new_shop(lasting_bot)
    refused(merchant.get(signed_callback(lasting_bot, other, state)), 403, "login_refused")
    assert lasting_bot.shopify.token(other) is None, "its code was exchanged"
    connected(merchant.get(signed_callback(lasting_bot, shop, state)))


def test_a_state_is_bound_to_the_session(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """A login that one user began is not finished in the session of another, or in none."""
    merchant.connect_shop(shop)
    other_shop = new_shop(lasting_bot)
    callback = merchant.begin_shop(other_shop)
    mark, session = merchant.cookies["login"], merchant.cookies["session"]
    with Merchant(lasting_bot.app.url) as stranger:
        stranger.connect_shop(new_shop(lasting_bot))
        stranger.set_cookie("login", mark)
        refused(stranger.get(callback), 403, "login_refused")
    with merchant.with_cookies(login=mark) as without:
        refused(without.get(callback), 403, "login_refused")
    with merchant.with_cookies(login=mark, session=session) as same:
        connected(same.get(callback))


def test_a_state_is_bound_to_the_platform(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """A state of Facebook is none at Shopify, and the other way round."""
    merchant.connect_shop(shop)
    page_state = value_in(merchant.leave_for_facebook(), "state")
    shop_state = value_in(merchant.leave_for_shop(shop), "state")
    refused(merchant.get(signed_callback(lasting_bot, shop, page_state)), 403, "login_refused")
    asked = {"state": shop_state, "code": "AQ"}
    refused(merchant.get("/facebook/callback", params=asked), 403, "login_refused")


@pytest.mark.parametrize("state", [None, "", "ä", "x" * 3000, "a.b.c", "\x00", "%00"])
def test_an_unknown_state_is_refused(
    lasting_bot: Bot, merchant: Merchant, shop: str, state: str | None
) -> None:
    """Shopify's signature alone does not finish a login that nobody began here."""
    merchant.leave_for_shop(shop)
    without = {"without": ["state"]} if state is None else {}
    refused(
        merchant.get(signed_callback(lasting_bot, shop, state or "", **without)),
        403,
        "login_refused",
    )
    assert lasting_bot.shopify.token(shop) is None


def test_two_logins_of_one_browser_can_both_be_finished(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A second tab does not break the first one, as long as neither is finished."""
    first = merchant.begin_shop(shop)
    mark = merchant.cookies["login"]
    merchant.begin_shop(new_shop(lasting_bot))
    assert merchant.cookies["login"] == mark
    connected(merchant.get(first))


# --- at Facebook ------------------------------------------------------------------------


def test_facebook_needs_a_session(lasting_bot: Bot, merchant: Merchant) -> None:
    """Without one there is no login to begin, and a made-up session is none."""
    refused(merchant.get("/facebook/login"), 403, "session_missing")
    for session in ("x" * 43, "ä", "' OR 1=1 --", "x" * 5000):
        answer = merchant.get(
            "/facebook/login", headers=[(b"cookie", f"session={session}".encode())]
        )
        refused(answer, 403, "session_missing")
        assert "location" not in answer.headers


def test_a_state_is_good_once_at_facebook(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """The same browser cannot finish the same login again, not even with a new code."""
    lasting_bot.graph.user_grants([lasting_bot.graph.add_page()])
    merchant.connect_shop(shop)
    callback = merchant.begin_pages()
    mark = merchant.cookies["login"]
    connected(merchant.get(callback))
    merchant.set_cookie("login", mark)
    fresh = value_in(merchant.begin_pages(), "code")
    merchant.set_cookie("login", mark)
    again = callback.replace(value_in(callback, "code"), fresh)
    refused(merchant.get(again), 403, "login_refused")


def test_a_facebook_state_is_bound_to_browser_and_session(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """It takes both cookies of the browser that began; only then are the Pages connected."""
    page = lasting_bot.graph.add_page()
    lasting_bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    callback = merchant.begin_pages()
    mark, session = merchant.cookies["login"], merchant.cookies["session"]
    with Merchant(lasting_bot.app.url) as stranger:
        stranger.connect_shop(new_shop(lasting_bot))
        theirs = stranger.cookies["session"]
    for cookies in (
        {},
        {"session": session},
        {"login": mark},
        {"login": mark, "session": theirs},
        {"login": "x" * 43, "session": session},
    ):
        with merchant.with_cookies(**cookies) as thief:
            refused(thief.get(callback), 403, "login_refused")
    assert lasting_bot.graph.page_token(page) is None, "the code was exchanged"
    connected(merchant.get(callback))


def test_the_state_counts_when_facebook_answers_with_an_error(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A refusal is told only to the browser that began; elsewhere it is a forged callback."""
    merchant.connect_shop(shop)
    lasting_bot.graph.user_refuses()
    callback = merchant.begin_pages()
    assert "error=access_denied" in callback
    with merchant.with_cookies() as thief:
        refused(thief.get(callback), 403, "login_refused")
    forged = {"error": "access_denied", "error_reason": "user_denied", "state": "forged"}
    refused(merchant.get("/facebook/callback", params=forged), 403, "login_refused")
    refused(merchant.get(callback), 403, "login_denied")
    refused(merchant.get(callback), 403, "login_refused")


def test_a_doubled_parameter_is_refused_at_facebook(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A callback with two codes or two states is nobody's, whichever is the right one."""
    lasting_bot.graph.user_grants([lasting_bot.graph.add_page()])
    merchant.connect_shop(shop)
    callback = merchant.begin_pages()
    state = value_in(callback, "state")
    for more in ("&code=other", "&state=other", f"&state={state}"):
        refused(merchant.get(callback + more), 403, "login_refused")
    connected(merchant.get(callback))


# --- several processes ------------------------------------------------------------------


def test_a_state_is_good_once_across_processes_and_restarts(
    lasting_bot: Bot, tmp_path: Path, shop: str
) -> None:
    """Of callbacks that reach two workers at the same time one goes through, for good."""
    installation = Installation(tmp_path, lasting_bot.installation.settings)
    app = AppProcess.start(installation, workers=2)
    try:
        with Merchant(app.url) as merchant, ThreadPoolExecutor(8) as threads:
            state = value_in(merchant.leave_for_shop(shop), "state")
            cookies = merchant.cookies
            callbacks = [signed_callback(lasting_bot, shop, state) for _ in range(8)]

            def finish(callback: str) -> httpx2.Response:
                with Merchant(app.url) as one:
                    one.set_cookie("login", cookies["login"])
                    return one.get(callback)

            statuses = sorted(found.status_code for found in threads.map(finish, callbacks))
            assert statuses == [303, *[403] * 7]
        app.stop()
        app = AppProcess.start(installation, port=app.port)
        refused(finish(signed_callback(lasting_bot, shop, state)), 403, "login_refused")
    finally:
        app.stop()
    assert STATE_TOKEN_SECRET not in app.output()
