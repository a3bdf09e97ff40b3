"""Callbacks of both platforms: what is checked before anything is asked for or stored."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.bot import Bot
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.merchant import Merchant, connected, here, refused, value_in

EVIL = "evil.example"


def stored_of(bot: Bot, account: str) -> list[str]:
    """The keys of `tokens.db` that name an account."""
    with closing(sqlite3.connect(bot.installation.tokens_path)) as connection:
        keys = [row[0] for row in connection.execute("SELECT key FROM tokens")]
    return [key for key in keys if account.replace(".", "_") in key]


# --- Shopify's signature and the rest of its callback -------------------------------------


@pytest.mark.parametrize(
    "defects",
    [
        {"hmac_is": "wrong"},
        {"hmac_is": "missing"},
        {"hmac_is": "malformed"},
        {"hmac_is": "of-other-query"},
        {"age_seconds": 360},
        {"age_seconds": -360},
        {"timestamp": ""},
        {"timestamp": "soon"},
        {"timestamp": "\u00b2"},
        {"timestamp": "\uff11\uff17\uff19\uff15\uff13\uff10\uff10\uff10\uff10\uff10"},
        {"timestamp": "9" * 5000},
        {"timestamp": "-1"},
        {"without": ["timestamp"]},
        {"without": ["shop"]},
        {"shop_in_query": "another-shop.myshopify.com"},
        {"shop_in_query": "x.myshopify.com.evil.com"},
        {"shop_in_query": "evil.com/x.myshopify.com"},
        {"shop_in_query": "evil.com#.myshopify.com"},
        {"shop_in_query": "evil.com?.myshopify.com"},
        {"shop_in_query": "a@evil.com:80"},
        {"shop_in_query": "127.0.0.1"},
        {"shop_in_query": "../x.myshopify.com"},
        {"duplicate": ("shop", "another-shop.myshopify.com")},
        {"duplicate": ("code", "other")},
        {"duplicate": ("state", "other")},
        {"duplicate": ("hmac", "other")},
    ],
    ids=str,
)
def test_a_wrong_callback_of_shopify_is_refused(
    lasting_bot: Bot, merchant: Merchant, shop: str, defects: dict[str, Any]
) -> None:
    """All but the defect is right, signature included; no code is exchanged, no token stored."""
    state = value_in(merchant.leave_for_shop(shop), "state")
    answer = merchant.get(here(lasting_bot.shopify.callback_url(shop, state, **defects)))
    refused(answer, 403, "login_refused")
    exchanged = [one.subject for one in lasting_bot.shopify.calls("access_token")]
    assert shop not in exchanged
    assert "another-shop.myshopify.com" not in exchanged
    assert stored_of(lasting_bot, shop) == []
    connected(merchant.get(here(lasting_bot.shopify.callback_url(shop, state))))


@pytest.mark.parametrize("name", ["shop", "code", "state", "timestamp", "hmac"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_parameter_that_comes_twice_is_refused(
    lasting_bot: Bot, merchant: Merchant, shop: str, name: str, place: str
) -> None:
    """Even where the one that counts is the signed one: another program may read the other."""
    state = value_in(merchant.leave_for_shop(shop), "state")
    path, _, query = here(lasting_bot.shopify.callback_url(shop, state)).partition("?")
    for value in ("other.myshopify.com", value_in(f"?{query}", name)):
        more = urlencode({name: value})
        doubled = f"{more}&{query}" if place == "before" else f"{query}&{more}"
        refused(merchant.get(f"{path}?{doubled}"), 403, "login_refused")
    connected(merchant.get(f"{path}?{query}"))


@pytest.mark.parametrize("shape", ["upper", "doubled", "spaced", "prefix", "bytes", "long"])
def test_only_the_exact_hmac_is_taken(
    lasting_bot: Bot, merchant: Merchant, shop: str, shape: str
) -> None:
    """A signature that is nearly right, or no text at all, is refused and never a fault."""
    state = value_in(merchant.leave_for_shop(shop), "state")
    url = here(lasting_bot.shopify.callback_url(shop, state))
    right = value_in(url, "hmac")
    shapes = {
        "upper": right.upper(),
        "doubled": f"{right}&hmac={right}",
        "spaced": f"%20{right}",
        "prefix": right[:-1],
        "bytes": "%ff%fe%ed%a0%80%00",
        "long": "a" * 30_000,
    }
    refused(merchant.get(url.replace(right, shapes[shape])), 403, "login_refused")
    connected(merchant.get(url))


def test_parameters_cannot_be_moved_into_one_another(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A signature over `a=1&b=2` is none of one parameter whose value is `1&b=2`."""
    state = value_in(merchant.leave_for_shop(shop), "state")
    url = here(lasting_bot.shopify.callback_url(shop, state))
    names = ("code", "host", "shop", "state", "timestamp")
    values = {name: value_in(url, name) for name in names}
    code = f"{values['code']}&host={values.pop('host')}"
    merged = urlencode({**values, "code": code, "hmac": value_in(url, "hmac")})
    refused(merchant.get(f"/shopify/callback?{merged}"), 403, "login_refused")
    connected(merchant.get(url))


