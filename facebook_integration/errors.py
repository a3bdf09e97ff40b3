"""The refusals that only Facebook's routes give, and their HTTP statuses."""

from __future__ import annotations

from shared.errors import AppError
from shared.merchants.errors import PlatformError, PlatformUnreachable
from shared.web.problem_handlers import StatusTable


class SessionMissing(AppError):
    """This step needs a session, which connecting a shop begins."""

    code = "session_missing"


class DeletionUnknown(AppError):
    """Nobody asked for a deletion under this code."""

    code = "deletion_unknown"


class PageUnavailable(PlatformError):
    """A Page is gone, or the person who connected it lost their role on it."""

    code = "page_unavailable"


class TooMuchData(PlatformUnreachable):
    """Error 1: something passed wrong at Meta, or too much was asked for at once."""


# 403 and not 401: no `WWW-Authenticate` could help.
FACEBOOK_STATUSES: StatusTable = (
    (SessionMissing, 403, "Connect a shop first"),
    (DeletionUnknown, 404, "No such request"),
)
