"""Tests of `backups.alerts.notifier`: real requests to a server, and secrets that stay secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.alerts.notifier import AppriseNotifier
from backups.decisions.alarms import Message, message_for, success_message
from shared.store.directory import DirectoryStore
from tests.support.bench import open_bench
from tests.support.clock import FixedClock
from tests.support.installation import Installation, bot_secrets
from tests.support.listener import Listener, closed_port
from tests.support.records import INSTANT

# What apprise imports warns of Python 3.13; everything else stays an error.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
WARNINGS = {"PYTHONWARNINGS": "error,ignore:'imghdr' is deprecated"}

MESSAGE = Message("Backup problem on host: overdue", "the newest backup is old\n-> make one")
SECRET = "hunter2-s3cr3t-path"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def url(listener: Listener) -> str:
    """The listener as apprise knows it, with secrets as real URLs have."""
    return f"json://user:{SECRET}@127.0.0.1:{listener.port}/{SECRET}/"


def test_a_message_reaches_a_real_server(listener: Listener) -> None:
    """Title and body arrive by HTTP, at the URL that is meant."""
    notifier = AppriseNotifier((url(listener), f"json://127.0.0.1:{listener.port}/two/"), None)

    assert [notifier.send(receiver, MESSAGE) for receiver in notifier.receivers] == [True, True]

    assert [path.rstrip("/") for path in listener.paths()] == [f"/{SECRET}", "/two"]
    for heard in listener.heard:
        told = json.loads(heard.body)
        assert heard.method == "POST"
        assert told["title"] == MESSAGE.title
        assert "the newest backup is old" in told["message"]


def test_a_receiver_can_tell_a_problem_from_good_news(listener: Listener) -> None:
    """apprise gets the kind of each message, which services colour and sort by."""
    notifier = AppriseNotifier((url(listener),), None)
    over = message_for(["overdue"], [], name="host")
    assert over is not None
    for message in (MESSAGE, over, success_message("host", "20261122T010000Z")):
        assert notifier.send(notifier.receivers[0], message)

    kinds = [json.loads(heard.body)["type"] for heard in listener.heard]
    assert kinds == ["failure", "success", "success"]


def test_without_urls_there_is_nobody_to_tell() -> None:
    """No receiver, and a heartbeat that is not wanted is no failure."""
    notifier = AppriseNotifier((), None)

    assert notifier.receivers == ()
    assert notifier.heartbeat()


def test_a_receiver_is_named_without_its_secret() -> None:
    """Its place and scheme for a person, a hash for the records; one URL is one receiver."""
    urls = (f"mailtos://user:{SECRET}@example.org", f"json://h/{SECRET}", f"json://h/{SECRET}")
    receivers = AppriseNotifier(urls, None).receivers

    assert [str(one) for one in receivers] == ["URL number 1 (mailtos)", "URL number 2 (json)"]
    assert len({one.id for one in receivers}) == 2
    assert SECRET not in repr(receivers)


@pytest.mark.parametrize("fault", ["refused", "500", "garbage"])
def test_a_notifier_that_fails_says_so_and_no_more(
    listener: Listener, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """It returns False, raises nothing, and no secret of its URL is in any log."""
    broken = url(listener)
    if fault == "refused":
        broken = f"json://user:{SECRET}@127.0.0.1:{closed_port()}/{SECRET}"
    elif fault == "500":
        listener.status = 500
    else:
        listener.garbage = True
    caplog.set_level(logging.INFO)
    notifier = AppriseNotifier((f"json://127.0.0.1:{closed_port()}/", broken), None)

    assert not notifier.send(notifier.receivers[1], MESSAGE)

    assert "did not reach URL number 2 (json) of BACKUP_NOTIFY_URLS" in caplog.text
    assert SECRET not in caplog.text


def test_the_heartbeat_is_a_plain_get(listener: Listener) -> None:
    """The watchdog is asked for its URL, once."""
    notifier = AppriseNotifier((), f"http://127.0.0.1:{listener.port}/ping/{SECRET}")

    assert notifier.heartbeat()

    assert [(one.method, one.path) for one in listener.heard] == [("GET", f"/ping/{SECRET}")]


@pytest.mark.parametrize("fault", ["refused", "404", "500", "garbage"])
def test_a_heartbeat_that_is_not_heard_is_told_and_raises_nothing(
    listener: Listener, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """A watchdog that is down, or that answers nonsense, breaks nothing; its URL stays secret."""
    port = closed_port() if fault == "refused" else listener.port
    listener.garbage = fault == "garbage"
    if fault in ("404", "500"):
        listener.status = int(fault)
    caplog.set_level(logging.INFO)

    assert not AppriseNotifier((), f"http://127.0.0.1:{port}/ping/{SECRET}").heartbeat()

    assert "the heartbeat URL could not be called" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("fault", ["refused", "garbage"])
def test_a_broken_notifier_never_breaks_a_run(
    tmp_path: Path, listener: Listener, fault: str
) -> None:
    """With message and heartbeat both failing, run, prune and status are as without them."""
    port = closed_port() if fault == "refused" else listener.port
    listener.garbage = fault == "garbage"
    notifier = AppriseNotifier((f"json://127.0.0.1:{port}/",), f"http://127.0.0.1:{port}/ping")
    with open_bench(
        tmp_path,
        DirectoryStore(tmp_path / "store"),
        clock=FixedClock(INSTANT),
        notifier=notifier,
        notify_success=True,
    ) as bench:
        assert bench.run("scheduled").status == "succeeded"
        bench.tokens.rename(bench.tokens.with_name("away.db"))

        run = bench.run("scheduled")

        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == "database_missing"
        assert bench.problems() == ["source_missing", "last_run_failed"]


@pytest.mark.slow
def test_doctor_notify_sends_a_test_message(tmp_path: Path, listener: Listener) -> None:
    """`doctor --notify` reaches the server, and says when it does not; plain `doctor` is silent."""
    installation = Installation(
        tmp_path, {**bot_secrets(), **WARNINGS, "BACKUP_NOTIFY_URLS": url(listener)}
    ).make_databases()
    assert installation.cli("run").returncode == 0

    plain = installation.cli("doctor")
    assert listener.heard == []
    good = installation.json("doctor", "--notify")
    assert "Test message" in json.loads(listener.heard[0].body)["title"]
    listener.status = 500
    bad = installation.cli("doctor", "--notify")

    assert plain.returncode == 0
    assert [one["message"] for one in good["lines"] if one["subject"] == "notify"] == [
        "a test message went to 1 URL"
    ]
    assert bad.returncode == 3
    assert "did not reach URL number 1 (json) of BACKUP_NOTIFY_URLS" in bad.stdout
    for text in (str(plain), str(good), str(bad)):
        assert SECRET not in text


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [f"nonsense://{SECRET}", f"slack://{SECRET}", f"http//{SECRET}"])
def test_a_malformed_url_stops_the_start_without_repeating_it(tmp_path: Path, wrong: str) -> None:
    """The setting and the place in it are named; the URL, which holds a secret, is not."""
    installation = Installation(
        tmp_path, {**bot_secrets(), **WARNINGS, "BACKUP_NOTIFY_URLS": f"json://127.0.0.1/ {wrong}"}
    ).make_databases()

    done = installation.cli("status")

    assert done.returncode == 2
    assert "BACKUP_NOTIFY_URLS: URL number 2 is not one that apprise supports" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
def test_success_messages_and_heartbeats_of_a_real_installation(
    tmp_path: Path, listener: Listener
) -> None:
    """Configured by the environment: heartbeat after each good run, message only if wanted."""
    installation = Installation(
        tmp_path,
        {
            **bot_secrets(),
            **WARNINGS,
            "BACKUP_NOTIFY_URLS": f"json://127.0.0.1:{listener.port}/told",
            "BACKUP_HEARTBEAT_URL": f"http://127.0.0.1:{listener.port}/ping",
        },
    ).make_databases()

    assert installation.cli("run").returncode == 0
    assert listener.paths() == ["/ping"]
    assert installation.with_settings(BACKUP_NOTIFY_SUCCESS="true").cli("run").returncode == 0
    assert [path.rstrip("/") for path in listener.paths()] == ["/ping", "/ping", "/told"]
    moved = installation.tokens_path.rename(tmp_path / "away.db")
    assert installation.cli("run").returncode == 1
    assert [path.rstrip("/") for path in listener.paths()][3:] == ["/told"]
    moved.rename(installation.tokens_path)
    assert installation.cli("run").returncode == 0
    titles = [json.loads(one.body)["title"] for one in listener.heard if one.body]
    assert titles[-1].endswith(" are healthy again")
