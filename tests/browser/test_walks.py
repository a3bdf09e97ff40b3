"""The page as people use it: with a mouse, with a keyboard, on a phone, and without JavaScript."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from backups.view.calendar import DAYS
from tests.browser.conftest import PHONE, Picture, Visit, quiet_app
from tests.support.app_process import AppProcess
from tests.support.databases import make_database
from tests.support.history import days_ago, give_history
from tests.support.installation import ADMIN_TOKEN, spaces
from tests.support.s3_server import S3Server
from tests.support.slow_server import SlowPipe

NARROW = {"width": 320, "height": 640}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with a past of 90 days, some of them bad, that is healthy now."""
    with quiet_app(tmp_path_factory.mktemp("walks")) as (installation, start):
        give_history(installation, failed=[31], missed=[57, 58], suspect=[3])
        yield start()


def back_up(page: Page) -> str:
    """Press "Back up now" and wait for the outcome; the id of the set."""
    page.get_by_role("button", name="Back up now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("succeeded"))
    text = page.get_by_role("button", name=re.compile("Restore point 2")).text_content() or ""
    return text.split()[-1]


def addresses(set_id: str, run_id: str) -> list[str]:
    """Every kind of page that a login can reach."""
    return [
        "/admin/",
        "/admin/sets",
        f"/admin/sets/{set_id}",
        f"/admin/sets/{set_id}/restore",
        "/admin/runs",
        f"/admin/runs/{run_id}",
        "/admin/prune",
        "/admin/sets/nope",
    ]


def known(page: Page) -> list[str]:
    """`addresses` of the newest set and of a run that failed, read from the page."""
    set_id = page.locator("section:has(#sets-title) tbody th a").nth(3).text_content() or ""
    page.goto(page.url.partition("/admin/")[0] + "/admin/runs")
    failed = page.locator("tr:has(.tag.bad) th a").first.get_attribute("href") or ""
    return addresses(set_id, failed.rpartition("/")[2])


# --- login ------------------------------------------------------------------------------


def test_login_and_logout(app: AppProcess, visit: Visit) -> None:
    """A wrong token is told so, the right one lets in, and a logout ends it."""
    visitor = visit(app)
    page = visitor.open()
    page.get_by_label("Admin token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the admin token.")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Backed up, on this disk only")
    expect(page).to_have_url(f"{app.url}/admin/")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/admin")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Admin token")).to_be_focused()
    assert page.context.cookies() == []


