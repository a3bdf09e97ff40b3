"""The refusals that only Facebook's routes give, and their HTTP statuses."""

from __future__ import annotations

from shared.errors import AppError
from shared.web.problem_handlers import StatusTable


class DeletionUnknown(AppError):
    """Nobody asked for a deletion under this code."""

    code = "deletion_unknown"


FACEBOOK_STATUSES: StatusTable = ((DeletionUnknown, 404, "No such request"),)
