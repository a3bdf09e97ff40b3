"""The HTTP statuses of the bot's refusals: one table for both platforms, and its documentation."""

from __future__ import annotations

from typing import Any

from shared.errors import AppError
from shared.merchants.errors import (
    BodyMalformed,
    BodyTooLarge,
    DeletionUnknown,
    LoginDenied,
    LoginRefused,
    PermissionMissing,
    PlatformError,
    PlatformUnset,
    SessionMissing,
    ShopInvalid,
    SignatureWrong,
)
from shared.web.problem_handlers import StatusTable, documented

# 403 and not 401 where no `WWW-Authenticate` could help.
PLATFORM_STATUSES: StatusTable = (
    (PlatformUnset, 503, "This platform is not set up"),
    (ShopInvalid, 404, "No such shop"),
    (SessionMissing, 403, "Connect a shop first"),
    (LoginRefused, 403, "The login cannot be finished"),
    (LoginDenied, 403, "Nothing was connected"),
    (PermissionMissing, 403, "A permission is missing"),
    (SignatureWrong, 401, "The signature does not match"),
    (BodyTooLarge, 413, "The body is too large"),
    (BodyMalformed, 400, "The body is malformed"),
    (DeletionUnknown, 404, "No such request"),
    (PlatformError, 502, "The platform failed"),
)


def refusals(*kinds: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route of a platform that refuses with these errors."""
    return documented(PLATFORM_STATUSES, PlatformUnset, *kinds)
