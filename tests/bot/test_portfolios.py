"""Pages that a Business Portfolio holds are connected, whichever way the person chose them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from facebook_integration.granted import BUSINESS_SCOPE
from facebook_integration.graph import SCOPES
from tests.support.bot import SHOP, Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.merchant import Merchant, refused, value_in
from tests.support.s3_server import S3Server

CONFIG = "990011"


@pytest.fixture(scope="module")
def bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[Bot]:
    """One with a configuration of Facebook Login for Business."""
    folder: Path = tmp_path_factory.mktemp("portfolios")
    bucket = s3_server.settings_of_new_bucket()
    with Bot.started(folder, graph, shopify, bucket, FACEBOOK_CONFIG_ID=CONFIG) as running:
        graph.add_config(CONFIG, *SCOPES, BUSINESS_SCOPE)
        yield running


@pytest.fixture
def merchant(bot: Bot) -> Iterator[Merchant]:
    """Somebody new at Facebook, who has connected the shop."""
    bot.graph.become()
    bot.graph.user_grants(None)
    with Merchant(bot.app.url) as browser:
        browser.connect_shop(SHOP)
        yield browser


def pages(merchant: Merchant) -> dict[str, str]:
    """The state of each Page that the merchant sees."""
    return {one["account"]: one["state"] for one in merchant.front()["pages"]}


def test_the_dialog_is_given_the_configuration(merchant: Merchant) -> None:
    """In place of the permissions: Facebook refuses both at once."""
    address = merchant.leave_for_facebook()

    assert value_in(address, "config_id") == CONFIG
    assert "scope=" not in address


@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize("client", [True, False])
def test_pages_of_a_portfolio_are_connected(
    bot: Bot, merchant: Merchant, chosen: bool, client: bool
) -> None:
    """Ticked one by one, or "all current and future": `me/accounts` has none of them."""
    business = bot.graph.add_business()
    page = bot.graph.add_page(business=business, client=client)
    if chosen:
        bot.graph.user_grants([page])

    merchant.connect_pages()

    assert pages(merchant)[page] == "connected"
    bot.poll()
    assert pages(merchant)[page] == "connected"
    assert "messages" in (bot.graph.subscribed_fields(page) or [])


def test_a_renewed_token_of_a_portfolio_page(bot: Bot, merchant: Merchant) -> None:
    """The Page itself is asked for it, as no list of accounts has it."""
    page = bot.graph.add_page(business=bot.graph.add_business())
    bot.graph.user_grants([page])
    merchant.connect_pages()
    bot.poll()
    bot.graph.rotate_page_token(page)

    bot.poll()

    assert pages(merchant)[page] == "connected"


def test_a_page_without_a_token_does_not_fail_the_login(bot: Bot, merchant: Merchant) -> None:
    """The person has no task on it; the other one is connected."""
    good, withheld = bot.graph.add_page("Good"), bot.graph.add_page("Withheld", withheld=True)
    bot.graph.user_grants([good, withheld])

    merchant.connect_pages()

    assert pages(merchant)[good] == "connected"
    assert withheld not in pages(merchant)


def test_pages_without_any_token_are_named(bot: Bot, merchant: Merchant) -> None:
    """With the remedy: nothing is connected by such a login."""
    bot.graph.user_grants([bot.graph.add_page("Withheld", withheld=True)])

    told = refused(merchant.get(merchant.begin_pages()), 403, "login_denied")

    assert "Withheld" in told
    assert "full control" in told
