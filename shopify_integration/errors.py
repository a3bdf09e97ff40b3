"""The refusals that only Shopify's routes give, and their HTTP statuses."""

from __future__ import annotations

from shared.errors import AppError
from shared.merchants.errors import PlatformError
from shared.web.problem_handlers import StatusTable


class ShopInvalid(AppError):
    """This is not the name of a shop."""

    code = "shop_invalid"


class ShopUnavailable(PlatformError):
    """A shop that is frozen, locked or not there: its token may be good, and is kept."""

    code = "shop_unavailable"


SHOPIFY_STATUSES: StatusTable = ((ShopInvalid, 404, "No such shop"),)
