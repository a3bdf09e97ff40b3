"""What Shopify's refusals mean, in our words. Pure.

Source: shopify.dev, "API response status and error codes".
"""

from __future__ import annotations

from typing import Any

from shared.merchants.errors import (
    PermissionMissing,
    PlatformBusy,
    PlatformError,
    PlatformUnreachable,
    TokenRefused,
)
from shared.merchants.http_client import Answer
from shopify_integration.budgets import Cost
from shopify_integration.errors import ShopUnavailable

_SHORTEST_SECONDS = 0.1
_UNAVAILABLE = {
    402: ("is frozen by Shopify", "Its owner has to pay Shopify; then the bot goes on by itself."),
    404: (
        "is not there, or Shopify no longer has the version of the Admin API",
        "Check SHOPIFY_API_VERSION; the bot tries again with each polling.",
    ),
    423: ("is locked by Shopify", "Its owner has to ask Shopify's support to unlock it."),
}


def refusal(shop: str, answer: Answer) -> PlatformError:
    """Of a request with a token."""
    if answer.status in (401, 403):
        kind = PermissionMissing if answer.status == 403 else TokenRefused
        return kind(
            f"{shop} no longer accepts its token ({answer.status})",
            f"Connect it again: /shopify/{shop}/login",
        )
    if answer.status in _UNAVAILABLE:
        why, hint = _UNAVAILABLE[answer.status]
        return ShopUnavailable(f"{shop} {why} ({answer.status})", hint)
    return _passing(shop, answer)


def refusal_of_grant(shop: str, answer: Answer) -> PlatformError:
    """Of a request for a token."""
    if 400 <= answer.status < 500 and answer.status not in (408, 429):
        return TokenRefused(
            f"{shop} issued no token ({answer.status}): the grant was used before, or revoked",
            f"Connect it again: /shopify/{shop}/login",
        )
    return _passing(shop, answer)


def _passing(shop: str, answer: Answer) -> PlatformError:
    """A refusal that may be over soon."""
    wait = answer.retry_after()
    if answer.status == 429 or wait is not None:
        return PlatformBusy(f"{shop} limits the rate of requests", "The app will retry.", wait)
    return PlatformUnreachable(f"{shop} answered {answer.status}", "The app will retry.")


def graphql_error(shop: str, errors: Any, cost: Cost | None) -> PlatformError:
    """Of a query, which is an answer with status 200, and may say what it cost."""
    codes = (
        {(error.get("extensions") or {}).get("code") for error in errors if isinstance(error, dict)}
        if isinstance(errors, list)
        else set()
    )
    if "THROTTLED" in codes:
        wait = max(cost.wait, _SHORTEST_SECONDS) if cost else None
        return PlatformBusy(f"{shop} limits the rate of requests", "The app will retry.", wait)
    if "ACCESS_DENIED" in codes:
        return PermissionMissing(
            f"{shop} did not grant the access that the query needs",
            f"Connect it again: /shopify/{shop}/login",
        )
    if "INTERNAL_SERVER_ERROR" in codes:
        return PlatformUnreachable(f"{shop} had an internal error", "The app will retry.")
    told = str(errors[0].get("message") if codes else errors)[:200]
    return PlatformError(
        f"{shop} refused the query: {told}", "Check SHOPIFY_API_VERSION against the bot's version."
    )
