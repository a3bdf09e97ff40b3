"""A request to forget a shop is done whatever becomes of the inbox that it waits in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot, statuses
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.fault_proxy import FaultProxy, refuse
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually


@pytest.fixture
def store(s3_server: S3Server) -> Iterator[FaultProxy]:
    """What stands between the bot and its bucket."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


def test_a_redact_that_waits_in_a_lost_inbox_is_done(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, store: FaultProxy
) -> None:
    """Killed between the answer and the work, and its inbox.db lost: nothing of the shop stays."""
    bucket = store.settings(s3_server.settings_of_new_bucket())
    with ConnectedBot.started(tmp_path, graph, shopify, bucket, BACKUP_CHANGE_DELAY="0") as bot:
        folder = f"users/{bot.user}/shopify/"
        assert bot.bot.keys(folder) != []
        store.on(refuse(403, "AccessDenied"))
        sent = shopify.send_webhook(SHOP, "shop/redact")
        assert statuses(sent.deliveries) == [200]
        assert bot.waiting() == 1
        bot.bot.app.kill()
        for path in (tmp_path / "data").glob("inbox.db*"):
            path.unlink()
        store.lift()
        bot.bot.kill_and_start()

        eventually(lambda: bot.bot.keys(folder) == [], "the documents of the shop to be removed")
        eventually(lambda: SHOP not in bot.states(), "the shop to be forgotten")
