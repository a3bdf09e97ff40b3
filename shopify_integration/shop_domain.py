"""The name of a shop, checked before any URL is built from it."""

from __future__ import annotations

import re

from shopify_integration.errors import ShopInvalid

_DOMAIN = ".myshopify.com"
_HANDLE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def parse_shop(text: str) -> str:
    """The full domain `handle.myshopify.com` of a handle or a full domain.

    Raises `ShopInvalid`; what a person typed may have capitals.
    """
    handle = text.lower().removesuffix(_DOMAIN)
    if not text.isascii() or not _HANDLE.fullmatch(handle):
        raise ShopInvalid(
            "that is not the name of a Shopify shop",
            "Use the handle before .myshopify.com: a-z, 0-9 and hyphens.",
        )
    return handle + _DOMAIN


def is_shop(domain: str) -> bool:
    """Whether this is a full domain in the one form that is stored."""
    handle, dot, rest = domain.partition(".")
    return bool(_HANDLE.fullmatch(handle)) and dot + rest == _DOMAIN


def shop_key(shop: str) -> str:
    """How a shop is named in the keys of `tokens.db`: `handle_myshopify_com`."""
    return shop.replace(".", "_")


def shop_of_key(key: str) -> str | None:
    """The inverse of `shop_key`; None for what is no shop."""
    shop = key.replace("_", ".")
    return shop if is_shop(shop) else None
