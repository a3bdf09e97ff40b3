"""The timeline of the last 24 hours, as people point at it: mouse, keyboard, no scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, Picture, Visit, Visitor, quiet_app
from tests.support.app_process import AppProcess
from tests.support.chain_rows import known_of, note_chain, note_differential, store_of
from tests.support.history import give_history

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
WIDTHS = (320, 768, 1400)
NUMBERS = (1, 2, 4, 5)  # 3 is missing


@pytest.fixture(scope="module")
def now() -> datetime:
    """About when the tests run: what they compare is so long ago that it does not matter."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def gap(now: datetime) -> tuple[datetime, datetime]:
    """The last second of a chain that ended, and the first one of the next."""
    return now - 6 * HOUR, now - 6 * HOUR + 25 * MINUTE


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory, now: datetime, gap: tuple[datetime, datetime]
) -> Iterator[AppProcess]:
    """An app with points of 26 hours, a missing one, and a chain that ended."""
    with quiet_app(tmp_path_factory.mktemp("timeline")) as (installation, start):
        newest, older, *_ = give_history(installation)
        ended, begun = gap
        missing, store = now - 15 * HOUR, store_of(installation)
        before = [now - 26 * HOUR, missing, missing + 3 * MINUTE, ended]
        with known_of(installation) as known:
            chain = note_chain(
                known,
                older.id,
                older.instance,
                before,
                numbers=[1, 2, 4, 5],
                end="clock",
                store=store,
            )
            note_differential(known, chain, 4, store)
            note_chain(known, newest.id, newest.instance, [begun, now - 2 * SECOND], store=store)
        yield start()


def the_lane(page: Page) -> Locator:
    """What one points at."""
    return page.get_by_role("slider", name="Last 24 hours")


def opened(visitor: Visitor) -> Page:
    """The overview, with its script at work."""
    page = visitor.log_in()
    expect(the_lane(page)).to_be_visible()
    return page


def chosen(page: Page) -> datetime:
    """The second in the field."""
    value = page.get_by_label("Restore to (UTC)").input_value()
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


def choose(page: Page, at: datetime) -> None:
    """Type a second."""
    page.get_by_label("Restore to (UTC)").fill(f"{at:%Y-%m-%dT%H:%M:%S}")


def spoken(page: Page) -> str:
    """What a screen reader says of the lane; the page shows the same."""
    said = the_lane(page).get_attribute("aria-valuetext") or ""
    expect(page.locator("#timeline-chosen")).to_have_text(said)
    return said


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("ArrowLeft", -SECOND),
        ("ArrowRight", SECOND),
        ("ArrowDown", -MINUTE),
        ("ArrowUp", MINUTE),
        ("PageDown", -HOUR),
        ("PageUp", HOUR),
    ],
)
def test_each_key_is_a_step(
    app: AppProcess, visit: Visit, now: datetime, key: str, step: timedelta
) -> None:
    """Left and right are a second, up and down a minute, the page keys an hour."""
    page = opened(visit(app))
    start = now - 3 * HOUR
    choose(page, start)
    the_lane(page).focus()
    page.keyboard.press(key)
    assert chosen(page) == start + step
    assert re.fullmatch(r"(.*, )?\d\d:\d\d:\d\d can be restored\.", spoken(page))


def test_the_ends(app: AppProcess, visit: Visit) -> None:
    """Home and End are the ends of the day; no key goes beyond them."""
    page = opened(visit(app))
    lane = the_lane(page)
    lane.focus()
    page.keyboard.press("End")
    last = chosen(page)
    page.keyboard.press("ArrowRight")
    assert chosen(page) == last
    page.keyboard.press("Home")
    first = chosen(page)
    page.keyboard.press("PageDown")
    assert chosen(page) == first == last - 24 * HOUR
    assert lane.get_attribute("aria-valuemin") == lane.get_attribute("aria-valuenow") == "0"
    assert lane.get_attribute("aria-valuemax") == "86400"


def test_the_focus_is_seen(app: AppProcess, visit: Visit) -> None:
    """The lane is reached with Tab, and shows that it has the focus."""
    page = opened(visit(app))
    lane = the_lane(page)
    for _ in range(100):
        page.keyboard.press("Tab")
        if lane.evaluate("element => element === document.activeElement"):
            break
    assert lane.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


def test_a_restore_with_the_keyboard_alone(app: AppProcess, visit: Visit) -> None:
    """From the lane Enter leads on: in a gap to the nearest ones, with no plan of its own."""
    page = opened(visit(app))
    lane = the_lane(page)
    lane.focus()
    page.keyboard.press("End")
    for _ in range(6):
        page.keyboard.press("PageDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert "no point, the clock of the host was set back. The nearest before it is" in spoken(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("No point at")
    expect(page.get_by_role("button", name=re.compile("before…"))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("after…"))).to_be_visible()


