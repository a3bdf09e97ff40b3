"""What Meta's refusals mean, in our words. Pure.

Source: developers.facebook.com/docs/graph-api, "Handling errors". A refusal is known by its
numbers alone: Meta's own sentences are for developers, and may quote what was sent.
"""

from __future__ import annotations

from typing import Any

from facebook_integration.errors import PageUnavailable, TooMuchData
from shared.merchants.errors import (
    PermissionMissing,
    PlatformError,
    PlatformUnreachable,
    TokenRefused,
)
from shared.merchants.http_client import Answer

CONNECT_AGAIN = "Connect it again: /facebook/login"


def error_of(answer: Answer) -> dict[str, Any]:
    """The error in a refusal; empty without one that has a number."""
    try:
        error = answer.document().get("error")
    except PlatformUnreachable:
        error = None
    return error if isinstance(error, dict) and isinstance(error.get("code"), int) else {}


def refusal(edge: str, code: int | None, subcode: Any, status: int) -> PlatformError:
    """Of a call to this edge, with the numbers of its error, if it has one."""
    if code is None:
        return PlatformUnreachable(f"Meta answered {status} to {edge}", "The app will retry.")
    told = f"Meta refused {edge}: error {code}, subcode {subcode}"
    if code in (102, 190):
        return TokenRefused(f"{told}: the token is no longer valid", CONNECT_AGAIN)
    if code == 100 and subcode == 33:
        return PageUnavailable(
            f"{told}: it does not exist any more, or the person who connected it has no role there",
            "Ask an admin of the Page to connect it again: /facebook/login",
        )
    if code == 1:
        return TooMuchData(f"{told}: a temporary error, or too much at once", "The app will retry.")
    if code == 2:
        return PlatformUnreachable(f"{told}: a temporary error", "The app will retry.")
    if code == 10 or 200 <= code <= 299:
        return PermissionMissing(f"{told}: the permission is missing", CONNECT_AGAIN)
    return PlatformError(told, "See developers.facebook.com/docs/graph-api/guides/error-handling.")
