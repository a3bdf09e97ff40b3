"""The guard of the admin routes, on a small app of its own."""

from __future__ import annotations

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from shared.admin_auth import AdminTokenRefused, AdminTokenUnset, admin_guard
from shared.errors import AppError

TOKEN = "admin-token-of-24-letters"
STATUS = {AdminTokenRefused: 401, AdminTokenUnset: 503}


def client_of(token: str | None) -> TestClient:
    """An app with one guarded route, whose errors say code, message and hint."""
    app = FastAPI()
    app.state.token = token
    guard = admin_guard(lambda request: request.app.state.token)

    @app.get("/admin", dependencies=[Depends(guard)])
    def admin() -> str:
        return "let in"

    @app.exception_handler(AppError)
    def tell(_: Request, error: AppError) -> JSONResponse:
        document = {"code": error.code, "message": error.message, "hint": error.hint}
        return JSONResponse(document, STATUS[type(error)])

    return TestClient(app)


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer  {TOKEN} "]
)
def test_the_token_lets_in(header: str) -> None:
    """`Authorization: Bearer TOKEN` passes; the scheme has no case, as HTTP says."""
    answer = client_of(TOKEN).get("/admin", headers={"Authorization": header})

    assert (answer.status_code, answer.json()) == (200, "let in")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        f"Bearer {TOKEN}x".encode(),
        f"Bearer {TOKEN[:-1]}".encode(),
        f"Bearer {TOKEN.upper()}".encode(),
        f"Bearer {TOKEN} {TOKEN}".encode(),
        f"Basic {TOKEN}".encode(),
        f"Bearer: {TOKEN}".encode(),
        TOKEN.encode(),
        "Bearer schlüssel".encode(),
        b"Bearer \xff\xfe",
        b"Bearer None",
    ],
)
def test_anything_else_is_refused_alike(header: bytes) -> None:
    """No token, a wrong one and bytes that are no text get the same answer, without the token."""
    client = client_of(TOKEN)

    refused = client.get("/admin", headers={b"Authorization": header})

    assert refused.status_code == 401
    assert refused.json() == client.get("/admin").json()
    assert refused.json()["code"] == "unauthorized"
    assert TOKEN not in refused.text


@pytest.mark.parametrize("header", [None, f"Bearer {TOKEN}", "Bearer ", "Bearer None"])
def test_without_a_token_of_its_own_the_server_lets_nobody_in(header: str | None) -> None:
    """Unset means closed, never open, and the answer says how to set one."""
    headers = {"Authorization": header} if header else {}

    answer = client_of(None).get("/admin", headers=headers)

    assert answer.status_code == 503
    assert answer.json()["code"] == "admin_token_unset"
    assert "ADMIN_TOKEN" in answer.json()["hint"]


def test_the_token_is_looked_up_for_each_request() -> None:
    """The guard asks for the expected token when a request comes, not when it is built."""
    client = client_of(None)
    app = client.app
    assert isinstance(app, FastAPI)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/admin", headers=headers).status_code == 503

    app.state.token = TOKEN

    assert client.get("/admin", headers=headers).status_code == 200
