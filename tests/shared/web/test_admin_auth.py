"""The guard of the admin routes, on a small app of its own."""

from __future__ import annotations

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from shared.errors import AppError
from shared.web.admin_auth import (
    OF_ALL,
    PER_CLIENT,
    AdminTokenRefused,
    AdminTokenUnset,
    FailureLimiter,
    TooManyFailures,
    admin_guard,
)

TOKEN = "admin-token-of-24-letters"
STATUS = {AdminTokenRefused: 401, AdminTokenUnset: 503, TooManyFailures: 429}


def client_of(token: str | None) -> TestClient:
    """An app with one guarded route, whose errors say code, message and hint.

    Its limiter's clock stands, so that no slow machine is given more attempts.
    """
    app = FastAPI()
    app.state.token = token
    app.state.admin_failures = FailureLimiter(Time())
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


# --- failures are slowed down -------------------------------------------------------------


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refusals(limiter: FailureLimiter, client: str, times: int) -> list[int]:
    """Note failures; the seconds that each one too many is told to wait."""
    found = []
    for _ in range(times):
        try:
            limiter.note(client)
        except TooManyFailures as error:
            found.append(error.retry_after)
    return found


def test_a_client_has_an_allowance_that_comes_back() -> None:
    """So many failures at once, then one for each span of time, and no more after a long rest."""
    time = Time()
    limiter = FailureLimiter(time)
    assert refusals(limiter, "a", PER_CLIENT.burst) == []
    assert refusals(limiter, "a", 3) == [PER_CLIENT.seconds + 1] * 3
    time.now += PER_CLIENT.seconds / 2
    assert refusals(limiter, "a", 1) == [PER_CLIENT.seconds / 2 + 1]
    time.now += PER_CLIENT.seconds / 2
    assert refusals(limiter, "a", 2) == [PER_CLIENT.seconds + 1]
    time.now += 1_000_000
    assert len(refusals(limiter, "a", PER_CLIENT.burst + 5)) == 5


def test_clients_do_not_use_up_each_others_allowance() -> None:
    """What one sends leaves the others theirs, until all together send too much."""
    limiter = FailureLimiter(Time())
    assert refusals(limiter, "a", PER_CLIENT.burst * 3) != []
    assert refusals(limiter, "b", PER_CLIENT.burst) == []
    for number in range(OF_ALL.burst):
        refusals(limiter, f"c{number}", 1)
    assert refusals(limiter, "somebody else", 1) == [1]


def test_the_limiter_remembers_a_thousand_clients() -> None:
    """However many addresses send failures, memory stays as it is."""
    time = Time()
    limiter = FailureLimiter(time)
    for number in range(5000):
        time.now += OF_ALL.seconds
        limiter.note(f"client {number}")
    assert len(limiter._clients) <= 1000


def test_the_right_token_passes_after_any_number_of_wrong_ones() -> None:
    """Wrong ones become 429 with a time to wait; the right one is let in at once."""
    client = client_of(TOKEN)
    wrong = [client.get("/admin", headers={"Authorization": "Bearer x"}) for _ in range(50)]
    assert [answer.status_code for answer in wrong] == [401] * 10 + [429] * 40
    right = client.get("/admin", headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == 200


def test_no_token_at_all_is_no_guess() -> None:
    """A request without a token is refused each time, and uses up nobody's allowance."""
    client = client_of(TOKEN)
    assert {client.get("/admin").status_code for _ in range(50)} == {401}
    assert client.get("/admin", headers={"Authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("no address", "no address", True),
    ],
)
def test_who_counts_as_one_client(first: str, second: str, same: bool) -> None:
    """An IPv4 address is one client, and so is the /64 that an IPv6 host has to itself."""
    app = client_of(TOKEN).app
    headers = {"Authorization": "Bearer x"}
    for _ in range(20):
        answer = TestClient(app, client=(first, 1)).get("/admin", headers=headers)
    assert answer.status_code == 429
    answer = TestClient(app, client=(second, 1)).get("/admin", headers=headers)
    assert answer.status_code == (429 if same else 401)
