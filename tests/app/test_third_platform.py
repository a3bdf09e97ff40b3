"""A third platform is a package and its place in the list: nothing else has to know it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app import PLATFORMS, read_settings
from shared.errors import SettingsError
from tests.app.third_platform.acme import ACME, NAMES, USER
from tests.support.app_process import AppProcess, free_port
from tests.support.installation import Installation, bot_secrets
from tests.support.waiting import eventually

SECRET = "acme-secret-0123456789"
SETTINGS = {"ACME_SECRET": SECRET, "ACME_REDIRECT_URI": "http://127.0.0.1/acme/callback"}


def start(folder: Path, **settings: str) -> AppProcess:
    """The app with all three, of which one at most is set up."""
    port = free_port()
    installation = Installation(folder, {**bot_secrets(), **settings, "BACKUP_CHANGE_DELAY": "0"})
    served = ["tests.app.third_platform.bot:app", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", *served]
    return AppProcess.start(installation, port=port, command=command)


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """The app with the settings of the third."""
    with start(tmp_path_factory.mktemp("third"), **SETTINGS) as running:
        yield running


@pytest.fixture
def browser(bot: AppProcess) -> Iterator[httpx2.Client]:
    """Somebody who has connected two stores, one of which cannot be polled."""
    with httpx2.Client(base_url=bot.url, timeout=30, trust_env=False) as client:
        for store in ("store-1", "store-lapsed"):
            assert client.get(f"/acme/{store}/login").status_code == 204
        yield client


def stored(bot: AppProcess, name: str) -> Any:
    """A document of the first store, or None."""
    path = bot.installation.stored(f"users/{USER}/acme/store-1/{name}")
    return json.loads(path.read_text()) if path.exists() else None


def faults(settings: dict[str, str]) -> list[str]:
    """Why these settings stop the start."""
    with pytest.raises(SettingsError) as caught:
        read_settings({**bot_secrets(), **settings}, (*PLATFORMS, ACME))
    return list(caught.value.faults)


def test_its_settings_are_read_and_checked() -> None:
    """All or none, each fault named, and its secret signs no login."""
    unset = read_settings(bot_secrets(), (*PLATFORMS, ACME))
    there = read_settings({**bot_secrets(), **SETTINGS}, (*PLATFORMS, ACME))

    assert unset.platforms == {}
    assert unset.cookies_secure
    assert list(there.platforms) == ["acme"]
    assert not there.cookies_secure
    assert faults({"ACME_SECRET": SECRET}) == [
        f"ACME_REDIRECT_URI: is not set; set all of {', '.join(NAMES)}, or none"
    ]
    assert faults({**SETTINGS, "STATE_TOKEN_SECRET": SECRET}) == [
        "STATE_TOKEN_SECRET: has the value of a platform's secret; set another one"
    ]


def test_without_settings_it_is_closed(tmp_path: Path) -> None:
    """As the others are: its routes answer 503 and name what to set."""
    with start(tmp_path) as app, app.client(token=None) as client:
        for path in ("/acme/webhook", "/shopify/webhook", "/facebook/webhook"):
            answer = client.post(path, content=b"{}")
            assert (answer.status_code, answer.json()["code"]) == (503, "platform_unset")
        assert ", ".join(NAMES) in client.get("/acme/store-1/login").json()["hint"]


def test_its_routes_and_refusals_are_those_of_the_app(browser: httpx2.Client) -> None:
    """They are in the OpenAPI document, and its own error has its own status."""
    paths = browser.get("/openapi.json").json()["paths"]
    assert set(paths["/acme/{store}/login"]["get"]["responses"]) == {"200", "404", "422", "503"}

    answer = browser.get("/acme/elsewhere/login")
    assert (answer.status_code, answer.json()["code"]) == (404, "store_unknown")
    assert answer.json()["title"] == "No such store"


def test_its_events_are_worked_on(bot: AppProcess, browser: httpx2.Client) -> None:
    """What its webhook puts into the inbox comes to its `handle`, and a forged one does not."""
    body = json.dumps({"id": "order-1", "store": "store-1"})
    forged = browser.post("/acme/webhook", content=body, headers={"X-Acme-Secret": "guessed"})
    assert forged.status_code == 401

    told = browser.post("/acme/webhook", content=body, headers={"X-Acme-Secret": SECRET})
    assert told.status_code == 200
    eventually(lambda: stored(bot, "orders.json") == ["order-1"], "the work on an event")


def test_it_is_polled(bot: AppProcess, browser: httpx2.Client) -> None:
    """With the others; an account that has to be connected again is shown as that at `/`."""
    with bot.client() as admin:
        assert admin.post("/admin/sync").status_code == 202
    eventually(lambda: "reconnect" in browser.get("/").text, "a polling")

    eventually(lambda: stored(bot, "polled.json") is True, "the other account's, beside it")
    front = browser.get("/").json()
    assert list(front) == ["session", "shops", "pages", "stores", "next"]
    assert front["session"] is True
    assert [(one["account"], one["state"]) for one in front["stores"]] == [
        ("store-1", "connected"),
        ("store-lapsed", "reconnect"),
    ]
    assert front["stores"][1]["reason"] == "Acme refuses the token"


def test_its_lines_are_logged_without_its_secrets(bot: AppProcess, browser: httpx2.Client) -> None:
    """Its logger is one of ours, and what it names is redacted."""
    assert browser.get("/").status_code == 200
    output = bot.output()

    assert "INFO tests.app.third_platform.acme: connected by acme_key=[redacted]" in output
    assert SECRET not in output
