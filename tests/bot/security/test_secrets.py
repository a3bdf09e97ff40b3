"""Secrets stay inside: no answer and no stored document carries one, and no log shows one."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.bot.conftest import new_shop
from tests.support.app_process import AppProcess
from tests.support.bot import Bot
from tests.support.installation import (
    ADMIN_TOKEN,
    REPOSITORY,
    STATE_TOKEN_SECRET,
    TOKEN_ENCRYPTION_KEY,
    Installation,
)
from tests.support.logging_process import LINES, LOGGERS
from tests.support.merchant import Merchant, value_in
from tests.support.waiting import eventually

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

# The server's own handlers, and one for the rest of the world that shows all it is given.
LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(levelprefix)s %(message)s"},
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(client_addr)s - "%(request_line)s" %(status_code)s',
        },
        "plain": {"format": "%(levelname)s %(name)s %(message)s"},
    },
    "handlers": {
        name: {"class": "logging.StreamHandler", "formatter": name}
        for name in ("default", "access", "plain")
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "DEBUG", "propagate": False},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "botocore": {"level": "INFO"},  # slow, and of the store
        "s3transfer": {"level": "INFO"},
        "urllib3": {"level": "INFO"},
    },
    "root": {"handlers": ["plain"], "level": "DEBUG"},
}


@dataclass(frozen=True)
class Told:
    """A whole story in one process: what it printed, wrote, and answered, and what was secret."""

    log_format: str
    output: str
    log_files: Sequence[Path]
    merchant: Merchant
    deliveries: Sequence[str]
    secrets: frozenset[str]  # what no answer may carry
    passing: frozenset[str]  # what browsers have to carry, and no log may show


@pytest.fixture(scope="module", params=["human", "json"])
def told(
    lasting_bot: Bot, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Told]:
    """Everything that the bot does with a secret, while every logger is at its most talkative."""
    folder = tmp_path_factory.mktemp(f"story-{request.param}")
    config = folder / "logging.json"
    config.write_text(json.dumps(LOG_CONFIG))
    installation = Installation(
        folder,
        {
            **lasting_bot.installation.settings,
            "LOG_FORMAT": request.param,
            "BACKUP_LOG_DIR": str(folder / "logs"),
            "UVICORN_LOG_CONFIG": str(config),
        },
    )
    with AppProcess.start(installation) as app, Merchant(app.url) as merchant:
        deliveries = tell(lasting_bot, app, merchant)
        app.stop()
        secrets = {
            *lasting_bot.graph.issued(),
            *lasting_bot.shopify.issued(),
            STATE_TOKEN_SECRET,
            TOKEN_ENCRYPTION_KEY,
            ADMIN_TOKEN,
            installation.settings["SPACES_API_SECRET"],
        }
        passing = {value_in(one, "hmac") for one in merchant.callbacks if "hmac=" in one}
        passing |= {*merchant.states, *merchant.cookies.values()}
        files = [file for file in (folder / "logs").rglob("*") if file.is_file()]
        yield Told(
            request.param,
            app.output(),
            files,
            merchant,
            deliveries,
            frozenset(secrets),
            frozenset(passing),
        )


def tell(bot: Bot, app: AppProcess, merchant: Merchant) -> list[str]:
    """The story; what the bot answered to the platforms."""
    graph, shopify = bot.graph, bot.shopify
    shop, page, customer = new_shop(bot), graph.add_page(), "7001002003"
    shopify.put_product(shop, title="Emmentaler", deliver=False)
    graph.user_grants([page])
    graph.user_refuses()
    answers: list[str] = []

    # Logins: one that works, one denied, one forged, one whose code was used, one that breaks.
    merchant.connect_shop(shop)
    assert merchant.get(merchant.begin_pages()).status_code == 403
    merchant.connect_pages()
    used = merchant.callbacks[-1]
    state = value_in(merchant.begin_pages(), "state")
    again = f"/facebook/callback?{urlencode({'code': value_in(used, 'code'), 'state': state})}"
    assert merchant.get(again).status_code == 502
    graph.fail("oauth", 100, message=f"access_token={graph.page_token(page)} is bad")
    assert merchant.get(merchant.begin_pages()).status_code == 502
    graph.cut("oauth", times=2)
    assert merchant.get(merchant.begin_pages()).status_code == 502
    assert merchant.get(used).status_code == 403
    merchant.connect_pages()
    merchant.get("/", headers={"Accept": "text/html"})

    # Webhooks, right and wrong, and the verification of their address.
    hook = f"{app.url}/facebook/webhook"
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    said = graph.customer_says(page, customer, "Grüezi", at, deliver=False)
    for signature in ("valid", "wrong"):
        answers += [
            one.text for one in graph.send_webhook([said.event], signature=signature, url=hook)
        ]
        sent = shopify.send_webhook(
            shop, "shop/update", signature=signature, url=f"{app.url}/shopify/webhook"
        )
        answers += [one.text for one in sent.deliveries]
    for token in (graph.verify_token, "wrong"):
        asked = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1"}
        merchant.get("/facebook/webhook", params=asked)
    for path in ("/facebook/deauthorize", "/facebook/data-deletion"):
        answers.append(graph.request_deletion(url=f"{app.url}{path}", user_id="123").text)
        answers.append(
            graph.request_deletion(url=f"{app.url}{path}", user_id="123", signature="wrong").text
        )

    # Polling with tokens that have to be renewed, and with answers that break off.
    shopify.expire_access_token(shop)
    graph.rotate_page_token(page)
    graph.cut("page")
    poll(app)

    # The secrets of all that, in requests that nobody asked for.
    secrets = (*graph.issued(), *shopify.issued())
    names = ("access_token", "client_secret", "refresh_token", "appsecret_proof", "signed_request")
    for number in range(0, len(secrets), 20):
        query = [(names[place % 5], secret) for place, secret in enumerate(secrets[number:][:20])]
        merchant.get(f"/?{urlencode(query)}")
        merchant.get(f"/shopify/login?shop=x&{urlencode(query)}")
    merchant.get(f"/?back={quote(f'https://bot.example{used}', safe='')}")
    merchant.post("/facebook/deauthorize", params={"signed_request": secrets[0]})

    # The admin's side.
    assert merchant.post("/admin/backups/run?wait=true", headers=ADMIN).status_code == 200
    for path in ("", "/status", "/sets", "/runs", "/doctor", "/prune"):
        assert merchant.get(f"/admin/backups{path}", headers=ADMIN).status_code == 200
    for path in ("/openapi.json", "/healthz", "/metrics", "/none"):
        merchant.get(path)
    assert [one["state"] for one in merchant.front()["pages"]] == ["connected"]
    return answers


def poll(app: AppProcess) -> None:
    """Ask for a polling, and wait until it is over."""

    def count() -> int:
        return len(re.findall(r'polled accounts=|"message": "polled"', app.output()))

    before = count()
    with app.client() as client:
        assert client.post("/admin/sync").status_code == 202
    eventually(lambda: count() > before, "a polling")


# --- answers and documents ------------------------------------------------------------------


def test_no_answer_carries_a_secret(told: Told) -> None:
    """No status line, header, redirect or body of the whole story has a token in it."""
    answers = told.merchant.answers
    assert len(answers) > 30
    assert {200, 302, 303, 401, 403, 502} <= {one.status_code for one in answers}
    texts = [f"{one.reason_phrase} {one.headers.raw!r} {one.text}" for one in answers]
    for text in (*texts, *told.deliveries):
        assert not [secret for secret in told.secrets if secret in text], text


def test_no_stored_document_carries_a_secret(told: Told, lasting_bot: Bot) -> None:
    """Neither what is stored of merchants nor the databases in backups have one to be read."""
    secrets = [one.encode() for one in (*told.secrets, *told.passing)]
    keys = lasting_bot.keys("")
    assert any(key.startswith("users/") for key in keys)
    assert any(key.startswith("backups/sessions_") for key in keys)
    for key in keys:
        sink = io.BytesIO()
        lasting_bot.store.get(key, sink)
        assert not [one for one in secrets if one in sink.getvalue()], key


# --- logs -----------------------------------------------------------------------------------


def test_no_log_shows_a_secret(told: Told) -> None:
    """Tokens, codes, signatures, states and session ids are in no line, whoever wrote it."""
    for secret in (*told.secrets, *told.passing):
        for form in {secret, quote(secret, safe="")}:
            assert form not in told.output, f"{form} is in: {lines_with(told.output, form)}"
    assert told.log_files
    for file in told.log_files:
        text = file.read_text()
        assert "stored" in text
        assert not [one for one in (*told.secrets, *told.passing) if one in text], file


def test_the_story_was_logged(told: Told) -> None:
    """The lines that had secrets in them are there, so that the test above proves something."""
    for told_of in (
        "GET /shopify/callback?code=[redacted]&",
        "hmac=[redacted]&",
        "state=[redacted]",
        "hub.verify_token=[redacted]",
        "client_secret=[redacted]",
        "appsecret_proof=[redacted]",
        "fb_exchange_token=[redacted]",
        "input_token=[redacted]",
        "signed_request=[redacted]",
        "INFO httpx2 HTTP Request: GET http",
        "DEBUG httpcore2",
    ):
        assert told_of in told.output, told_of
    ours = [line for line in told.output.splitlines() if "facebook_integration" in line]
    assert ours
    assert all(line.startswith("{") == (told.log_format == "json") for line in ours)


def lines_with(output: str, text: str) -> list[str]:
    """The lines that hold a text."""
    return [line[:2000] for line in output.splitlines() if text in line][:3]


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_every_logger_of_the_process_is_redacted(tmp_path: Path, log_format: str) -> None:
    """Ours, the server's, the client's, and those without a handler; tracebacks as well."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.logging_process", log_format, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    output = done.stdout + done.stderr + (tmp_path / "all.log").read_text()
    assert "SECRET" not in output, lines_with(output, "SECRET")
    assert output.count("Traceback") >= 2 * len(LOGGERS) * len(LINES)
    assert "GET /a?access_token=[redacted]&code=[redacted]" in output