def test_a_login_leads_to_the_page_that_was_asked_for(app: AppProcess, visit: Visit) -> None:
    """Who follows a link to a list arrives there after the login."""
    page = visit(app).log_in("/admin/runs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


# --- what it shows ----------------------------------------------------------------------


def test_the_calendar_has_ninety_days(app: AppProcess, visit: Visit) -> None:
    """Each day has its state in a mark, in a colour, and in words; the words are in the table."""
    page = visit(app).log_in()
    cells = page.locator("table.calendar td[title]")
    expect(cells).to_have_count(DAYS)
    for back, state in ((31, "failed"), (57, "missed"), (3, "suspect"), (4, "proven")):
        day = days_ago(back)
        cell = page.locator(f"table.calendar td.{state}[title^='{day.day} {day:%B}: {state}']")
        expect(cell).to_have_count(1)
        assert cell.locator(".hidden").text_content() == cell.get_attribute("title")


def test_the_chart_is_drawn_from_its_table(app: AppProcess, visit: Visit) -> None:
    """A canvas with the chart, and the same as a table; it is drawn again in other colours."""
    page = visit(app).log_in()
    expect(page.locator("#chart canvas")).to_have_count(1)
    rows = page.locator("#chart-data tbody tr")
    expect(rows.first).to_be_hidden()
    page.get_by_text("As a table").click()
    expect(rows.first).to_be_visible()
    assert rows.count() >= 80
    page.emulate_media(color_scheme="dark")
    expect(page.locator("#chart canvas")).to_have_count(1)


def test_the_countdown_runs(app: AppProcess, visit: Visit) -> None:
    """The time to the next run goes down while one looks at it."""
    page = visit(app).log_in()
    left = page.locator("[data-countdown-to]")
    expect(left).to_have_text(re.compile(r"^\d+:\d\d:\d\d$"))
    before = left.text_content() or ""
    expect(left).not_to_have_text(before)
    assert (left.text_content() or "") < before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(app: AppProcess, visit: Visit, scheme: str) -> None:
    """axe-core finds no fault on any page, in light and in dark."""
    visitor = visit(app, color_scheme=scheme)
    page = visitor.open()
    found = {"login": Axe().run(page).response["violations"]}
    for address in known(visitor.log_in()):
        visitor.open(address)
        found[address] = Axe().run(page).response["violations"]
    assert {
        where: [(one["id"], one["nodes"][0]["html"]) for one in faults]
        for where, faults in found.items()
        if faults
    } == {}


@pytest.mark.parametrize("size", [PHONE, NARROW])
def test_a_phone_needs_no_sideways_scrolling(
    app: AppProcess, visit: Visit, size: dict[str, int]
) -> None:
    """No page is wider than a phone."""
    visitor = visit(app, viewport=size)
    page = visitor.log_in()
    for address in known(page):
        visitor.open(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], address


# --- acting -----------------------------------------------------------------------------


def test_back_up_now_with_live_progress(
    tmp_path: Path, visit: Visit, picture: Picture, s3_server: S3Server, bucket: str
) -> None:
    """The run's page shows its steps, bytes and rate while they happen, then the outcome."""
    make_database(tmp_path / "data" / "orders.db", rows=700, padding=32_768)
    with SlowPipe(s3_server.endpoint) as pipe:
        settings = {
            **spaces(s3_server.settings(bucket, endpoint=pipe.endpoint)),
            "BACKUP_EXTRA_SOURCES": "orders=./data/orders.db",
        }
        with quiet_app(tmp_path, **settings) as (_, start), start() as app:
            page = visit(app).log_in()
            heading = page.get_by_role("heading", level=1)
            expect(heading).to_have_text("Backed up, but nobody is notified of a problem")
            pipe.upload_rate = 1_500_000
            page.get_by_role("button", name="Back up now").click()
            expect(page.get_by_role("status")).to_have_text("Send to the store")
            text = page.locator("[data-live-bytes]")
            expect(text).to_have_text(
                re.compile(r"^orders: [\d.]+ MB of [\d.]+ MB, [\d.]+ [kM]B a second$")
            )
            expect(page.locator("[aria-current=step]")).to_contain_text("Send to the store")
            before = text.text_content() or ""
            expect(text).not_to_have_text(before)
            picture(page, "running")
            pipe.upload_rate = None
            expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("succeeded"))
            expect(page.locator(".steps .done")).to_have_count(6)


def test_a_second_run_is_refused(app: AppProcess, visit: Visit) -> None:
    """While a run is in progress, another is refused with the way to the one that is there."""
    page = visit(app).log_in()
    with app.installation.locked_tokens():
        page.get_by_role("button", name="Back up now").click()
        expect(page.get_by_role("status")).to_have_text("Copy all databases at one instant")
        running = page.url
        page.goto(f"{app.url}/admin/")
        expect(page.get_by_role("status")).to_have_text("Copy all databases at one instant")
        page.get_by_role("button", name="Back up now").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Another run is in progress")
        page.get_by_role("link", name=re.compile("Look at run")).click()
        assert page.url == running
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("succeeded"))


def test_a_run_of_another_process_is_shown(app: AppProcess, visit: Visit) -> None:
    """A run that the command line makes appears on the open page by itself, with its stage."""
    page = visit(app).log_in()
    done = []
    with app.installation.locked_tokens():
        runner = threading.Thread(target=lambda: done.append(app.installation.cli("run")))
        runner.start()
        expect(page.get_by_role("status")).to_have_text("Copy all databases at one instant")
    runner.join()
    assert done[0].returncode == 0
    expect(page.locator("section:has(#runs-title) tbody tr").first).to_contain_text("succeeded")
    expect(page.locator(".live")).to_be_hidden()


