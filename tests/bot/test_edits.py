"""A customer's edits change what is stored, and who answers a customer is noted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[ConnectedBot]:
    """One for all tests here."""
    folder: Path = tmp_path_factory.mktemp("edits")
    with ConnectedBot.started(folder, graph, shopify, s3_server.settings_of_new_bucket()) as found:
        yield found


def test_the_last_edit_of_a_message_is_stored(bot: ConnectedBot, graph: FakeGraph) -> None:
    """By webhook; the earlier one, which comes after it, and a polling do not undo it."""
    page, customer = bot.pages[0], bot.customer()
    said = graph.customer_says(page, customer, "Grüezi", NOON)
    first, second = (
        graph.customer_edits(
            page, customer, said.mid, text, NOON + timedelta(minutes=minutes), deliver=False
        )
        for minutes, text in ((1, "Grüezi!"), (2, "Salü"))
    )
    graph.send_webhook([second])
    bot.settle()
    assert bot.texts(page, customer) == ["Salü"]

    graph.send_webhook([first])
    bot.settle()
    bot.bot.poll()

    assert bot.texts(page, customer) == ["Salü"]
    (event,) = bot.talk(page, customer)
    assert event["message_edit"]["num_edit"] == 2
    assert event["timestamp"] == said.event["timestamp"]


def test_a_handover_and_what_follows_it_is_stored(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Another app answers the customer; what is said there comes as `standby`, and is stored."""
    page, customer = bot.pages[1], bot.customer()
    graph.customer_says(page, customer, "Grüezi", NOON)
    graph.hand_over(page, customer, NOON + timedelta(minutes=1))
    graph.customer_says(page, customer, "Ein Mensch?", NOON + timedelta(minutes=2))
    graph.hand_over(page, customer, NOON + timedelta(minutes=3), back=True)
    graph.customer_says(page, customer, "Danke", NOON + timedelta(minutes=4))
    bot.settle()

    told = [
        event["message"]["text"] if "message" in event else sorted(event)[0]
        for event in bot.talk(page, customer)
    ]

    assert told == ["Grüezi", "pass_thread_control", "Ein Mensch?", "recipient", "Danke"]
    assert "take_thread_control" in bot.talk(page, customer)[3]
