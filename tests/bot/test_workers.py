"""Several workers: all take webhooks, one works them off and polls, and another takes over."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.connected_bot import ConnectedBot, statuses
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_two_workers(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, bucket: str
) -> None:
    """Every webhook is worked once whoever took it; when the one that polls dies, it goes on."""
    with ConnectedBot.started(
        tmp_path, graph, shopify, s3_server.settings(bucket), workers=2, BACKUP_CHANGE_DELAY="0"
    ) as bot:
        page, customer = bot.pages[0], bot.customer()

        def say(first: int) -> None:
            """Ten messages, a POST each, all of them twice."""
            events = [
                graph.customer_says(
                    page, customer, f"{number}", NOON + timedelta(seconds=number), deliver=False
                ).event
                for number in range(first, first + 10)
            ]
            assert set(statuses(graph.send_webhook(events, one_post=False, copies=2))) == {200}

        def polls() -> int:
            return bot.log().count(": polled ")

        def leader() -> int:
            with bot.bot.app.client() as admin:
                owner = admin.get("/admin/backups").json()["schedule"]["owner"]
            return int(owner["pid"]) if owner else 0

        # Both are at work.
        say(0)
        bot.settle()
        assert bot.texts(page, customer) == [f"{number}" for number in range(10)]
        before = polls()
        graph.clear_calls()
        graph.hang("conversations", 1.5)  # a second one would have begun meanwhile
        bot.bot.poll()
        assert polls() == before + 1
        assert len(graph.calls("subscribed_apps")) == len(bot.pages)

        # The leader dies.
        dead = leader()
        assert dead
        os.kill(dead, signal.SIGKILL)
        eventually(lambda: leader() not in (0, dead), "another leader")
        say(10)
        graph.customer_says(page, customer, "20", NOON + timedelta(seconds=20), deliver=False)
        bot.bot.poll()
        bot.settle()
        assert bot.texts(page, customer) == [f"{number}" for number in range(21)]
        assert set(bot.states().values()) == {"connected"}