def test_restore_with_typed_confirmation(app: AppProcess, visit: Visit) -> None:
    """The plan comes first; only the typed id restores; and an undo puts back what was there."""
    visitor = visit(app)
    page = visitor.log_in()
    set_id = back_up(page)
    page.goto(f"{app.url}/admin/sets/{set_id}")
    page.get_by_role("button", name="Restore…").click()
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible()
    page.get_by_label(re.compile("type")).fill("latest")
    page.get_by_role("button", name="Restore, and replace the live data").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the id. Nothing was changed.")
    page.get_by_label(re.compile("type")).fill(set_id)
    page.get_by_role("button", name="Restore, and replace the live data").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Restore succeeded"))
    page.get_by_role("button", name="Undo…").click()
    page.get_by_role("button", name="Put it back").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Undo succeeded"))


def test_verify_drill_and_prune(app: AppProcess, visit: Visit) -> None:
    """Each is a press of a button, and its outcome is told on the page of its run."""
    visitor = visit(app)
    page = visitor.log_in()
    set_id = back_up(page)
    for address, button, outcome in (
        (f"/admin/sets/{set_id}", "Verify it again", "Verify succeeded"),
        ("/admin/", "Rehearse a restore", "Drill succeeded"),
        ("/admin/prune", "Prune now", "Prune succeeded"),
    ):
        visitor.open(address)
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(outcome))


def test_download(app: AppProcess, visit: Visit) -> None:
    """A stored object arrives as a file of the name and the bytes that it has in the bucket."""
    visitor = visit(app)
    page = visitor.log_in()
    set_id = back_up(page)
    visitor.open(f"/admin/sets/{set_id}")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download tokens").click()
    stored = app.installation.stored(f"backups/{started.value.suggested_filename}")
    assert started.value.path().read_bytes() == stored.read_bytes()


# --- without a mouse, without JavaScript --------------------------------------------------


def tab_to(page: Page, name: str, most: int = 200) -> None:
    """Press Tab until the element with this text has the focus, which must be visible."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
            return [(e.textContent || e.value || "").trim(), s.outlineStyle, s.boxShadow]; }"""
        )
        if focused[0] == name:
            assert focused[1] != "none" or focused[2] != "none", f"no focus is seen on {name}"
            return
    raise AssertionError(f"{name} is not reached with the keyboard")


def test_with_the_keyboard_alone(app: AppProcess, visit: Visit) -> None:
    """Log in, skip to the content, back up, look at the set, come to its restore, and log out."""
    page = visit(app).open()
    page.keyboard.type(ADMIN_TOKEN)  # the field has the focus
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Backed up, on this disk only")
    tab_to(page, "Skip to the content")
    page.keyboard.press("Enter")
    tab_to(page, "Back up now", most=1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("succeeded"))
    link = page.get_by_role("button", name=re.compile("Restore point 2")).text_content() or ""
    tab_to(page, link.strip())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Restore point")
    tab_to(page, "Restore…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Restore 2")
    tab_to(page, "Log out")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Admin token")).to_be_focused()


def test_without_javascript(app: AppProcess, visit: Visit) -> None:
    """All can be read, and all forms work; the page of a run renews itself."""
    visitor = visit(app, java_script_enabled=False)
    page = visitor.log_in()
    expect(page.get_by_role("heading", level=1)).to_have_text("Backed up, on this disk only")
    expect(page.locator("table.calendar td[title]")).to_have_count(DAYS)
    page.get_by_text("As a table").click()
    expect(page.locator("#chart-data tbody tr").first).to_be_visible()
    assert re.search(r"in \d+ h \d+ min", page.locator(".tiles").inner_text())
    set_id = back_up(page)
    visitor.open(f"/admin/sets/{set_id}/restore")
    page.get_by_label(re.compile("type")).fill(set_id)
    page.get_by_role("button", name="Restore, and replace the live data").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Restore succeeded"))
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Admin token")).to_be_visible()
