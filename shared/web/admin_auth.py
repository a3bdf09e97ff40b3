"""The guard of the admin routes: one token, compared in constant time, and failures slowed down.

The right token is always let in at once, however many wrong ones came before it: nobody can
lock the operator out. What keeps a guesser out is the length of the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute

from shared.errors import AppError
from shared.logs import fields

_MOST_CLIENTS = 1000

_log = logging.getLogger(__name__)


class AdminTokenUnset(AppError):
    """The server has no admin token, so nobody can be let in."""

    code = "admin_token_unset"


class AdminTokenRefused(AppError):
    """The request carries no admin token, or a wrong one; which of the two is not said."""

    code = "unauthorized"


class TooManyFailures(AppError):
    """So many wrong tokens came that more are not welcome for `retry_after` seconds."""

    code = "too_many_failures"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "too many wrong admin tokens were sent",
            f"Try again in {retry_after} s, with the token.",
        )
        self.retry_after = retry_after


# The HTTP statuses of these refusals, and their titles.
ADMIN_STATUSES: tuple[tuple[type[AppError], int, str], ...] = (
    (AdminTokenRefused, 401, "Unauthorized"),
    (TooManyFailures, 429, "Too many wrong tokens"),
    (AdminTokenUnset, 503, "Admin routes are closed"),
)


@dataclass(frozen=True)
class Allowance:
    """How many failures may come at once, and after how many seconds one more may."""

    burst: int
    seconds: float


PER_CLIENT = Allowance(burst=10, seconds=6)
OF_ALL = Allowance(burst=100, seconds=0.6)


class _Bucket:
    def __init__(self, allowance: Allowance, now: float) -> None:
        self._allowance = allowance
        self._left = float(allowance.burst)
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until one more failure is allowed; 0 when it is."""
        gained = (now - self._at) / self._allowance.seconds
        self._left = min(self._left + gained, self._allowance.burst)
        self._at = now
        return max(0.0, (1 - self._left) * self._allowance.seconds)

    def take(self) -> None:
        self._left -= 1


class FailureLimiter:
    """Counts wrong tokens, by client and in all; only the newest clients are remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all = _Bucket(OF_ALL, clock())
        self._clients: OrderedDict[str, _Bucket] = OrderedDict()

    def note(self, client: str) -> None:
        """A wrong token came from `client`; raises `TooManyFailures` when that was one too many."""
        now = self._clock()
        with self._lock:
            bucket = self._clients.setdefault(client, _Bucket(PER_CLIENT, now))
            self._clients.move_to_end(client)
            if len(self._clients) > _MOST_CLIENTS:
                self._clients.popitem(last=False)
            wait = max(bucket.wait(now), self._all.wait(now))
            if wait <= 0:
                bucket.take()
                self._all.take()
                return
        raise TooManyFailures(int(wait) + 1)


def check_token(request: Request, expected: str | None, given: str) -> None:
    """Return if `given` is the token `expected`.

    Raises `AdminTokenUnset`, `AdminTokenRefused`, or `TooManyFailures` after many wrong ones.
    Bytes are compared, so that any characters are refused and never fail.
    """
    if expected is None:
        raise AdminTokenUnset(
            "ADMIN_TOKEN is not set, so the admin routes are closed",
            "Set ADMIN_TOKEN in .env and restart; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    if hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode()):
        return
    if given:  # who sends nothing guesses nothing
        client = _client_of(request)
        _limiter_of(request.app).note(client)
        _log.warning("a wrong admin token was sent", extra=fields(client=client))
    raise AdminTokenRefused(
        "this route needs the admin token", "Send the header: Authorization: Bearer $ADMIN_TOKEN"
    )


def admin_guard(admin_token: Callable[[Request], str | None]) -> Callable[[Request], None]:
    """A FastAPI dependency that lets a request pass only with `Authorization: Bearer TOKEN`.

    `admin_token` finds the expected token for a request. The dependency raises what
    `check_token` raises.
    """

    def guard(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        given = given.strip()
        # Under another scheme even the token itself is wrong.
        check_token(request, admin_token(request), given if scheme.lower() == "bearer" else "")

    return guard


def guarded_by(guard: Callable[[Request], None]) -> type[APIRoute]:
    """A class of routes that ask `guard` before anything of the request is read or checked.

    A dependency would come too late: a body that is no JSON is refused before it is called.
    """

    class GuardedRoute(APIRoute):
        """A route behind the guard."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler, behind the guard."""
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                guard(request)
                return await inner(request)

            return handle

    return GuardedRoute


_making = threading.Lock()


def _limiter_of(app: FastAPI) -> FailureLimiter:
    """The one limiter of an app, for all its guards."""
    with _making:
        found: FailureLimiter | None = getattr(app.state, "admin_failures", None)
        if found is None:
            found = app.state.admin_failures = FailureLimiter()
        return found


def _client_of(request: Request) -> str:
    """Whom a failure is counted against: an address, or the /64 that an IPv6 host has to itself."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return host
