"""The HTTP statuses of the bot's refusals: the table that all platforms share."""

from __future__ import annotations

from typing import Any

from shared.errors import AppError, DatabaseUnreachable, HostLeaving
from shared.merchants.errors import (
    BodiesTooMany,
    BodyMalformed,
    BodyTooLarge,
    BodyTooSlow,
    LoginDenied,
    LoginRefused,
    PermissionMissing,
    PlatformError,
    PlatformUnset,
    RequestUnproven,
    SignatureWrong,
)
from shared.web.problem_handlers import StatusTable, documented

# 403 and not 401 where no `WWW-Authenticate` could help.
PLATFORM_STATUSES: StatusTable = (
    (PlatformUnset, 503, "This platform is not set up"),
    (LoginRefused, 403, "The login cannot be finished"),
    (LoginDenied, 403, "Nothing was connected"),
    (PermissionMissing, 403, "A permission is missing"),
    (SignatureWrong, 401, "The signature does not match"),
    (BodyTooLarge, 413, "The body is too large"),
    (BodyTooSlow, 408, "The body came too slowly"),
    (BodiesTooMany, 503, "Too many requests at once"),
    (BodyMalformed, 400, "The body is malformed"),
    (DatabaseUnreachable, 503, "The database cannot be reached"),
    (HostLeaving, 503, "This host is about to stop"),
    (RequestUnproven, 503, "The request is kept, and not backed up yet"),
    (PlatformError, 502, "The platform failed"),
)

# What a route with a signed body refuses.
WEBHOOK_REFUSALS: tuple[type[AppError], ...] = (
    SignatureWrong,
    BodyTooLarge,
    BodyTooSlow,
    BodiesTooMany,
    BodyMalformed,
    RequestUnproven,
)


def refusals(*kinds: type[AppError], own: StatusTable = ()) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a platform's route that refuses with these errors.

    `own` is the table of the errors that only this platform has.
    """
    return documented((*own, *PLATFORM_STATUSES), PlatformUnset, *kinds)