@pytest.mark.parametrize("minutes", [0, 1, 20, 25])
def test_script_and_server_say_the_same(
    app: AppProcess, visit: Visit, gap: tuple[datetime, datetime], minutes: int
) -> None:
    """Of a second the lane says what the page says that the form leads to."""
    page = opened(visit(app))
    asked = gap[0] + minutes * MINUTE
    choose(page, asked)
    said = spoken(page)
    assert said.endswith(" can be restored.") == (minutes in (0, 25))
    if minutes in (1, 20):
        page.get_by_role("button", name="Show the plan…").click()
        expect(page.get_by_text(f"{said} Nothing is chosen")).to_be_visible()


def test_the_missing_point_is_named(app: AppProcess, visit: Visit, now: datetime) -> None:
    """The list of what cannot be restored has it, and so has the lane."""
    page = opened(visit(app))
    page.get_by_text("What cannot be restored").click()
    listed = page.locator("#timeline-gaps li", has_text="a point is missing in the store")
    expect(listed).to_have_count(1)
    choose(page, now - 15 * HOUR + MINUTE)
    assert "no point, a point is missing in the store." in spoken(page)


def test_pointing(app: AppProcess, visit: Visit, now: datetime) -> None:
    """A press on the day chooses about that time, one on the ten minutes around it the second."""
    page = opened(visit(app))
    day, near = page.locator("#timeline-lane > svg").all()
    day.scroll_into_view_if_needed()
    box = day.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    assert abs(chosen(page) - (now - 12 * HOUR)) < 3 * MINUTE
    about = chosen(page)
    narrow = near.bounding_box()
    assert narrow is not None
    page.mouse.move(narrow["x"] + narrow["width"] / 2, narrow["y"] + 10)
    page.mouse.down()
    page.mouse.move(narrow["x"] + narrow["width"] * 0.7, narrow["y"] + 10, steps=5)
    assert abs(chosen(page) - about - 2 * MINUTE) < 5 * SECOND
    page.mouse.up()
    assert abs(chosen(page) - about - 2 * MINUTE) < 5 * SECOND


def test_without_javascript(
    app: AppProcess, visit: Visit, gap: tuple[datetime, datetime], now: datetime
) -> None:
    """The lane is a picture with words, and a typed second leads on."""
    page = visit(app, java_script_enabled=False).log_in()
    picture = page.get_by_role("img", name=re.compile("^Every second from .* can be restored"))
    expect(picture).to_be_visible()
    expect(page.get_by_role("slider")).to_have_count(0)
    field = page.get_by_label("Restore to (UTC)")
    assert field.get_attribute("step") == "1"
    choose(page, gap[0] + 10 * MINUTE)
    page.get_by_role("button", name="Show the plan…").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("No point at")
    page.get_by_role("button", name=re.compile("10 min 0 s before…")).click()
    asked = f"{gap[0].day} {gap[0]:%b, %H:%M:%S} UTC"
    expect(page.get_by_text(f"You asked for {asked}")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    app: AppProcess, visit: Visit, gap: tuple[datetime, datetime], scheme: str
) -> None:
    """No fault on the overview with a timeline, nor on the page of a second in a gap."""
    visitor = visit(app, color_scheme=scheme)
    page = visitor.log_in()
    asked = gap[0] + MINUTE
    for path in ("/admin/", f"/admin/restore?at={asked:%Y-%m-%dT%H:%M:%S}", "/admin/restore?at=x"):
        visitor.open(path)
        faults = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in faults] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits(app: AppProcess, visit: Visit, gap: tuple[datetime, datetime], width: int) -> None:
    """From a small phone to a wide desk nothing sticks out."""
    visitor: Visitor = visit(app, viewport={"width": width, "height": 740})
    page = visitor.log_in()
    for path in ("/admin/", f"/admin/restore?at={gap[0] + MINUTE:%Y-%m-%dT%H:%M:%S}"):
        visitor.open(path)
        expect(the_lane(page)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        box, field = the_lane(page).bounding_box(), page.locator("#at").bounding_box()
        assert box is not None
        assert field is not None
        assert box["width"] > width * 0.7 - 20
        assert field["x"] + field["width"] <= width


def test_the_picture(app: AppProcess, visit: Visit, picture: Picture, now: datetime) -> None:
    """The timeline for the documents, on a desk and on a phone."""
    narrow = {"width": PHONE["width"], "height": 520}
    for name, size in (("timeline", {"width": 1000, "height": 340}), ("timeline-phone", narrow)):
        page = opened(visit(app, viewport=size))
        choose(page, now - 3 * HOUR)
        page.evaluate("document.getElementById('timeline').scrollIntoView()")
        picture(page, name)
