"""A real Chromium for the page, and what each walk needs: `make test-browser`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.app_process import AppProcess
from tests.support.history import SESSIONS, TOKENS, quiet_settings
from tests.support.installation import ADMIN_TOKEN, REPOSITORY, Installation, bot_secrets

PATIENCE_MILLISECONDS = 20_000
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1000, "height": 860}
SCREENSHOTS = REPOSITORY / "docs" / "screenshots"
MOST_BYTES = 150_000

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "there is no chromium; install it, or run: make test-browser"
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


class Visitor:
    """A browser window on one app; `faults` collects what must not happen in it."""

    def __init__(self, context: BrowserContext, app: AppProcess) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MILLISECONDS)
        self.app = app
        self.faults: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", lambda request: self._on_request(request.url))

    def _on_console(self, message: object) -> None:
        text, kind = str(message.text), str(message.type)  # type: ignore[attr-defined]
        expected = "Failed to load resource" in text  # a 401 or 409, which the tests look at
        if kind in ("error", "warning") and not expected:
            self.faults.append(f"console: {text}")

    def _on_request(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.app.url).netloc and not url.startswith("data:"):
            self.faults.append(f"request: {url}")

    def open(self, path: str = "/admin/") -> Page:
        """Go to a page of the app."""
        self.page.goto(f"{self.app.url}{path}")
        return self.page

    def log_in(self, path: str = "/admin/") -> Page:
        """Go to a page of the app, through the login form."""
        self.open(path)
        self.page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("button", name="Log out")).to_be_visible()
        return self.page


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open windows: `visit(app, width=…)` with what Playwright's `new_context` takes.

    Whatever a test does: no request leaves the host, no script fails, no policy is violated.
    """
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    def open_window(app: AppProcess, **options: object) -> Visitor:
        chosen = {"viewport": DESK, "reduced_motion": "reduce", **options}
        context = browser.new_context(**chosen)
        contexts.append(context)
        visitors.append(Visitor(context, app))
        return visitors[-1]

    yield open_window
    for context in contexts:
        context.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []


Picture = Callable[[Page, str], None]


@pytest.fixture
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Picture:
    """Take the picture of a page; it goes into the documents only when that is asked for."""
    renew = request.config.getoption("--screenshots")

    def take(page: Page, name: str) -> None:
        path = (SCREENSHOTS if renew else tmp_path) / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < MOST_BYTES

    return take


@contextmanager
def quiet_app(
    folder: Path, **settings: str
) -> Iterator[tuple[Installation, Callable[[], AppProcess]]]:
    """An installation that makes no backup by itself, and the way to start its app."""
    chosen = {**bot_secrets(), **quiet_settings(), **settings}
    installation = Installation(folder, chosen).make_databases(TOKENS, SESSIONS)
    started: list[AppProcess] = []

    def start() -> AppProcess:
        started.append(AppProcess.start(installation))
        return started[-1]

    try:
        yield installation, start
    finally:
        for app in started:
            app.stop()
            assert "Traceback" not in app.output(), app.output()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--screenshots` renews the pictures in docs/screenshots."""
    parser.addoption("--screenshots", action="store_true", help="renew docs/screenshots")
