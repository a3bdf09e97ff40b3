"""Tokens go to the platforms alone, and what comes from there is not believed blindly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from facebook_integration.graph import Graph
from facebook_integration.settings import FacebookSettings
from shared.clock import SystemClock
from shared.merchants.errors import PlatformError, PlatformUnreachable, TokenRefused
from shared.merchants.http_client import Outbound
from tests.support.bot import Bot
from tests.support.listener import Listener
from tests.support.merchant import Merchant, refused
from tests.support.s3_server import S3Server

SETTINGS = FacebookSettings(
    app_id="100200300",
    app_secret="an app secret",
    redirect_uri="https://bot.example/facebook/callback",
    webhook_address="https://bot.example/facebook/webhook",
    verify_token="a verify token",
    graph_url="https://graph.example",
    dialog_url="https://www.example",
    version="v26.0",
    config_id="",
)
FACTS = {"app_id": SETTINGS.app_id, "user_id": "77", "scopes": ["x"], "is_valid": True}


@pytest.fixture
def receiver() -> Iterator[Listener]:
    """A Graph API that answers what a test wants."""
    with Listener() as running:
        yield running


@pytest.fixture
def graph(receiver: Listener) -> Iterator[Graph]:
    """Our side of it."""
    with closing(Outbound()) as outbound:
        yield Graph(replace(SETTINGS, graph_url=receiver.url), outbound, SystemClock())


# --- whose token it is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"app_id": "100200301"},
        {"app_id": ""},
        {"app_id": None},
        {"is_valid": False},
        {"is_valid": "true"},
        {"user_id": "../x"},
        {"user_id": ""},
        {"user_id": None},
    ],
    ids=repr,
)
def test_a_token_of_another_app_is_refused(
    receiver: Listener, graph: Graph, wrong: dict[str, Any]
) -> None:
    """Meta's word counts, of app, validity and user, and not that somebody handed it over."""
    receiver.answer = json.dumps({"data": FACTS}).encode()
    assert graph.inspect("EAA").user_id == "77"
    receiver.answer = json.dumps({"data": {**FACTS, **wrong}}).encode()
    with pytest.raises(TokenRefused):
        graph.inspect("EAA")


def test_a_page_without_a_proper_id_is_left_out(receiver: Listener, graph: Graph) -> None:
    """Ids of Pages become parts of keys and addresses."""
    listed = [
        {"id": page, "name": "A", "access_token": "EAA"} for page in ("7", "../8", "me", "9/x", "")
    ]
    receiver.answer = json.dumps({"data": listed}).encode()
    assert [page.id for page in graph.pages("EAA")] == ["7"]


# --- where a request goes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "following",
    [
        "{evil}/v26.0/me/accounts?after=1",
        "{url}.evil.example/v26.0/me/accounts",
        "{url}@127.0.0.1:{evil_port}/v26.0/me/accounts",
        "//127.0.0.1:{evil_port}/v26.0/me/accounts",
        "{url}/v25.0/me/accounts",
        "{url}/other",
        "/v26.0/me/accounts",
        "",
        7,
        ["{url}/v26.0/me/accounts"],
    ],
)
def test_a_next_page_elsewhere_is_not_asked_for(
    receiver: Listener, graph: Graph, following: object
) -> None:
    """Only what begins with the address of the Graph API is followed; no token goes elsewhere."""
    with Listener() as evil:
        if isinstance(following, str):
            there = f"http://127.0.0.1:{evil.port}"
            following = following.format(url=receiver.url, evil=there, evil_port=evil.port)
        receiver.answer = json.dumps({"data": [], "paging": {"next": following}}).encode()
        with pytest.raises(PlatformError):
            graph.pages("EAA")
        assert len(receiver.heard) == 1
        assert evil.heard == []


def test_a_list_that_leads_elsewhere_connects_nothing(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """In the whole login: a refusal, no request at the other host, and no Page."""
    pages = [lasting_bot.graph.add_page() for _ in range(2)]
    lasting_bot.graph.user_grants(pages)
    merchant.connect_shop(shop)
    with Listener() as evil:
        lasting_bot.graph.paging(size=1, next_host=f"http://127.0.0.1:{evil.port}")
        try:
            refused(merchant.get(merchant.begin_pages()), 502, "platform_error")
        finally:
            lasting_bot.graph.paging()
        assert evil.heard == []
    assert merchant.front()["pages"] == []


@pytest.mark.parametrize("edge", ["oauth", "debug_token", "accounts"])
def test_a_redirect_of_the_graph_api_is_not_followed(
    lasting_bot: Bot, merchant: Merchant, shop: str, edge: str
) -> None:
    """It would carry code, secret or token to wherever it leads."""
    lasting_bot.graph.user_grants([lasting_bot.graph.add_page()])
    merchant.connect_shop(shop)
    with Listener() as evil:
        to = f"http://127.0.0.1:{evil.port}/"
        lasting_bot.graph.redirect(edge, to, times=2)
        refused(merchant.get(merchant.begin_pages()), 502, "platform_unreachable")
        assert evil.heard == []


def test_a_redirect_of_a_shop_is_not_followed(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """It would carry code and secret to wherever it leads."""
    with Listener() as evil:
        to = f"http://127.0.0.1:{evil.port}/"
        lasting_bot.shopify.redirect("access_token", to, times=2)
        refused(merchant.get(merchant.begin_shop(shop)), 502, "platform_unreachable")
        assert evil.heard == []
    assert "session" not in merchant.cookies


def test_a_host_that_cannot_prove_its_name_gets_nothing(s3_tls_server: S3Server) -> None:
    """A certificate that no authority of this host signed ends the request."""
    url = f"{s3_tls_server.endpoint}/"
    with (
        closing(Outbound()) as outbound,
        pytest.raises(PlatformUnreachable, match="ConnectError") as caught,
    ):
        outbound.send("GET", url, params={"access_token": "EAA-secret"})
    assert url.startswith("https://")
    assert "EAA-secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
