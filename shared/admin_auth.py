"""The guard of the admin routes: a bearer token, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from fastapi import Request

from shared.errors import AppError


class AdminTokenUnset(AppError):
    """The server has no admin token, so nobody can be let in."""

    code = "admin_token_unset"


class AdminTokenRefused(AppError):
    """The request carries no admin token, or a wrong one; which of the two is not said."""

    code = "unauthorized"


def admin_guard(admin_token: Callable[[Request], str | None]) -> Callable[[Request], None]:
    """A FastAPI dependency that lets a request pass only with `Authorization: Bearer TOKEN`.

    `admin_token` finds the expected token for a request. The dependency raises
    `AdminTokenUnset` or `AdminTokenRefused`; bytes are compared, so that a header with any
    characters is refused and never fails.
    """

    def guard(request: Request) -> None:
        expected = admin_token(request)
        if expected is None:
            raise AdminTokenUnset(
                "ADMIN_TOKEN is not set, so the admin routes are closed",
                "Set ADMIN_TOKEN in .env and restart; make one with: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), expected.encode())
        if scheme.lower() != "bearer" or not right:
            raise AdminTokenRefused(
                "this route needs the admin token",
                "Send the header: Authorization: Bearer $ADMIN_TOKEN",
            )

    return guard
