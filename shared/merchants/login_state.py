"""The `state` of an OAuth login: signed, ten minutes old at most, good for one use.

Signed is not secret: it names the user only by a hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from shared.clock import Clock
from shared.merchants.errors import LoginRefused
from shared.merchants.inbox import Provider

LIFETIME = timedelta(minutes=10)
_SALT = "oauth-state"


@dataclass(frozen=True)
class Login:
    """Who may finish a login: at which platform, for which account, in which browser.

    `account` is empty where it is not known before. `user` is the UUID of the
    session, or empty without one; `browser` is a hash of the browser's login cookie.
    """

    provider: Provider
    account: str
    user: str
    browser: str


class StateTokens:
    """Issues states, and redeems each once.

    `use_up` takes a nonce and the time after which it cannot come back, and answers whether
    it is the first to do so. Raises `ValueError` for an empty secret, with which anybody signs.
    """

    def __init__(self, secret: str, use_up: Callable[[str, datetime], bool], clock: Clock) -> None:
        if not secret:
            raise ValueError("the secret that signs login states is empty")
        self._serializer = URLSafeTimedSerializer(
            secret, salt=_SALT, signer=_ClockSigner, signer_kwargs={"clock": clock}
        )
        self._use_up = use_up
        self._clock = clock

    def issue(self, login: Login) -> str:
        """A state for a login that begins now."""
        document = {**_signed(login), "nonce": secrets.token_urlsafe(16)}
        return str(self._serializer.dumps(document))

    def redeem(self, state: str, login: Login) -> None:
        """Raise `LoginRefused` unless `state` was issued for `login` and comes for the first time.

        One that does not fit is not used up: who steals it cannot spoil it.
        """
        try:
            document = self._serializer.loads(state, max_age=int(LIFETIME.total_seconds()))
        except BadData:
            raise _refused() from None
        if not isinstance(document, dict) or not _same(document, login):
            raise _refused()
        if not self._use_up(str(document.get("nonce")), self._clock.now() + LIFETIME):
            raise _refused()


def _same(document: dict[str, Any], login: Login) -> bool:
    return all(
        hmac.compare_digest(str(document.get(name)).encode(), value.encode())
        for name, value in _signed(login).items()
    )


def _signed(login: Login) -> dict[str, str]:
    """What a state says: of the user a hash, because it passes through browsers and logs."""
    hashed = hashlib.sha256(f"user:{login.user}".encode()).hexdigest() if login.user else ""
    return {**asdict(login), "user": hashed}


def _refused() -> LoginRefused:
    return LoginRefused(
        "this login cannot be finished: it began more than ten minutes ago, in another browser, "
        "for another account, or was finished before",
        "Begin again on the first page.",
    )


class _ClockSigner(TimestampSigner):
    """Signs with the time of our clock."""

    def __init__(self, *arguments: Any, clock: Clock, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._clock = clock

    def get_timestamp(self) -> int:
        """Seconds since the epoch."""
        return int(self._clock.now().timestamp())
