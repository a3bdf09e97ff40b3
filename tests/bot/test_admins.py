"""A Page has several admins, and a shop several owners: each grants, and takes, what is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.bot.conftest import inbox_is_done, new_shop
from tests.support.bot import Bot
from tests.support.merchant import Merchant, refused

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CUSTOMER = "7009001001"


@pytest.fixture
def bot(lasting_bot: Bot) -> Iterator[Bot]:
    """One whose address the stand-in knows for people who leave."""
    url = lasting_bot.app.url
    lasting_bot.graph.register(
        deauthorize=f"{url}/facebook/deauthorize", deletion=f"{url}/facebook/data-deletion"
    )
    yield lasting_bot
    lasting_bot.graph.become()


def state(merchant: Merchant, page: str) -> str | None:
    """Of a Page, as the merchant sees it."""
    states = {one["account"]: one["state"] for one in merchant.front()["pages"]}
    return states.get(page)


def talks(bot: Bot, page: str) -> list[str]:
    """The stored conversations of a Page."""
    return [key for key in bot.keys("users/") if f"/facebook/{page}/conversations/" in key]


def granted(bot: Bot, merchant: Merchant, shop: str, people: int) -> tuple[str, list[str]]:
    """A Page that so many people granted for one account, in order; and who they are."""
    page = bot.graph.add_page()
    bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    ids = []
    for _ in range(people):
        ids.append(bot.graph.become())
        merchant.connect_pages()
    inbox_is_done(bot)
    bot.graph.customer_says(page, CUSTOMER, "Grüezi", NOON)
    inbox_is_done(bot)
    return page, ids


@pytest.mark.parametrize("leaving", [0, 1])
def test_who_leaves_takes_only_what_they_granted(
    bot: Bot, merchant: Merchant, shop: str, leaving: int
) -> None:
    """The token of the other one is used, whether it was the one in use or not."""
    page, people = granted(bot, merchant, shop, 2)
    bot.graph.become(people[leaving])
    bot.graph.revoke_user()

    bot.graph.deauthorize(user_id=people[leaving])
    inbox_is_done(bot)

    assert state(merchant, page) == "connected"
    bot.poll()
    assert state(merchant, page) == "connected"
    bot.graph.become(people[1 - leaving])
    bot.graph.revoke_user()
    bot.graph.deauthorize(user_id=people[1 - leaving])
    inbox_is_done(bot)
    assert state(merchant, page) == "reconnect"
    assert len(talks(bot, page)) == 1


def test_who_leaves_while_meta_is_away_takes_their_token_at_once(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """And the Page goes on with the other one's when Meta is back."""
    page, people = granted(bot, merchant, shop, 2)
    token = bot.graph.page_token(page)
    bot.graph.become(people[1])
    bot.graph.revoke_user()
    bot.graph.answer_status("page", 503, times=3)

    bot.graph.deauthorize(user_id=people[1])
    inbox_is_done(bot)
    bot.graph.clear_faults()
    bot.graph.clear_calls()
    bot.poll()

    assert state(merchant, page) == "connected"
    assert token not in {one.token for one in bot.graph.calls() if one.subject == page}


def test_a_deletion_of_one_person_keeps_what_is_said_to_the_page(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """As long as somebody else granted it; the last one's deletion takes all."""
    page, people = granted(bot, merchant, shop, 2)

    bot.graph.request_deletion(user_id=people[0])
    inbox_is_done(bot)
    assert len(talks(bot, page)) == 1
    assert state(merchant, page) == "connected"

    bot.graph.request_deletion(user_id=people[1])
    inbox_is_done(bot)
    assert talks(bot, page) == []
    assert state(merchant, page) is None


def test_an_expired_grantor_does_not_end_the_search(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """Whoever comes first: the token of any other one gives a new one of the Page."""
    page, people = granted(bot, merchant, shop, 3)
    for person in sorted(people)[:2]:
        bot.graph.become(person)
        bot.graph.expire_user_tokens()
    bot.graph.rotate_page_token(page)

    bot.poll()

    assert state(merchant, page) == "connected"


def test_a_role_that_one_person_lost_is_made_up_by_another(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """100/33 of one person's token says nothing of the other's."""
    page, _ = granted(bot, merchant, shop, 2)
    bot.graph.fail("subscribed_apps", 100, subcode=33, subject=page)

    bot.poll()

    assert state(merchant, page) == "connected"
    assert len([one for one in bot.graph.calls("subscribed_apps") if one.subject == page]) >= 2


def test_a_second_merchant_of_a_page_is_told_whose_it_is(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """And what to do: "None yet" said neither. The first one's token stays in use."""
    page, people = granted(bot, merchant, shop, 1)
    second = bot.graph.become()
    with Merchant(bot.app.url) as other:
        other.connect_shop(new_shop(bot))
        other.connect_pages()

        (told,) = other.front()["pages"]
        assert told["account"] == page
        assert told["state"] == "reconnect"
        assert "another account" in told["reason"]
        assert "deletion" in told["reason"]
        assert state(merchant, page) == "connected"

        # The second one leaves: nothing of the first one's is touched.
        bot.graph.revoke_user()
        bot.graph.deauthorize(user_id=second)
        inbox_is_done(bot)
        assert state(merchant, page) == "connected"
        bot.poll()
        assert state(merchant, page) == "connected"
        assert other.front()["pages"] == []

        # What it says to do does it.
        other.connect_pages()
        bot.graph.request_deletion(user_id=people[0])
        inbox_is_done(bot)
        other.connect_pages()
        assert state(other, page) == "connected"
        assert state(merchant, page) is None


def test_a_shop_of_somebody_else_gives_no_session_of_theirs(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A browser with a session of another account keeps that, and is told what to do."""
    merchant.connect_shop(shop)
    with Merchant(bot.app.url) as other:
        own = new_shop(bot)
        other.connect_shop(own)
        bot.shopify.clear_calls()

        told = refused(other.get(other.begin_shop(shop)), 403, "login_refused")

        assert "another account" in told
        assert "private window" in told
        assert [one["account"] for one in other.front()["shops"]] == [own]
        assert bot.shopify.calls("access_token") == []


def test_a_browser_without_a_session_comes_back_to_its_account(
    bot: Bot, merchant: Merchant, shop: str
) -> None:
    """A session ends after an hour: the shop is the way back."""
    merchant.connect_shop(shop)
    with Merchant(bot.app.url) as other:
        other.connect_shop(shop)

        assert [one["account"] for one in other.front()["shops"]] == [shop]
