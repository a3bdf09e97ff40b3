"""Every refusal is a problem document for a program, and a plain page for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import pytest
from fastapi import FastAPI
from fastapi.exceptions import HTTPException
from starlette.testclient import TestClient

from shared.errors import AppError
from shared.merchants.errors import LoginDenied, PlatformError, TokenRefused
from shared.web.admin_auth import AdminTokenRefused
from shared.web.problem_handlers import add_problem_handlers, documented

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TABLE = (
    (AdminTokenRefused, 401, "Unauthorized"),
    (LoginDenied, 403, "Nothing was connected"),
    (TokenRefused, 403, "Connect again"),
    (PlatformError, 502, "The platform failed"),
)
ERRORS: dict[str, Exception] = {
    "denied": LoginDenied("no login", "Connect a shop first."),
    "token": TokenRefused("expired", "Connect it again."),
    "platform": PlatformError("<b>refused</b>", "Look & see."),
    "guarded": AdminTokenRefused("no token", "Send it."),
    "other": AppError("something else", "A hint."),
    "http": HTTPException(405, "Method Not Allowed", {"Allow": "GET"}),
    "fault": ZeroDivisionError("a secret in a traceback"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """An app whose only route, `/{name}`, fails; `/admin/{name}` too."""
    app = FastAPI()

    def fail(name: str, number: int = 0) -> None:
        raise ERRORS[name]

    for path in ("/{name}", "/admin/{name}", "/admin/backups/{name}"):
        app.add_api_route(path, fail, methods=["GET"])
    add_problem_handlers(app, TABLE)
    with TestClient(app, raise_server_exceptions=False) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "status", "title", "code"),
    [
        ("denied", 403, "Nothing was connected", "login_denied"),
        ("token", 403, "Connect again", "reconnect"),
        ("platform", 502, "The platform failed", "platform_error"),
        ("guarded", 401, "Unauthorized", "unauthorized"),
        ("other", 500, "The request failed", AppError.code),
        ("http", 405, "Method Not Allowed", "http"),
        ("fault", 500, "The request failed", "internal_error"),
        ("denied?number=x", 422, "The request is not valid", "bad_request"),
    ],
)
def test_a_program_reads_a_problem_document(
    client: TestClient, name: str, status: int, title: str, code: str
) -> None:
    """RFC 9457, with our code and hint; the most particular class of the table counts."""
    answer = client.get(f"/{name}")

    document = answer.json()
    assert answer.status_code == document["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (document["title"], document["code"]) == (title, code)
    assert document["type"].endswith(code)
    assert set(document) == {"type", "title", "status", "detail", "code", "hint"}
    assert "secret" not in answer.text


@pytest.mark.parametrize("name", ERRORS)
def test_a_browser_gets_a_page(client: TestClient, name: str) -> None:
    """The same status and sentences, escaped, without scripts, not to be kept or framed."""
    answer = client.get(f"/{name}", headers=BROWSER)
    document = client.get(f"/{name}").json()

    assert answer.status_code == document["status"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert escape(document["detail"]) in answer.text
    assert "<b>" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_routes_for_programs_answer_documents_to_browsers_too(client: TestClient) -> None:
    """Those of the backups; the page beside them is for people."""
    answer = client.get("/admin/backups/denied", headers=BROWSER)
    assert answer.headers["content-type"] == "application/problem+json"

    answer = client.get("/admin/denied", headers=BROWSER)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "home"), [("/admin/no/thing", "/admin/"), ("/no/thing", "/"), ("/administer/x", "/")]
)
def test_an_address_without_a_page_is_a_page_with_a_way_back(
    client: TestClient, path: str, home: str
) -> None:
    """A browser shows a sentence and a link; a program still reads a problem document."""
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == 404
    assert "<h1>There is no such page</h1>" in answer.text
    assert f'<a href="{home}">' in answer.text
    assert "openapi" not in answer.text
    document = client.get(path)
    assert document.headers["content-type"] == "application/problem+json"
    assert document.json()["status"] == 404


def test_headers_of_a_refusal_are_sent(client: TestClient) -> None:
    """How to authenticate, and which methods there are, to both."""
    for headers in ({}, BROWSER):
        assert client.get("/guarded", headers=headers).headers["www-authenticate"] == "Bearer"
        assert client.get("/http", headers=headers).headers["allow"] == "GET"


def test_the_documentation_of_a_table_names_each_status() -> None:
    """With all titles that it has, or those of some errors; and that of parameters."""
    assert {status: one["description"] for status, one in documented(TABLE).items()} == {
        401: "Unauthorized",
        403: "Nothing was connected; Connect again",
        422: "The request is not valid",
        502: "The platform failed",
    }
    assert list(documented(TABLE, TokenRefused)) == [403, 422]
