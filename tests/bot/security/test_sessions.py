"""Sessions and cookies: new ids, hashes only, an end, and one merchant apart from the other."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.bot.conftest import new_shop
from tests.support.app_process import AppProcess
from tests.support.bot import Bot
from tests.support.installation import Installation
from tests.support.merchant import Merchant, connected, here, refused, session_cookies, value_in
from tests.support.waiting import eventually


def attributes(cookie: str) -> set[str]:
    """What follows the value in a `Set-Cookie` header, in lower case, without an expiry."""
    parts = [part.strip().lower() for part in cookie.split(";")[1:]]
    return {part for part in parts if not part.startswith(("expires", "max-age"))}


def set_cookies(merchant: Merchant) -> list[str]:
    """All cookies that were set or deleted in a browser so far."""
    return [
        cookie
        for name in ("session", "login")
        for cookie in session_cookies(merchant.answers, name)
    ]


def rows(path: Path) -> dict[str, str]:
    """What is in `sessions.db`: id to user."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT session_id, uuid FROM sessions"))


def user_of(bot: Bot, merchant: Merchant) -> str:
    """The UUID of the user whose session a browser has, as `sessions.db` knows it."""
    hashed = hashlib.sha256(merchant.cookies["session"].encode()).hexdigest()
    return rows(bot.installation.sessions_path)[hashed]


# --- cookies ----------------------------------------------------------------------------