def test_a_signed_callback_without_a_code_connects_nothing(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A merchant who said no is told so, and the state is used up."""
    state = value_in(merchant.leave_for_shop(shop), "state")
    url = here(lasting_bot.shopify.callback_url(shop, state, without=["code"]))
    refused(merchant.get(url), 403, "login_denied")
    refused(merchant.get(url), 403, "login_refused")
    assert stored_of(lasting_bot, shop) == []


# --- what was granted ---------------------------------------------------------------------


@pytest.mark.parametrize("granted", ["", "read_orders", "read_products_later"])
def test_a_shop_that_grants_less_is_not_connected(
    lasting_bot: Bot, merchant: Merchant, shop: str, granted: str
) -> None:
    """The scope of the token is compared; a smaller one stores nothing and begins no session."""
    lasting_bot.shopify.configure(granted_scope=granted)
    try:
        answer = merchant.get(merchant.begin_shop(shop))
    finally:
        lasting_bot.shopify.configure(granted_scope=None)
    refused(answer, 403, "platform_permission")
    assert "session" not in merchant.cookies
    assert stored_of(lasting_bot, shop) == []
    assert lasting_bot.shopify.token(shop) is not None  # Shopify gave one, for less


@pytest.mark.parametrize(
    "scope",
    ["pages_show_list", "pages_manage_metadata", "pages_messaging", "pages_read_engagement"],
)
def test_pages_are_not_connected_with_fewer_scopes(
    lasting_bot: Bot, merchant: Merchant, shop: str, scope: str
) -> None:
    """Each of the four scopes is needed; without one nothing is stored of the Page."""
    page = lasting_bot.graph.add_page()
    lasting_bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    session = merchant.cookies["session"]
    lasting_bot.graph.user_declines(scope)
    try:
        answer = merchant.get(merchant.begin_pages())
    finally:
        lasting_bot.graph.user_declines()
    assert scope in refused(answer, 403, "platform_permission")
    assert merchant.cookies["session"] == session
    assert stored_of(lasting_bot, page) == []
    assert merchant.front()["pages"] == []


def test_a_user_who_grants_no_page_connects_none(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A Page that was not ticked is not connected."""
    ticked, other = lasting_bot.graph.add_page(), lasting_bot.graph.add_page()
    merchant.connect_shop(shop)
    lasting_bot.graph.user_grants([])
    refused(merchant.get(merchant.begin_pages()), 403, "login_denied")
    lasting_bot.graph.user_grants([ticked])
    merchant.connect_pages()
    assert [one["account"] for one in merchant.front()["pages"]] == [ticked]
    assert stored_of(lasting_bot, other) == []


def test_tokens_are_stored_encrypted(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """No token is readable in any file of the installation, nor is the key that opens them."""
    page = lasting_bot.graph.add_page()
    lasting_bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    merchant.connect_pages()
    issued = [*lasting_bot.graph.issued(), *lasting_bot.shopify.issued(), TOKEN_ENCRYPTION_KEY]
    assert lasting_bot.graph.page_token(page) in issued
    assert stored_of(lasting_bot, shop)
    for file in lasting_bot.installation.folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [one for one in issued if one.encode() in content], file


# --- where a login leads to ---------------------------------------------------------------

TARGETS = (
    f"//{EVIL}",
    f"https://{EVIL}/",
    f"/\\{EVIL}",
    f"%2F%2F{EVIL}",
    f"javascript:alert('{EVIL}')",
)
NAMES = ("next", "return_to", "redirect_uri", "redirect", "url", "continue", "host", "dialog_url")


def test_no_login_leads_where_the_request_says(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """Whatever target a request names, the platform and then the first page come next."""
    lasting_bot.graph.user_grants([lasting_bot.graph.add_page()])
    settings = lasting_bot.installation.settings
    for target in TARGETS:
        query = urlencode(dict.fromkeys(NAMES, target))
        headers = {"Referer": f"https://{EVIL}/", "X-Forwarded-Host": EVIL, "X-Original-URL": "/x"}
        answer = merchant.get(f"/shopify/{shop}/login?{query}", headers=headers)
        address = answer.headers["location"]
        assert address.startswith(f"{lasting_bot.shopify.url}/shops/{shop}/admin/oauth/authorize?")
        assert EVIL not in address
        assert value_in(address, "redirect_uri") == settings["SHOPIFY_REDIRECT_URI"]
    extra = {name: f"https://{EVIL}" for name in NAMES if name != "host"}
    callback = lasting_bot.shopify.callback_url(shop, value_in(address, "state"), extra=extra)
    connected(merchant.get(here(callback)))

    for target in TARGETS:
        query = urlencode(dict.fromkeys(NAMES, target))
        address = merchant.get(f"/facebook/login?{query}").headers["location"]
        assert address.startswith(f"{lasting_bot.graph.url}/dialog-host/")
        assert EVIL not in address
        assert value_in(address, "redirect_uri") == settings["FACEBOOK_REDIRECT_URI"]
    callback = merchant.agree(address) + "&" + urlencode(dict.fromkeys(NAMES, f"//{EVIL}"))
    connected(merchant.get(callback))


@pytest.mark.parametrize(
    "path",
    [
        "/shopify/login?shop=the-shop",
        "/shopify/the-shop/login",
        "/shopify/the-shop/login/",
        "/shopify/callback/?code=secret",
        "/facebook/callback/?code=secret",
        "/facebook/login/",
        "/admin/sync/",
        "/admin/backups/",
        "/admin/backups/status/",
        "/docs/",
        "/healthz/",
        f"//{EVIL}/",
        f"//{EVIL}/shopify/callback/",
        f"/%2F{EVIL}/",
        f"/\\{EVIL}/",
    ],
)
def test_no_redirect_repeats_the_host_of_the_request(merchant: Merchant, path: str) -> None:
    """A forged `Host` is in no answer: redirects are to a path of ours, or to a platform."""
    answer = merchant.get(path, headers={"Host": EVIL, "X-Forwarded-Host": EVIL})
    assert answer.status_code < 500
    address = answer.headers.get("location", "")
    assert EVIL not in address, address
    assert not address.startswith("//")


def test_the_shop_of_a_form_cannot_leave_this_host(merchant: Merchant) -> None:
    """What is typed as a shop becomes a path only when it is a shop's name."""
    answer = merchant.get("/shopify/login", params={"shop": "The-Shop.myshopify.com"})
    assert answer.headers["location"] == "/shopify/the-shop.myshopify.com/login"
    for shop in (
        f"//{EVIL}",
        f"/{EVIL}",
        f"https://{EVIL}",
        f"{EVIL}#",
        f"{EVIL}/.myshopify.com",
        f"x.myshopify.com.{EVIL}",
        "x.myshopify.com/",
        "x.myshopify.com\n",
        "x\r\nSet-Cookie: session=evil",
        "..",
        "../x",
        "..%2fx",
        "-x",
        "x" * 64,
        "",
        " ",
        "x.myshopify.com.myshopify.com",
        "\u212aaesehaus",  # the Kelvin sign, whose lower case is an ASCII k
        "käsehaus",
        "x\x00",
    ):
        answer = merchant.get("/shopify/login", params={"shop": shop})
        refused(answer, 404, "shop_invalid")
        assert "location" not in answer.headers


def test_a_login_is_for_shops_alone(merchant: Merchant) -> None:
    """No address is built from what is not the name of a shop, however it is written."""
    for path in (
        f"/shopify/{EVIL}/login",
        f"/shopify/{EVIL}%23/login",
        f"/shopify/x.myshopify.com.{EVIL}/login",
        "/shopify/x.myshopify.com%0a/login",
        "/shopify/x.myshopify.com%00/login",
        "/shopify/%E2%84%AAaesehaus/login",
        "/shopify/x%40evil/login",
        "/shopify/x%3A80/login",
        "/shopify/-x/login",
        "/shopify/%ff%fe/login",
    ):
        refused(merchant.get(path), 404, "shop_invalid")
    assert merchant.cookies == {}
    began = time.monotonic()
    assert merchant.get(f"/shopify/{'a-' * 15_000}/login").status_code == 404
    assert time.monotonic() - began < 2
