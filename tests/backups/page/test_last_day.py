"""The timeline of the last 24 hours on the page: what is gathered, and the plan of one second."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from backups.increments.follow_folder import FollowFolder
from backups.increments.outages import AWAY, note_outage
from backups.model import BackupSet
from backups.page import last_day
from backups.page.rendering import _templates
from backups.view.timeline import Bar, Timeline
from tests.support.app_process import AppProcess
from tests.support.bench import Bench
from tests.support.chain_rows import known_of, note_chain, store_of
from tests.support.clock import FixedClock
from tests.support.history import SESSIONS, TOKENS, give_history, quiet_settings
from tests.support.installation import ADMIN_TOKEN, Installation, bot_secrets

SECOND = timedelta(seconds=1)


def gathered(bench: Bench) -> Timeline:
    """What the page shows now."""
    return last_day.read(bench.service, bench.service.clock.now())


# --- what is gathered -------------------------------------------------------------------


def test_sets_and_chains_of_ours(bench: Bench, clock: FixedClock) -> None:
    """A set that can be restored is a mark, points are a bar, and others' are neither."""
    made = bench.made()
    bench.made(only="tokens")
    start = clock.now() + timedelta(hours=1)
    note_chain(bench.known, made.id, made.instance, [start, start + SECOND])
    note_chain(bench.known, made.id, "0123456789abcdef", [start + timedelta(hours=1)])
    clock.advance(hours=3)
    found = gathered(bench)
    assert [mark.set_id for mark in found.marks] == [made.id]
    assert found.bars == (Bar(start, start + SECOND),)


def test_a_set_that_cannot_be_restored_is_no_mark(bench: Bench) -> None:
    """Neither what is suspect nor what lost its objects is offered by its time."""
    made = bench.made()
    for stored in made.objects:
        bench.store.delete(stored.key)
    bench.service.own_sets.refresh()
    assert gathered(bench).marks == ()


def test_a_time_in_which_changes_waited_is_a_gap(bench: Bench, clock: FixedClock) -> None:
    """Between two points of one chain, with the reason; what cannot be read is none."""
    made = bench.made()
    start = clock.now() + timedelta(hours=1)
    note_chain(bench.known, made.id, made.instance, [start, start + timedelta(hours=1)])
    folder = FollowFolder(bench.directory)
    away = start + timedelta(minutes=10), start + timedelta(minutes=40)
    note_outage(folder, away[0], int(away[1].timestamp() * 1000), AWAY)
    folder.note_outages([*folder.outages(), ["never"], 7, [1e300, 2, "x"]])
    clock.advance(hours=3)

    found = gathered(bench)

    assert found.bars == (Bar(start, away[0]), Bar(away[1], start + timedelta(hours=1)))
    assert AWAY in [gap.reason for gap in found.gaps]


def test_nothing_is_followed_without_a_follower(bench: Bench, clock: FixedClock) -> None:
    """After the newest point nothing is known, unless status says that changes are followed."""
    made = bench.made()
    note_chain(bench.known, made.id, made.instance, [clock.now()])
    clock.advance(hours=3)
    (bar,) = gathered(bench).bars
    assert bar.start == bar.end


def page(shown: Timeline, now: datetime) -> str:
    """The timeline as HTML."""
    template = '{% import "timeline.html" as parts %}{{ parts.timeline(shown, now) }}'
    return _templates.from_string(template).render(shown=shown, now=now)


def test_no_style_and_no_script_is_inline(bench: Bench, clock: FixedClock) -> None:
    """Places are attributes of the drawing, so that the strict policy holds."""
    made = bench.made()
    note_chain(bench.known, made.id, made.instance, [clock.now()])
    text = page(gathered(bench), clock.now())
    assert '<rect class="good" x="100.0000%"' in text
    assert not re.search(r"<script|<style|\s(?:style|on\w+)=", text)


# --- the plan of a second ---------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the installation is."""
    return tmp_path_factory.mktemp("second")


@pytest.fixture(scope="module")
def installation(folder: Path) -> Installation:
    """One with a past."""
    settings = {**bot_secrets(), **quiet_settings()}
    return Installation(folder, settings).make_databases(TOKENS, SESSIONS)


@pytest.fixture(scope="module")
def newest(installation: Installation) -> BackupSet:
    """Its newest set, of the last 24 hours."""
    return give_history(installation, days=3)[0]


@pytest.fixture(scope="module")
def app(installation: Installation, newest: BackupSet) -> Iterator[AppProcess]:
    """Its app; a chain ended with its second point, an hour after the newest set."""
    start = newest.created_at + timedelta(minutes=1)
    with known_of(installation) as known:
        points, store = [start, start + 9 * SECOND], store_of(installation)
        note_chain(known, newest.id, newest.instance, points, end="clock", store=store)
    with AppProcess.start(installation) as app:
        yield app
    assert "Traceback" not in app.output()


