"""The refusals that only Shopify's routes give, and their HTTP statuses."""

from __future__ import annotations

from shared.errors import AppError
from shared.web.problem_handlers import StatusTable


class ShopInvalid(AppError):
    """This is not the name of a shop."""

    code = "shop_invalid"


SHOPIFY_STATUSES: StatusTable = ((ShopInvalid, 404, "No such shop"),)
