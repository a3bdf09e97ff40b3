"""What a shop has granted: its access token, until when, and how to get the next one.

One row of `tokens.db` holds all of it, so that a refresh is one atomic write. Rows that are
a bare token, from before tokens expired, are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.clock import format_utc, parse_utc
from shared.databases.binding import is_token
from shared.merchants.errors import PlatformError

# Shopify's answer would come too late for a token that ends while it is being used.
EARLY = timedelta(minutes=5)


@dataclass(frozen=True)
class Grant:
    """An access token; `expires_at` is None for one that stays.

    `granted_at` is when the merchant connected the shop, None if that was not noted.
    """

    access_token: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    refresh_token: str | None = field(default=None, repr=False)
    granted_at: datetime | None = None

    def is_stale(self, now: datetime) -> bool:
        """Whether it has to be refreshed before it is used."""
        return self.expires_at is not None and now >= self.expires_at - EARLY


def grant_of_answer(answer: Mapping[str, Any], now: datetime) -> Grant:
    """The grant in an answer of `/admin/oauth/access_token`; raises `PlatformError`."""
    token, scope = answer.get("access_token"), answer.get("scope", "")
    seconds, refresh_token = answer.get("expires_in"), answer.get("refresh_token")
    if not isinstance(token, str) or not token or not isinstance(scope, str):
        raise PlatformError("Shopify's answer has no access token in it")
    return Grant(
        access_token=token,
        scopes=tuple(part.strip() for part in scope.split(",") if part.strip()),
        expires_at=now + timedelta(seconds=seconds) if isinstance(seconds, int) else None,
        refresh_token=refresh_token if isinstance(refresh_token, str) else None,
        granted_at=now,
    )


def grant_to_text(grant: Grant) -> str:
    """What is stored, encrypted, for a grant."""
    return json.dumps(
        {
            "access_token": grant.access_token,
            "scopes": grant.scopes,
            "expires_at": format_utc(grant.expires_at) if grant.expires_at else None,
            "refresh_token": grant.refresh_token,
            "granted_at": format_utc(grant.granted_at) if grant.granted_at else None,
        }
    )


def grant_of_text(text: str) -> Grant:
    """The inverse of `grant_to_text`; a bare token is one that stays."""
    if not text.startswith("{"):
        return Grant(text)
    found = json.loads(text)
    return Grant(
        access_token=found["access_token"],
        scopes=tuple(found["scopes"]),
        expires_at=parse_utc(found["expires_at"]) if found["expires_at"] else None,
        refresh_token=found["refresh_token"],
        granted_at=parse_utc(found["granted_at"]) if found["granted_at"] else None,
    )


def is_grant(text: str) -> bool:
    """Whether a text is a whole grant, or a bare token, which has one word and is no UUID."""
    if not text.startswith("{"):
        return is_token(text)
    try:
        grant = grant_of_text(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    refresh = grant.refresh_token
    return (
        is_token(grant.access_token)
        and (refresh is None or is_token(refresh))
        and all(isinstance(scope, str) for scope in grant.scopes)
    )


def missing_scopes(wanted: tuple[str, ...], granted: tuple[str, ...]) -> list[str]:
    """What of `wanted` was not granted; the right to write includes that to read."""
    have = set(granted) | {scope.replace("write_", "read_", 1) for scope in granted}
    return [scope for scope in wanted if scope not in have]
