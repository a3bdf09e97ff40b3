"""The front page: the next step, in the order of the platforms, for programs and for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app import PLATFORMS
from shared.merchants.front_page import FrontPage
from shared.merchants.marks import Reconnect
from shared.merchants.platform import Connection
from tests.app.third_platform.acme import ACME
from tests.support.clock import MIDNIGHT

SHOP = Connection("shopify", "a.myshopify.com", None)
PAGE = Connection("facebook", "17", None)
STORE = Connection("acme", "store-1", None)
LAPSED = Connection("acme", "store-<2>", Reconnect("refused & gone", MIDNIGHT))


@pytest.mark.parametrize(
    ("connections", "ready", "following"),
    [
        ([], False, "Set up the Shopify app: "),
        ([SHOP, PAGE], False, "Set up the Shopify app: "),
        ([], True, "Connect a shop: "),
        ([PAGE, LAPSED], True, "Connect a shop: "),
        ([SHOP], True, "Connect Facebook Pages: "),
        ([SHOP, LAPSED], True, "Connect again: store-<2>."),
        ([SHOP, PAGE], True, "Connect an Acme store: "),
        ([SHOP, PAGE, STORE], True, "Nothing: "),
    ],
)
def test_the_next_step(connections: list[Connection], ready: bool, following: str) -> None:
    """The first platform comes first; what is broken comes before what is not connected."""
    front = FrontPage((*PLATFORMS, ACME))

    document = front.describe(connections, session=True, ready=ready)

    assert document["next"].startswith(following)
    assert list(document) == ["session", "shops", "pages", "stores", "next"]
    front.model.model_validate(document)


def test_the_first_in_the_list_is_where_a_merchant_begins() -> None:
    """The order is the app's: no platform is the first by its name."""
    front = FrontPage((ACME, *PLATFORMS))

    assert front.describe([SHOP], session=True)["next"] == ACME.front.connect
    assert ACME.front.begin in bytes(front.page([SHOP]).body).decode()


def test_a_page_has_every_platform_and_escapes_what_it_shows() -> None:
    """A section for each, with its way to connect more, and what has to be connected again."""
    named = replace(ACME, front=replace(ACME.front, title="Acme & co"))

    text = bytes(FrontPage((*PLATFORMS, named)).page([SHOP, LAPSED]).body).decode()

    titles = ["<h2>Shops</h2>", "<h2>Facebook Pages</h2>", "<h2>Acme &amp; co</h2>"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "<h2>Facebook Pages</h2><p>None yet.</p>" in text
    assert "store-&lt;2&gt;" in text
    assert "refused &amp; gone" in text
    assert all(platform.front.form in text for platform in (*PLATFORMS, named))
