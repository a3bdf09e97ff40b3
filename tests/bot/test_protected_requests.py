"""A request to forget a shop is done whatever becomes of the data that the bot has of it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.app_process import AppProcess
from tests.support.bot import SHOP
from tests.support.connected_bot import ConnectedBot, statuses
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.fault_proxy import FaultProxy, refuse
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

# Longer than any test: only what is asked for is stored.
NEVER = "3000"


@pytest.fixture
def store(s3_server: S3Server) -> Iterator[FaultProxy]:
    """What stands between the bot and its bucket."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def bot(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, store: FaultProxy
) -> Iterator[ConnectedBot]:
    """One whose changes are stored when they are asked for, and all of it is stored."""
    bucket = store.settings(s3_server.settings_of_new_bucket())
    with ConnectedBot.started(
        tmp_path,
        graph,
        shopify,
        bucket,
        BACKUP_CHANGE_DELAY=NEVER,
        BACKUP_RESTORE_ON_EMPTY="true",
    ) as connected:
        assert rows_of_shop(connected) != []
        everything_is_stored(connected)
        yield connected


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
        assert statuses(sent.deliveries) == [200], "nothing follows: the commit is enough"
        assert bot.waiting() == 1
        bot.bot.app.kill()
        for path in (tmp_path / "data").glob("inbox.db*"):
            path.unlink()
        store.lift()
        bot.bot.kill_and_start()

        eventually(lambda: bot.bot.keys(folder) == [], "the documents of the shop to be removed")
        eventually(lambda: rows_of_shop(bot) == [], "the shop to be forgotten")


def test_what_was_answered_outlives_the_host(bot: ConnectedBot) -> None:
    """Killed right after the 200, and the data folder lost: nothing of the shop comes back."""
    sent = bot.bot.shopify.send_webhook(SHOP, "shop/redact")
    assert statuses(sent.deliveries) == [200]
    bot.bot.app.kill()
    shutil.rmtree(bot.bot.installation.folder / "data")
    bot.bot.kill_and_start()

    assert rows_of_shop(bot) == []
    assert rows_of_pages(bot) != [], "the rest came back"
    eventually(lambda: documents_of_shop(bot) == [], "the documents of the shop to be removed")