def test_cookies_are_for_this_browser_alone(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """Every cookie, also one that is deleted, is HttpOnly, Lax, and of this host only."""
    lasting_bot.graph.user_grants([lasting_bot.graph.add_page()])
    merchant.connect_shop(shop)
    merchant.connect_pages()
    cookies = set_cookies(merchant)
    assert len(cookies) == 6  # two logins: a mark set, a session set, the mark deleted
    for cookie in cookies:
        assert attributes(cookie) == {"httponly", "samesite=lax", "path=/"}, cookie
    assert {one.partition("=")[0] for one in cookies} == {"session", "login"}
    assert set(merchant.cookies) == {"session"}


def test_cookies_end(merchant: Merchant, shop: str) -> None:
    """A session's cookie lives for an hour, the mark of a login for ten minutes."""
    merchant.connect_shop(shop)
    (session,) = session_cookies(merchant.answers, "session")
    assert "max-age=3600" in session.lower()
    begun, ended = session_cookies(merchant.answers, "login")
    assert "max-age=600" in begun.lower()
    assert "max-age=0" in ended.lower()


@pytest.mark.parametrize(
    ("shopify", "facebook", "secure"),
    [
        ("https://bot.example", "http://127.0.0.1:5000", True),
        ("http://localhost:5000", "http://127.0.0.1:5000", False),
    ],
)
def test_cookies_go_over_https_alone(
    lasting_bot: Bot, tmp_path: Path, shop: str, shopify: str, facebook: str, secure: bool
) -> None:
    """Secure is off only where both logins come back to this very host."""
    settings = {
        **lasting_bot.installation.settings,
        "SHOPIFY_REDIRECT_URI": f"{shopify}/shopify/callback",
        "FACEBOOK_REDIRECT_URI": f"{facebook}/facebook/callback",
    }
    with (
        AppProcess.start(Installation(tmp_path, settings)) as app,
        Merchant(app.url) as merchant,
    ):
        state = value_in(merchant.leave_for_shop(shop), "state")
        (begun,) = session_cookies(merchant.answers, "login")
        mark = begun.partition(";")[0]
        callback = here(lasting_bot.shopify.callback_url(shop, state))
        connected(merchant.get(callback, headers={"cookie": mark}))
        cookies = set_cookies(merchant)
    assert len(cookies) == 3
    for cookie in cookies:
        assert ("secure" in attributes(cookie)) == secure, cookie


# --- session ids ------------------------------------------------------------------------


def test_a_login_begins_a_session_under_a_new_id(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """After each login the id is another one, and the one before opens nothing."""
    lasting_bot.graph.user_grants([lasting_bot.graph.add_page()])
    ids = []
    for begin in (
        f"/shopify/{shop}/login",
        "/facebook/login",
        f"/shopify/{new_shop(lasting_bot)}/login",
    ):
        connected(merchant.get(merchant.agree(merchant.leave(begin))))
        ids.append(merchant.cookies["session"])
    assert len(set(ids)) == 3
    assert merchant.front()["session"] is True
    for old in ids[:-1]:
        with merchant.with_cookies(session=old) as thief:
            assert thief.front() == {
                "session": False,
                "shops": [],
                "pages": [],
                "next": "Connect a shop: open /shopify/YOUR-SHOP/login in a browser.",
            }
            refused(thief.get("/facebook/login"), 403, "session_missing")


def test_an_id_that_the_browser_brings_is_never_taken_over(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """Whoever plants a cookie in a browser does not know its session after the login."""
    planted = "p" * 43
    merchant.set_cookie("session", planted)
    callback = merchant.begin_shop(shop)
    connected(merchant.get(callback))
    assert merchant.cookies["session"] != planted
    with merchant.with_cookies(session=planted) as thief:
        assert thief.front()["session"] is False


def test_a_failed_login_leaves_the_session_as_it_is(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A refused callback neither begins a session nor ends one."""
    with Merchant(lasting_bot.app.url) as stranger:
        refused(stranger.get(merchant.begin_shop(shop)), 403, "login_refused")
        assert stranger.cookies == {}
    connected(merchant.get(merchant.callbacks[-1]))
    session = merchant.cookies["session"]
    refused(merchant.get("/shopify/callback?state=x"), 403, "login_refused")
    assert merchant.cookies["session"] == session
    assert merchant.front()["session"] is True


def test_only_hashes_of_session_ids_are_stored(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """Who reads the database or a backup of it cannot take over a session."""
    merchant.connect_shop(shop)
    session = merchant.cookies["session"]
    path = lasting_bot.installation.sessions_path
    assert hashlib.sha256(session.encode()).hexdigest() in rows(path)
    folder = lasting_bot.installation.folder
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert path in files
    for file in files:
        assert session.encode() not in file.read_bytes(), file
    hashed = hashlib.sha256(session.encode()).hexdigest()
    for stolen in (hashed, hashed[:43]):
        with merchant.with_cookies(session=stolen) as thief:
            assert thief.front()["session"] is False


def test_sessions_expire(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """After an hour the session is over at the server, whatever the browser keeps."""
    merchant.connect_shop(shop)
    callback = merchant.begin_pages()
    path = lasting_bot.installation.sessions_path
    hashed = hashlib.sha256(merchant.cookies["session"].encode()).hexdigest()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE sessions SET created_at = created_at - 3600 WHERE session_id = ?", (hashed,)
        )
    assert merchant.front()["session"] is False
    refused(merchant.get("/facebook/login"), 403, "session_missing")
    refused(merchant.get(callback), 403, "login_refused")


# --- users ------------------------------------------------------------------------------


def test_a_merchant_sees_only_their_own(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """What one user connected is not shown in the session of another one."""
    page = lasting_bot.graph.add_page()
    lasting_bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    merchant.connect_pages()
    other_shop = new_shop(lasting_bot)
    with Merchant(lasting_bot.app.url) as other:
        other.connect_shop(other_shop)
        assert [one["account"] for one in other.front()["shops"]] == [other_shop]
        assert other.front()["pages"] == []
    assert [one["account"] for one in merchant.front()["shops"]] == [shop]
    assert [one["account"] for one in merchant.front()["pages"]] == [page]


def test_a_returning_shop_keeps_its_user(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """From another browser it is the same user again; a session of another user stays that."""
    merchant.connect_shop(shop)
    user = user_of(lasting_bot, merchant)
    with Merchant(lasting_bot.app.url) as elsewhere:
        elsewhere.connect_shop(shop)
        assert user_of(lasting_bot, elsewhere) == user
    with Merchant(lasting_bot.app.url) as other:
        other.connect_shop(new_shop(lasting_bot))
        refused(other.get(other.begin_shop(shop)), 403, "login_refused")
        assert user_of(lasting_bot, other) != user
    lasting_bot.shopify.uninstall(shop)
    eventually(
        lambda: merchant.front()["shops"][0]["state"] == "reconnect", "that it is uninstalled"
    )
    with Merchant(lasting_bot.app.url) as later:
        later.connect_shop(shop)
        assert user_of(lasting_bot, later) == user
        assert [one["state"] for one in later.front()["shops"]] == ["connected"]


def test_a_returning_page_keeps_its_user(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """Another session that connects the same Page does not get what is stored of it."""
    page = lasting_bot.graph.add_page()
    lasting_bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    merchant.connect_pages()
    user = user_of(lasting_bot, merchant)
    key = f"users/{user}/facebook/{page}/page_metadata.json"
    eventually(lambda: lasting_bot.document(key), "the Page's document")
    with Merchant(lasting_bot.app.url) as other:
        other.connect_shop(new_shop(lasting_bot))
        other.connect_pages()
        assert other.front()["pages"] == []
    merchant.connect_pages()
    assert user_of(lasting_bot, merchant) == user
    assert [one["account"] for one in merchant.front()["pages"]] == [page]
    stored = lasting_bot.keys()
    assert [one for one in stored if page in one] == [key]
