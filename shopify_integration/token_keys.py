"""The keys in `tokens.db` of what is stored for a shop; databases have them already."""

from __future__ import annotations

SHOPIFY_ACCESS_TOKEN = "SHOPIFY_ACCESS_TOKEN_"  # noqa: S105 - how a key begins
USER_UUID = "USER_UUID_"


def shopify_access_token_key(shop_key: str) -> str:
    """The key of a shop's access token."""
    return f"{SHOPIFY_ACCESS_TOKEN}{shop_key}"


def user_uuid_key(shop_key: str) -> str:
    """The key of the UUID of the user who owns a shop."""
    return f"{USER_UUID}{shop_key}"