def test_what_no_backup_has_is_answered_503_and_kept(bot: ConnectedBot, store: FaultProxy) -> None:
    """After three seconds, in which others are answered; its repeat gets the 200, and is no second
    request."""
    shopify = bot.bot.shopify
    store.on(refuse(403, "AccessDenied"), method="PUT")
    with ThreadPoolExecutor(1) as pool, bot.bot.app.client(token=None) as client:
        sending = pool.submit(shopify.send_webhook, SHOP, "shop/redact")
        slowest = 0.0
        while not sending.done():
            began = time.monotonic()
            assert client.get("/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        sent = sending.result()
    assert statuses(sent.deliveries) == [503]
    assert "request_unproven" in sent.deliveries[0].text
    assert 3 <= sent.deliveries[0].seconds < 5, "platforms give up after five seconds"
    assert slowest < 1
    assert requests(bot) == [sent.webhook_id]

    store.lift()
    again = shopify.send_webhook(
        SHOP, "shop/redact", webhook_id=sent.webhook_id, retries=60, pause=0.5
    )
    assert statuses(again.deliveries)[-1] == 200
    assert requests(bot) == [sent.webhook_id]
    eventually(lambda: rows_of_shop(bot) == [], "the shop to be forgotten")


def test_many_that_wait_hold_up_nobody_else(bot: ConnectedBot, store: FaultProxy) -> None:
    """A hundred requests that no backup has wait together, and the page answers meanwhile."""
    shopify = bot.bot.shopify
    store.on(refuse(403, "AccessDenied"), method="PUT")
    with ThreadPoolExecutor(100) as pool:
        sending = [pool.submit(shopify.send_webhook, SHOP, "customers/redact") for _ in range(100)]
        eventually(lambda: len(asked(bot)) >= 20, "many to wait")
        began = time.monotonic()
        assert bot.states()[SHOP] == "connected"
        assert time.monotonic() - began < 3
        answers = [status for one in sending for status in statuses(one.result().deliveries)]
    assert set(answers) == {503}
    assert len(requests(bot)) == 100
    eventually(lambda: asked(bot) == [], "nobody to wait any more")


def test_a_process_that_does_not_follow_waits_for_the_one_that_does(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server
) -> None:
    """Of two workers one follows: whichever of them a request comes to, it gets its 200."""
    bucket = s3_server.settings_of_new_bucket()
    with ConnectedBot.started(
        tmp_path, graph, shopify, bucket, workers=2, BACKUP_CHANGE_DELAY=NEVER
    ) as bot:
        everything_is_stored(bot)
        sent = [shopify.send_webhook(SHOP, "customers/redact") for _ in range(12)]
        assert {status for one in sent for status in statuses(one.deliveries)} == {200}
        assert len(requests(bot)) == 12


def test_a_restore_to_the_second_before_brings_nobody_back(bot: ConnectedBot) -> None:
    """While the app serves: the restored shop is forgotten again, with its documents."""
    before = now()
    forget_shop(bot)
    done = bot.bot.installation.cli("restore", "--at", before, "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert "rows were carried over rows=1" in done.stderr
    eventually(lambda: rows_of_shop(bot) == [], "the shop to be forgotten again")
    eventually(lambda: documents_of_shop(bot) == [], "its documents to be removed again")
    assert rows_of_pages(bot) != []


def test_a_restore_without_the_app_is_corrected_before_it_serves(bot: ConnectedBot) -> None:
    """The restored file has the shop and the request; after the start, the shop is gone at once."""
    before = now()
    forget_shop(bot)
    bot.bot.app.stop()
    bot.bot.installation.json("restore", "--at", before, "--in-place", "--yes")
    assert rows_of_shop(bot) != []
    bot.bot.app = AppProcess.start(bot.bot.installation, port=bot.bot.app.port)
    assert rows_of_shop(bot) == []
    assert rows_of_pages(bot) != []


def test_where_another_process_leads_that_one_does_it(bot: ConnectedBot) -> None:
    """Only one process changes documents: one that starts beside it leaves the request to it."""
    before, installation = now(), bot.bot.installation
    forget_shop(bot)
    bot.bot.app.stop()
    installation.json("restore", "--at", before, "--in-place", "--yes")
    held = installation.backup_dir.scheduler_lease.try_acquire()
    assert held is not None
    try:
        bot.bot.app = AppProcess.start(installation, port=bot.bot.app.port)
        assert rows_of_shop(bot) != []
    finally:
        held.release()
    eventually(lambda: rows_of_shop(bot) == [], "the shop to be forgotten", seconds=60)


def test_an_undo_brings_nobody_back(bot: ConnectedBot) -> None:
    """What it puts back has the shop: a request that came since the restore is done again."""
    installation = bot.bot.installation
    bot.bot.app.stop()
    installation.json("restore", "--at", now(), "--in-place", "--yes")
    bot.bot.app = AppProcess.start(installation, port=bot.bot.app.port)
    forget_shop(bot)
    bot.bot.app.stop()
    installation.json("restore", "--undo", "--yes")
    assert rows_of_shop(bot) != []
    bot.bot.app = AppProcess.start(installation, port=bot.bot.app.port)
    assert rows_of_shop(bot) == []
    assert rows_of_pages(bot) != []


@pytest.mark.parametrize("loss", ["lost", "damaged"])
def test_where_nothing_is_left_to_replace_the_newest_point_is_asked(
    bot: ConnectedBot, loss: str
) -> None:
    """An older point is restored where the live data is gone: the newest one has the request."""
    before = now()
    forget_shop(bot)
    everything_is_stored(bot)
    bot.bot.app.kill()
    if loss == "lost":
        shutil.rmtree(bot.bot.installation.folder / "data")
    else:
        bot.bot.installation.tokens_path.write_bytes(b"no database any more" * 1000)
    bot.bot.installation.json("restore", "--at", before, "--in-place", "--yes")
    assert rows_of_shop(bot) != []
    bot.bot.app = AppProcess.start(bot.bot.installation, port=bot.bot.app.port)
    assert rows_of_shop(bot) == []
    assert rows_of_pages(bot) != []


def test_files_in_hand_bring_nobody_back(
    bot: ConnectedBot, store: FaultProxy, tmp_path: Path
) -> None:
    """An old file is restored on a host that has lost everything: the store is asked for what came
    after it, and where it is away, an error says what may be missing."""
    installation, old = bot.bot.installation, tmp_path / "old"
    assert installation.cli("restore", "--to", str(old)).returncode == 0
    forget_shop(bot)
    everything_is_stored(bot)
    bot.bot.app.kill()
    from_file = ("restore", "--from", str(old / "tokens.db"), "--in-place", "--yes")
    shutil.rmtree(installation.folder / "data")
    store.on(refuse(403, "AccessDenied"))
    done = installation.cli(*from_file)
    store.lift()
    assert "may be missing from it: the newest restore point could not be read" in done.stderr
    shutil.rmtree(installation.folder / "data")
    done = installation.cli(*from_file)
    assert done.returncode == 0, done.stderr
    assert rows_of_shop(bot) != []
    bot.bot.app = AppProcess.start(installation, port=bot.bot.app.port)
    assert rows_of_shop(bot) == []


def test_a_person_is_not_brought_back_either(bot: ConnectedBot) -> None:
    """The same of Facebook: what was deleted on request stays so."""
    graph = bot.bot.graph
    before = now()
    answer = graph.request_deletion(url=f"{bot.bot.app.url}/facebook/data-deletion")
    assert answer.status == 200
    eventually(lambda: rows_of_pages(bot) == [], "the person's Pages to be forgotten")
    bot.bot.app.stop()
    bot.bot.installation.json("restore", "--at", before, "--in-place", "--yes")
    assert rows_of_pages(bot) != []
    bot.bot.app = AppProcess.start(bot.bot.installation, port=bot.bot.app.port)
    assert rows_of_pages(bot) == []
    assert rows_of_shop(bot) != []


def everything_is_stored(bot: ConnectedBot) -> None:
    """A point of a chain has all that was committed: a request about nobody waits for that."""
    sent = bot.bot.shopify.send_webhook(SHOP, "customers/redact", retries=100, pause=0.5)
    assert statuses(sent.deliveries)[-1] == 200
    eventually(lambda: waiting(bot) == [], "the request to be done")


def forget_shop(bot: ConnectedBot) -> None:
    """Ask for it, and wait until it is done."""
    sent = bot.bot.shopify.send_webhook(SHOP, "shop/redact", retries=100, pause=0.5)
    assert statuses(sent.deliveries)[-1] == 200
    eventually(lambda: rows_of_shop(bot) == [], "the shop to be forgotten")
    eventually(lambda: waiting(bot) == [], "the request to be done")


def now() -> str:
    """The instant of now, for `--at`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rows_of_shop(bot: ConnectedBot) -> list[str]:
    """The keys of the shop in `tokens.db`."""
    return _column(bot, "SELECT key FROM tokens WHERE key LIKE '%kaesehaus%'")


def rows_of_pages(bot: ConnectedBot) -> list[str]:
    """The keys of tokens of Pages."""
    return _column(bot, "SELECT key FROM tokens WHERE key LIKE 'FACEBOOK_ACCESS_TOKEN_%'")


def requests(bot: ConnectedBot) -> list[str]:
    """The requests that came since `everything_is_stored`."""
    return _column(bot, "SELECT request_id FROM requests ORDER BY rowid")[1:]


def waiting(bot: ConnectedBot) -> list[str]:
    """The requests whose work has not ended."""
    return _column(bot, "SELECT request_id FROM requests WHERE done_at IS NULL")


def documents_of_shop(bot: ConnectedBot) -> list[str]:
    """What is stored of the shop."""
    return bot.bot.keys(f"users/{bot.user}/shopify/")


def asked(bot: ConnectedBot) -> list[Path]:
    """What the follower is asked for now."""
    return list((bot.bot.installation.folder / "data" / "backups" / "follow" / "asked").iterdir())


def _column(bot: ConnectedBot, query: str) -> list[str]:
    with closing(sqlite3.connect(bot.bot.installation.tokens_path, timeout=30)) as connection:
        return [str(row[0]) for row in connection.execute(query)]
