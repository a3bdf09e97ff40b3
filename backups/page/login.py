"""Logins to the page: a signed cookie, and the tokens that its forms must carry.

The key is made of `ADMIN_TOKEN` and `STATE_TOKEN_SECRET`, so changing either ends every login.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from itsdangerous import BadSignature, Signer, TimestampSigner

from backups.errors import FormRefused

COOKIE = "backup_admin"
PATH = "/admin"
LIFETIME_SECONDS = 12 * 3600
_DIGEST = hashlib.sha256
_LOOPBACK_NAMES = ("localhost", "::1")


@dataclass(frozen=True)
class Login:
    """A login that is in force: its id, and what its forms must carry."""

    id: str
    form_token: str

    def check_form(self, given: str) -> None:
        """Return if `given` is the form token; raises `FormRefused`."""
        if not hmac.compare_digest(given.encode(errors="replace"), self.form_token.encode()):
            raise FormRefused(
                "the form was not made for this login", "Go back to the page, and try again."
            )


class LoginSeal:
    """Makes and reads the cookies of one pair of secrets; `clock` gives Unix seconds."""

    def __init__(
        self,
        admin_token: str,
        state_token_secret: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        key = hmac.digest(state_token_secret.encode(), admin_token.encode(), _DIGEST)
        self._cookies = _ClockSigner(clock, key, "admin page cookie")
        self._forms = Signer(key, "admin page form", digest_method=_DIGEST, key_derivation="hmac")

    def new_cookie(self) -> str:
        """The value of a cookie for a new login."""
        return self._cookies.sign(secrets.token_urlsafe(16)).decode()

    def read(self, cookie: str) -> Login | None:
        """The login of a cookie; None when it is forged, cut, expired, or of other secrets."""
        try:
            login_id = self._cookies.unsign(cookie, max_age=LIFETIME_SECONDS).decode()
        except (BadSignature, ValueError):
            return None
        return Login(login_id, self._forms.get_signature(login_id.encode()).decode())


class _ClockSigner(TimestampSigner):
    def __init__(self, clock: Callable[[], float], key: bytes, salt: str) -> None:
        super().__init__(key, salt, digest_method=_DIGEST, key_derivation="hmac")
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


def set_cookie(request: Request, response: Response, value: str) -> None:
    """Give the browser the cookie of a login."""
    response.set_cookie(value=value, max_age=LIFETIME_SECONDS, **_attributes(request))


def clear_cookie(request: Request, response: Response) -> None:
    """Take the cookie away again."""
    response.delete_cookie(**_attributes(request))


def _attributes(request: Request) -> dict[str, Any]:
    return {
        "key": COOKIE,
        "path": PATH,
        "httponly": True,
        "samesite": "strict",
        "secure": needs_https(request),
    }


def needs_https(request: Request) -> bool:
    """Whether a browser may send the cookie over https only: anywhere but on this host itself."""
    host = request.url.hostname or ""
    loopback = host in _LOOPBACK_NAMES or host.startswith("127.")
    return request.url.scheme == "https" or not loopback
