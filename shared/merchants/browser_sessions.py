"""The two cookies of a merchant's browser: its session, and the mark of a login under way."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from fastapi import Request, Response

from shared.databases.binding import is_uuid
from shared.databases.cipher import derived_key
from shared.databases.sessions import LIFETIME, SessionStorage
from shared.merchants.login_state import LIFETIME as LOGIN_LIFETIME

SESSION_COOKIE = "session"
LOGIN_COOKIE = "login"
_HALF = 16
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class SessionIds:
    """Makes session ids that fit one user: 16 random bytes, and 16 of a MAC of these and the UUID.

    So a made-up row of `sessions.db`, which has the hash of an id, gives nobody a user. The keys of
    the MAC are derived from those of the tokens; the first one signs.
    """

    def __init__(self, token_keys: tuple[str, ...]) -> None:
        self._keys = [derived_key(key, b"session id v1") for key in token_keys]

    def new(self, user: str) -> str:
        """A new id for the user."""
        nonce = secrets.token_bytes(_HALF)
        return urlsafe_b64encode(nonce + _mac(self._keys[0], nonce, user)).decode().rstrip("=")

    def fits(self, session_id: str, user: str) -> bool:
        """Whether the id was made for this user, with one of the keys."""
        data = urlsafe_b64decode(session_id + "=")
        nonce, given = data[:_HALF], data[_HALF:]
        return any(hmac.compare_digest(given, _mac(key, nonce, user)) for key in self._keys)


@dataclass(frozen=True)
class BrowserSessions:
    """Reads and sets the cookies: HttpOnly, SameSite=Lax, and Secure unless on localhost."""

    sessions: SessionStorage
    ids: SessionIds
    secure: bool

    def user(self, request: Request) -> str | None:
        """The UUID of the user whose session this browser has, and for whom its id was made."""
        session_id = _cookie(request, SESSION_COOKIE)
        user = self.sessions.lookup(session_id) if session_id else None
        if not session_id or not user or not is_uuid(user) or not self.ids.fits(session_id, user):
            return None
        return user

    def begin_login(self, request: Request, response: Response) -> str:
        """Mark the browser that begins a login; the hash that stands for it in the state.

        A browser that has begun another one keeps its mark, so that both can be finished.
        """
        mark = _cookie(request, LOGIN_COOKIE) or secrets.token_urlsafe(32)
        self._set(response, LOGIN_COOKIE, mark, int(LOGIN_LIFETIME.total_seconds()))
        return _hash(mark)

    def login_mark(self, request: Request) -> str:
        """The hash of this browser's mark; empty, which fits no state, without one."""
        mark = _cookie(request, LOGIN_COOKIE)
        return _hash(mark) if mark else ""

    def finish_login(self, request: Request, response: Response, user: str) -> None:
        """Begin a new session under a new id, and end the one before."""
        before = _cookie(request, SESSION_COOKIE)
        session_id = self.sessions.create(user, self.ids.new(user))
        if before:
            self.sessions.delete(before)
        self._set(response, SESSION_COOKIE, session_id, int(LIFETIME.total_seconds()))
        response.delete_cookie(
            LOGIN_COOKIE, httponly=True, secure=self.secure, samesite="lax", path="/"
        )

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            httponly=True,
            secure=self.secure,
            samesite="lax",
            path="/",
        )


def _cookie(request: Request, name: str) -> str | None:
    value = request.cookies.get(name, "")
    return value if _TOKEN.fullmatch(value) else None


def _mac(key: bytes, nonce: bytes, user: str) -> bytes:
    return hmac.digest(key, nonce + user.encode(), "sha256")[:_HALF]


def _hash(mark: str) -> str:
    return hashlib.sha256(mark.encode()).hexdigest()
