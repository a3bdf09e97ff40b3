"""Conversations that are gone from the store come back from the second place, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import REPOSITORY
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.typed import type_in
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BLOCK = re.compile(r"```text\n(\./bot shared versions from-second\n.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> SecondBucket:
    """The second place: it locks."""
    return SecondBucket.new(s3_server)


@pytest.fixture(scope="module")
def bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
    bucket: SecondBucket,
) -> Iterator[ConnectedBot]:
    """A merchant with two Pages, whose conversations are copied."""
    folder: Path = tmp_path_factory.mktemp("second")
    first = s3_server.settings_of_new_bucket()
    settings = bucket.beside(first, COPY_LOCK_DAYS="1")
    with ConnectedBot.started(folder, graph, shopify, first, workers=None, **settings) as connected:
        yield connected


def copied(bot: ConnectedBot) -> None:
    """Copy now, whoever else does."""
    with bot.bot.app.client() as admin:

        def ended() -> bool:
            asked = admin.post("/admin/backups/copy", params={"wait": "true"}, timeout=120)
            return asked.status_code == 200 and not asked.json()["documents"]["waiting"]

        eventually(ended, "a copying")


def talked(bot: ConnectedBot, graph: FakeGraph, page: str, messages: int) -> str:
    """A customer who wrote so often, which Meta does not tell again."""
    customer = bot.customer()
    for number in range(messages):
        at = NOON + timedelta(seconds=number)
        graph.customer_says(page, customer, f"{number}", at, deliver=True)
    bot.settle()
    assert bot.texts(page, customer) == [f"{number}" for number in range(messages)]
    return customer


def test_what_a_thief_deleted_comes_back(
    bot: ConnectedBot, graph: FakeGraph, bucket: SecondBucket
) -> None:
    """By the lines of docs/two-places.md: more than Meta tells, and what was said since stays."""
    page = bot.pages[0]
    customer = talked(bot, graph, page, 30)
    copied(bot)
    key = bot.talk_key(page, customer)
    assert key in bucket.listed()
    bot.bot.store.delete(key)
    graph.customer_says(page, customer, "Ist da wer?", NOON + timedelta(hours=1), deliver=True)
    bot.settle()

    plan, act = BLOCK.findall((REPOSITORY / "docs/two-places.md").read_text())[0].splitlines()
    done = type_in(bot.bot.installation, f"{plan} --stored-before 2020-01-01")
    assert "no conversation, as it was before 2020-01-01T00:00:00Z" in done.stdout
    assert done.returncode == 1
    done = type_in(bot.bot.installation, plan)
    assert done.returncode == 0, done.stderr
    assert f"differs  {key}" in done.stdout
    assert bot.texts(page, customer)[:1] != ["0"]
    done = type_in(bot.bot.installation, act)
    assert done.returncode == 0, done.stderr

    told = [*(f"{number}" for number in range(30)), "Ist da wer?"]
    eventually(lambda: bot.texts(page, customer) == told, "all that was said")

    copied(bot)
    done = type_in(bot.bot.installation, plan)
    assert "The store has what the second place has of" in done.stdout
    assert done.returncode == 0


def test_who_asked_to_be_forgotten_does_not_come_back(
    bot: ConnectedBot, graph: FakeGraph, bucket: SecondBucket
) -> None:
    """Neither while the copy does not know yet, nor when it does, nor for another user."""
    page = bot.pages[1]
    customer = talked(bot, graph, page, 3)
    copied(bot)
    key, before = bot.talk_key(page, customer), bot.user
    graph.register(deletion=f"{bot.bot.app.url}/facebook/data-deletion")
    assert graph.request_deletion().status == 200
    bot.settle()
    assert bot.bot.keys(f"users/{before}/facebook/") == []

    done = type_in(bot.bot.installation, "./bot shared versions from-second --yes")
    assert done.returncode == 0, done.stderr
    bot.settle()
    assert bot.bot.keys(f"users/{before}/facebook/") == []

    copied(bot)
    assert bucket.bytes_of(key) == b""
    bot.bot.connect_pages(bot.browser)
    bot.settle()
    done = type_in(bot.bot.installation, f"./bot shared versions from-second {customer} --yes")
    assert f"no conversation with '{customer}' in its key" in done.stdout
    assert done.returncode == 1
