"""The keys in `tokens.db` of what is stored for a Page; databases have them already."""

from __future__ import annotations

FACEBOOK_USER_ACCESS_TOKEN = "FACEBOOK_USER_ACCESS_TOKEN"  # noqa: S105 - a key, no token
FACEBOOK_ACCESS_TOKEN = "FACEBOOK_ACCESS_TOKEN_"  # noqa: S105 - how a key begins
PAGE_UUID = "PAGE_UUID_"


def facebook_access_token_key(page_id: str) -> str:
    """The key of a Facebook Page's access token."""
    return f"{FACEBOOK_ACCESS_TOKEN}{page_id}"


def facebook_user_access_token_key(user_id: str) -> str:
    """The key of the access token of a Facebook user, by the id that Meta gives our app."""
    return f"{FACEBOOK_USER_ACCESS_TOKEN}_{user_id}"


def page_uuid_key(page_id: str) -> str:
    """The key of the UUID of the user who owns a Facebook Page."""
    return f"{PAGE_UUID}{page_id}"
