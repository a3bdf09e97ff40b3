"""What a person does on the page beside restoring: kit, checks, pin, deletion, the second place.

Each walk is walked three times on a phone of 390 px: with a mouse, with the keyboard, and without
JavaScript.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, quiet_app
from tests.browser.walker import HOW, How, Walker
from tests.support.app_process import AppProcess
from tests.support.history import TOKENS
from tests.support.listener import Listener
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.waiting import eventually

# What apprise imports warns of Python 3.13; everything else stays an error.
WARNINGS = {"PYTHONWARNINGS": "error,ignore:'imghdr' is deprecated"}
KEPT = "I keep it elsewhere"

Walk = Callable[[AppProcess], Walker]


@pytest.fixture(params=HOW)
def walk(request: pytest.FixtureRequest, visit: Visit) -> Walk:
    """Begins a walk in one of the three ways."""
    how: How = request.param
    return lambda app: Walker(visit, app, how)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppProcess]:
    """An app with two sets that it has made itself."""
    with quiet_app(tmp_path) as (installation, start):
        for _ in range(2):
            installation.json("run")
        yield start()


def ids(app: AppProcess) -> list[str]:
    """The ids of its sets, newest first."""
    return [one["id"] for one in app.installation.json("list")["sets"]]


def test_the_emergency_kit(app: AppProcess, walk: Walk) -> None:
    """It is asked for until it is ticked, by the date; and the page has no key, only what it is."""
    walker = walk(app)
    walker.log_in()
    walker.press("Emergency kit")
    walker.says("At a terminal on this host")
    key = app.installation.environment["TOKEN_ENCRYPTION_KEYS"]
    assert key not in walker.page.content()
    walker.tick(KEPT)
    walker.press("Confirm")
    expect(walker.page.locator("#kept")).to_contain_text("kept elsewhere confirmed")
    expect(walker.page.get_by_label(KEPT)).to_have_count(0)
    warnings = app.installation.json("status")["warnings"]
    assert "kit_not_kept" not in [one["code"] for one in warnings]
    walker.open("/admin/")
    expect(walker.page.get_by_text("kept elsewhere, confirmed")).to_be_visible()


def test_a_tick_that_was_not_made_confirms_nothing(app: AppProcess, walk: Walk) -> None:
    """The browser asks for it, and the server does not take the press for it."""
    walker = walk(app)
    walker.log_in("/admin/kit")
    walker.page.locator("#kept").evaluate("element => element.required = false")
    walker.press("Confirm")
    expect(walker.page.get_by_label(KEPT)).to_be_visible()


def test_the_checks_and_a_test_message(tmp_path: Path, walk: Walk) -> None:
    """All that can be wrong, the light in the last line, and a message that really arrives."""
    with Listener() as listener:
        told = {"BACKUP_NOTIFY_URLS": f"json://127.0.0.1:{listener.port}/", **WARNINGS}
        with quiet_app(tmp_path, **told) as (installation, start):
            installation.json("run")
            walker = walk(start())
            walker.log_in()
            walker.press("Checks")
            walker.has_heading("Checks")
            expect(walker.page.get_by_text("The light is amber")).to_be_visible()
            before = len(listener.heard)
            walker.press("Send a test message")
            assert walker.page.url.endswith("/admin/doctor#notified")
            eventually(lambda: len(listener.heard) > before, "it arrives")
            sent = json.loads(listener.heard[-1].body)
            assert sent["title"].startswith("Test message")
            expect(walker.page.locator("#notified")).to_contain_text(
                "1 receiver; the last message was sent"
            )


def test_the_checks_where_nobody_is_told(app: AppProcess, walk: Walk) -> None:
    """No button that could send nothing, but what to set."""
    walker = walk(app)
    walker.log_in("/admin/doctor")
    expect(walker.page.get_by_role("button", name="Send a test message")).to_have_count(0)
    walker.says("Set BACKUP_NOTIFY_URLS in .env, and restart the app")


def test_keeping_one_with_a_label(app: AppProcess, walk: Walk) -> None:
    """Pinned with its reason, which the list shows; then let go."""
    _, older = ids(app)
    walker = walk(app)
    walker.log_in("/admin/sets")
    walker.press(older)
    walker.type("Why it is kept (optional)", "before the move")
    walker.press("Pin it: keep it whatever the rules say")
    expect(walker.page.locator("dl.facts")).to_contain_text("before the move")
    (found,) = [one for one in app.installation.json("list")["sets"] if one["id"] == older]
    assert (found["pinned"], found["label"]) == (True, "before the move")
    expect(walker.page.get_by_role("button", name="Delete…")).to_have_count(0)
    walker.press("Unpin it: keep it as long as the rules say")
    expect(walker.page.locator("dl.facts")).not_to_contain_text("before the move")
    assert not any(one["pinned"] for one in app.installation.json("list")["sets"])


def test_deleting_one_with_its_id_typed(app: AppProcess, walk: Walk) -> None:
    """Another text changes nothing, and keeps what was typed; the id deletes that set alone."""
    newer, older = ids(app)
    walker = walk(app)
    walker.log_in(f"/admin/sets/{older}")
    walker.press("Delete…")
    walker.says("This cannot be undone.")
    field = f"To delete it, type {older}"
    walker.type(field, newer)
    walker.press("Delete it for good")
    expect(walker.page.get_by_role("alert")).to_have_text(
        "That is not the id. Nothing was changed."
    )
    assert walker.page.get_by_label(field).input_value() == newer
    assert ids(app) == [newer, older]
    walker.type(field, older)
    walker.press("Delete it for good")
    walker.has_heading("succeeded")
    assert ids(app) == [newer]
    walker.open(f"/admin/sets/{older}")
    walker.says(f"Restore point {older} was deleted on purpose")


def test_the_newest_good_one_is_not_deleted(app: AppProcess, walk: Walk) -> None:
    """A refusal says why, and what to do first."""
    newer, _ = ids(app)
    walker = walk(app)
    walker.log_in(f"/admin/sets/{newer}")
    walker.press("Delete…")
    walker.says(f"{newer} is the newest complete, proven set, and is never deleted")
    expect(walker.page.locator("code", has_text="./bot backups run")).to_be_visible()


def test_a_restore_from_the_second_place(tmp_path: Path, walk: Walk, s3_server: S3Server) -> None:
    """Its state is on the overview; while the store is away, the copies come back from there."""
    bucket = SecondBucket.new(s3_server)
    with quiet_app(tmp_path, **bucket.environment(COPY_LOCK_DAYS="1")) as (installation, start):
        made = installation.json("run")["set"]["id"]
        assert installation.cli("copy").returncode == 0
        app = start()
        installation.stored("").rename(tmp_path / "lost")
        installation.stored("").touch()  # a store that answers nothing
        walker = walk(app)
        walker.log_in()
        second = walker.page.locator("#second")
        expect(second).to_contain_text(f"1 restore point, the newest {made}; all was copied")
        expect(second).to_contain_text("locked for 1 day")
        walker.press("Restore from the second place…")
        walker.says("This is from the second place.")
        expect(walker.page.get_by_text(f"It comes from {bucket.name} at")).to_be_visible()
        walker.press("Plan from the store")
        expect(walker.page.locator("#place")).to_contain_text("The second place has copies")
        walker.press("Plan from the second place")
        field = f"To replace the live data, type {made}"
        walker.type(field, "latest")
        walker.press("Restore, and replace the live data")
        expect(walker.page.get_by_role("alert")).to_contain_text("That is not the id")
        walker.says("This is from the second place.")
        walker.type(field, made)
        walker.press("Restore, and replace the live data")
        walker.has_heading("Restore succeeded")
        walker.open("/admin/sets/20200101T000000Z/restore")
        walker.has_heading("The store failed")
        walker.press("Plan from the second place")
        walker.has_heading("No such restore point")
        expect(walker.page.get_by_role("link", name="Plan from the second place")).to_have_count(0)


def test_a_host_that_replaces_another_one(tmp_path: Path, walk: Walk) -> None:
    """What is wrong, the plan, the restore, the relief: the data is back, and nothing is red."""
    with quiet_app(tmp_path / "old") as (old, _):
        made = old.json("run")["set"]["id"]
    there = {"BACKUP_LOCAL_STORE": str(old.stored(""))}
    with quiet_app(tmp_path / "new", **there) as (installation, start):
        installation.tokens_path.unlink()
        installation.sessions_path.unlink()
        walker = walk(start())
        walker.log_in()
        walker.has_heading("A database was missing at start; a new, empty one was created")
        walker.press("Restore the newest…")
        walker.has_heading(f"Restore {made}")
        walker.type(f"To replace the live data, type {made}", made)
        walker.press("Restore, and replace the live data")
        walker.has_heading("Restore succeeded")
        walker.press("Back to the overview")
        well = "Backed up, on this disk only"  # with the point that the app makes now
        eventually(lambda: walker.heading_after_opening("/admin/") == well, well, seconds=60)
        with closing(sqlite3.connect(installation.tokens_path)) as connection:
            assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (TOKENS,)
