"""What is stored for a Page."""

from __future__ import annotations

from facebook_integration import pages


def test_the_names_of_keys_are_fixed() -> None:
    """The keys are in people's databases already: their form does not change."""
    assert pages.FACEBOOK_USER_ACCESS_TOKEN == "FACEBOOK_USER_ACCESS_TOKEN"
    assert pages.facebook_user_access_token_key("9") == "FACEBOOK_USER_ACCESS_TOKEN_9"
    assert pages.facebook_access_token_key("17") == "FACEBOOK_ACCESS_TOKEN_17"
    assert pages.page_uuid_key("17") == "PAGE_UUID_17"
