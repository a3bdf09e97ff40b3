"""A conversation that was overwritten comes back, and nothing of one that was to be deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.connected_bot import ConnectedBot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import REPOSITORY
from tests.support.s3_server import S3Server
from tests.support.typed import type_in
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BLOCK = re.compile(r"```text\n(\./bot shared versions list .*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def running_bot(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[ConnectedBot]:
    """One for all tests here."""
    folder: Path = tmp_path_factory.mktemp("versions")
    bucket = s3_server.settings_of_new_bucket()
    with ConnectedBot.started(folder, graph, shopify, bucket) as connected:
        graph.register(deletion=f"{connected.bot.app.url}/facebook/data-deletion")
        yield connected


@pytest.fixture
def bot(running_bot: ConnectedBot) -> ConnectedBot:
    """With its Pages connected, by another user than before a deletion."""
    running_bot.bot.connect_pages(running_bot.browser)
    running_bot.settle()
    running_bot.user = running_bot.bot.user()
    return running_bot


def long_talk(page: str, customer: str) -> list[dict[str, Any]]:
    """Three times as many messages as Meta tells of a conversation."""
    return [
        {
            "sender": {"id": customer},
            "recipient": {"id": page},
            "timestamp": int((NOON - timedelta(days=1)).timestamp() * 1000) + number,
            "message": {"mid": f"m_old_{customer}_{number}", "text": f"{number}"},
        }
        for number in range(60)
    ]


def listed(bot: ConnectedBot, text: str) -> list[str]:
    """The keys of the versions that `versions list` prints."""
    done = type_in(bot.bot.installation, f"./bot shared versions list {text}")
    assert done.returncode == 0, done.stderr
    return re.findall(r"^(users/\S+)  [0-9,]+ bytes$", done.stdout, re.MULTILINE)


def messages(bot: ConnectedBot, version: str) -> int:
    """How many messages a version has; none where it keeps what could not be read."""
    try:
        return len(bot.bot.document(version))
    except ValueError:
        return 0


@pytest.mark.parametrize("damage", [b"[]", b"{}", b'[{"sender":', b'["text", {"timestamp": "1"}]'])
def test_a_conversation_that_was_overwritten_comes_back(
    bot: ConnectedBot, graph: FakeGraph, damage: bytes
) -> None:
    """By the lines of docs/bot.md: all sixty messages, and what was said before and after."""
    page, customer = bot.pages[0], bot.customer()
    key = bot.talk_key(page, customer)
    bot.bot.write(key, long_talk(page, customer))
    graph.customer_says(page, customer, "Grüezi", NOON)
    bot.settle()
    assert len(bot.talk(page, customer)) == 61

    bot.bot.store.replace(key, damage)  # type: ignore[attr-defined]
    graph.customer_says(page, customer, "Ist da wer?", NOON + timedelta(minutes=1), deliver=True)
    bot.settle()
    assert len(bot.talk(page, customer)) < 60

    listing, back = BLOCK.findall((REPOSITORY / "docs/bot.md").read_text())[0].splitlines()
    found = listed(bot, listing.split()[-1].replace("7001000000", customer))
    (version,) = [one for one in found if messages(bot, one) == 60]
    assert Path(back.split()[-1]).parts[-1] == "7001000000.json"
    done = type_in(bot.bot.installation, " ".join([*back.split()[:-1], version]))

    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: len(bot.talk(page, customer)) == 62, "all that was said")
    assert bot.texts(page, customer)[:60] == [f"{number}" for number in range(60)]
    assert bot.texts(page, customer)[60:] == ["Grüezi", "Ist da wer?"]
    bot.settle()
    assert f"brought back: {version}" in bot.log()


def test_a_deletion_leaves_no_version(bot: ConnectedBot, graph: FakeGraph) -> None:
    """Who asks to be forgotten is forgotten at once, and a version that is gone is refused."""
    page, customer = bot.pages[1], bot.customer()
    bot.bot.write(bot.talk_key(page, customer), long_talk(page, customer))
    graph.customer_says(page, customer, "Grüezi", NOON)
    bot.settle()
    (version, *_) = listed(bot, customer)

    assert graph.request_deletion().status == 200
    bot.settle()

    assert bot.bot.keys(f"users/{bot.user}/facebook/") == []
    assert listed(bot, customer) == []
    refused = type_in(bot.bot.installation, f"./bot shared versions bring-back {version}")
    assert refused.returncode == 1
    assert version in refused.stderr


def test_a_version_that_goes_before_its_turn_is_named(bot: ConnectedBot, graph: FakeGraph) -> None:
    """The command was typed, and the version then deleted: the log says so, and nothing changes."""
    page, customer = bot.pages[0], bot.customer()
    bot.bot.write(bot.talk_key(page, customer), long_talk(page, customer))
    graph.customer_says(page, customer, "Grüezi", NOON)
    bot.settle()
    (version, *_) = listed(bot, customer)
    bot.bot.app.stop()

    typed = type_in(bot.bot.installation, f"./bot shared versions bring-back {version}")
    assert typed.returncode == 0, typed.stderr
    bot.bot.store.delete(version)
    bot.bot.kill_and_start()
    bot.settle()

    assert "not brought back: the version is gone" in bot.log()
    assert len(bot.talk(page, customer)) == 61


def test_only_what_is_a_version_is_brought_back(bot: ConnectedBot) -> None:
    """A document is none; the hint says how to find one."""
    refused = type_in(
        bot.bot.installation, f"./bot shared versions bring-back {bot.page_key(bot.pages[0])}"
    )

    assert refused.returncode == 1
    assert "is not the key of a version\nSee: ./bot shared versions list" in refused.stderr
    assert bot.waiting() == 0