@pytest.fixture
def operator(app: AppProcess) -> Iterator[httpx2.Client]:
    """A client that is logged in."""
    with app.client(token=None) as client:
        assert client.post("/admin/login", data={"token": ADMIN_TOKEN}).status_code == 303
        yield client


def ask(client: httpx2.Client, at: object) -> httpx2.Response:
    """What the form of the timeline sends."""
    shown = f"{at:%Y-%m-%dT%H:%M:%S}" if isinstance(at, datetime) else str(at)
    return client.get("/admin/restore", params={"at": shown})


@pytest.mark.slow
def test_the_plan_of_a_second(operator: httpx2.Client, newest: BackupSet) -> None:
    """The second of a set gives its plan, with what was asked for; nothing is changed."""
    answer = ask(operator, newest.created_at)
    assert answer.status_code == 200
    assert f'Restore <span class="id">{newest.id}</span>' in answer.text
    asked = f"{newest.created_at.day} {newest.created_at:%b, %H:%M:%S} UTC"
    assert answer.text.count(f"<strong>{asked}</strong>") == 2
    assert "Nothing has been changed yet." in answer.text


@pytest.mark.slow
def test_a_second_in_a_gap(operator: httpx2.Client, newest: BackupSet) -> None:
    """It is refused by its reason, with the way to the nearest ones; none is taken by itself."""
    asked = newest.created_at + timedelta(seconds=30)
    before = f"/admin/restore?at={newest.created_at:%Y-%m-%dT%H:%M:%SZ}"
    after = f"/admin/restore?at={newest.created_at + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    answer = ask(operator, asked)
    text = html.unescape(answer.text)
    assert answer.status_code == 404
    assert "no point, changes were not followed." in text
    assert f'href="{before}">Plan for ' in text
    assert "0 min 30 s before…" in text
    assert f'href="{after}">Plan for ' in text
    assert "Type" not in text
    assert operator.get(before).status_code == 200


@pytest.mark.slow
def test_a_second_after_the_end_of_a_chain(operator: httpx2.Client, newest: BackupSet) -> None:
    """The reason of its end is said, and its last second offered."""
    answer = ask(operator, newest.created_at + timedelta(minutes=2))
    last = newest.created_at + timedelta(seconds=69)
    assert answer.status_code == 404
    assert "no point, the clock of the host was set back." in answer.text
    assert f"at={last:%Y-%m-%dT%H:%M:%SZ}" in answer.text


@pytest.mark.slow
def test_a_second_of_an_earlier_day(operator: httpx2.Client, newest: BackupSet) -> None:
    """Beyond the timeline the newest restore point at or before it is planned, as `--at` does."""
    answer = ask(operator, newest.created_at - timedelta(hours=30))
    assert answer.status_code == 200
    day = newest.created_at - timedelta(days=2)
    assert f'Restore <span class="id">{day:%Y%m%dT%H%M%SZ}</span>' in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("typed", ["nope", "2026-11-27", "<img src=x>"])
def test_what_is_no_time(operator: httpx2.Client, typed: str) -> None:
    """The form comes again with an example."""
    answer = ask(operator, typed)
    assert answer.status_code == 422
    assert "That is not a time. An example: 2" in answer.text
    assert "<img" not in answer.text


@pytest.mark.slow
def test_without_a_time_the_timeline_is_shown(operator: httpx2.Client) -> None:
    """Who comes from the login, which keeps no more than the path, gets where to choose."""
    answer = operator.get("/admin/restore")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/#timeline")


@pytest.mark.slow
def test_a_login_leads_back_to_a_point(app: AppProcess) -> None:
    """The id of a point of a chain has a dot; a way up is still refused."""
    with app.client(token=None) as client:
        for then, led in (
            ("/admin/sets/20261122T010000Z.17", "/admin/sets/20261122T010000Z.17?login"),
            ("/admin/../other", "/admin/?login"),
        ):
            answer = client.post("/admin/login", data={"token": ADMIN_TOKEN, "then": then})
            assert answer.headers["location"] == led


@pytest.mark.slow
def test_the_overview_has_the_timeline(operator: httpx2.Client) -> None:
    """Bar, set, reason of the gap, and the form with the newest good second."""
    text = operator.get("/admin/").text
    for words in (
        'id="timeline"',
        '<rect class="good"',
        '<line class="set"',
        'type="datetime-local"',
    ):
        assert words in text
    assert "the clock of the host was set back" in text
