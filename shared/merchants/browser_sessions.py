"""The two cookies of a merchant's browser: its session, and the mark of a login under way."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from fastapi import Request, Response

from shared.databases.binding import is_uuid
from shared.databases.sessions import LIFETIME, SessionStorage
from shared.merchants.login_state import LIFETIME as LOGIN_LIFETIME

SESSION_COOKIE = "session"
LOGIN_COOKIE = "login"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class BrowserSessions:
    """Reads and sets the cookies: HttpOnly, SameSite=Lax, and Secure unless on localhost."""

    sessions: SessionStorage
    secure: bool

    def user(self, request: Request) -> str | None:
        """The UUID of the user whose session this browser has; anything else is no user."""
        session_id = _cookie(request, SESSION_COOKIE)
        user = self.sessions.lookup(session_id) if session_id else None
        return user if user and is_uuid(user) else None

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
        session_id = self.sessions.create(user)
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


def _hash(mark: str) -> str:
    return hashlib.sha256(mark.encode()).hexdigest()
