"""`Walker`: one walk through the page, with a mouse, with the keyboard or without JavaScript."""

from __future__ import annotations

import re
from typing import Literal

from playwright.sync_api import Error, Locator, Page, expect

from tests.browser.conftest import Visit, Visitor
from tests.support.app_process import AppProcess
from tests.support.installation import ADMIN_TOKEN
from tests.support.waiting import eventually

How = Literal["mouse", "keyboard", "no JavaScript"]
HOW: tuple[How, ...] = ("mouse", "keyboard", "no JavaScript")
PHONE_WIDTH = 390
_MOST_TABS = 200

# The name of what has the focus, and whether that is seen.
_FOCUSED = """() => {
    const e = document.activeElement, s = getComputedStyle(e);
    const label = e.labels && e.labels.length ? e.labels[0].textContent : "";
    const seen = s.outlineStyle !== "none" || s.boxShadow !== "none";
    return [(label || e.textContent || e.value || "").trim(), seen];
}"""

# What sticks out, from the outside to the inside.
_TOO_WIDE = """() => [...document.querySelectorAll("main *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth)
    .map(e => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 60))"""


class Walker:
    """Somebody on a phone; each page that they come to must fit it."""

    def __init__(self, visit: Visit, app: AppProcess, how: How) -> None:
        self.how = how
        self._visitor: Visitor = visit(
            app,
            viewport={"width": PHONE_WIDTH, "height": 800},
            java_script_enabled=how != "no JavaScript",
        )
        self.page: Page = self._visitor.page

    def log_in(self, path: str = "/admin/") -> None:
        """Come to a page through the login form."""
        self._visitor.open(path)
        self.type("Admin token", ADMIN_TOKEN)
        self.press("Log in")
        expect(self.page.get_by_role("button", name="Log out")).to_be_visible()

    def open(self, path: str) -> None:
        """Go to a page by its address."""
        self._visitor.open(path)
        self.fits()

    def heading_after_opening(self, path: str) -> str:
        """What a page is about now; empty where it renewed itself while it was opened."""
        try:
            self.open(path)
        except Error as error:
            if "net::ERR_ABORTED" not in error.message:
                raise
            return ""
        return self.page.get_by_role("heading", level=1).text_content() or ""

    def press(self, name: str) -> None:
        """Press a button or follow a link of exactly this name, and look at what comes."""
        if self.how == "keyboard":
            self._tab_to(name)
            with self.page.expect_navigation():
                self.page.keyboard.press("Enter")
        else:
            with self.page.expect_navigation():
                self._named(name).click()
        self.fits()

    def tick(self, label: str) -> None:
        """Tick a box."""
        if self.how == "keyboard":
            self._tab_to(label)
            self.page.keyboard.press("Space")
        else:
            self.page.get_by_label(label).check()

    def type(self, label: str, text: str) -> None:
        """Put this text, and nothing else, into a field."""
        if self.how == "keyboard":
            self._tab_to(label)
            self.page.keyboard.press("Control+A")
            self.page.keyboard.type(text)
        else:
            self.page.get_by_label(label).fill(text)

    def has_heading(self, words: str) -> None:
        """Wait until the page is about this."""
        expect(self.page.get_by_role("heading", level=1)).to_have_text(re.compile(words))
        self.fits()

    def says(self, words: str) -> None:
        """The page says so."""
        expect(self.page.get_by_text(words)).to_be_visible()

    def fits(self) -> None:
        """Nothing sticks out of a phone, as soon as the page has its styles."""
        widths = [0]

        def fits() -> bool:
            try:
                widths.append(int(self.page.evaluate("document.documentElement.scrollWidth")))
            except Error:  # another page comes: that of a run that has ended loads itself anew
                return False
            return widths[-1] <= PHONE_WIDTH

        try:
            eventually(fits, "a page that fits", seconds=15)
        except AssertionError as error:
            found = self.page.url, widths[-1], self.page.evaluate(_TOO_WIDE)
            raise AssertionError(found) from error

    def _named(self, name: str) -> Locator:
        button = self.page.get_by_role("button", name=name, exact=True)
        return button.or_(self.page.get_by_role("link", name=name, exact=True))

    def _tab_to(self, name: str) -> None:
        if self._focused()[0] == name:
            return
        for _ in range(_MOST_TABS):
            self.page.keyboard.press("Tab")
            found, seen = self._focused()
            if found == name:
                assert seen, f"no focus is seen on {name}"
                return
        raise AssertionError(f"{name} is not reached with the keyboard on {self.page.url}")

    def _focused(self) -> tuple[str, bool]:
        name, seen = self.page.evaluate(_FOCUSED)
        return name, seen
