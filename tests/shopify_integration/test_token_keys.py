"""The keys of what is stored for a shop."""

from __future__ import annotations

from shopify_integration import token_keys


def test_the_names_of_keys_are_fixed() -> None:
    """The keys are in people's databases already: their form does not change."""
    assert token_keys.shopify_access_token_key("acme") == "SHOPIFY_ACCESS_TOKEN_acme"
    assert token_keys.user_uuid_key("acme") == "USER_UUID_acme"
