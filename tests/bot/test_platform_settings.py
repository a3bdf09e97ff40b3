"""The settings of the two platforms: all or none, and each fault named."""

from __future__ import annotations

import pytest

from app import PLATFORMS
from facebook_integration.settings import FacebookSettings
from shared.errors import SettingsError
from shared.settings.load import Settings, load_settings
from shopify_integration.settings import ShopifySettings

FACEBOOK = {
    "FACEBOOK_APP_ID": "1234567890",
    "FACEBOOK_APP_SECRET": "app-secret-0123456789",
    "FACEBOOK_REDIRECT_URI": "https://bot.example/facebook/callback",
    "FACEBOOK_WEBHOOK_ADDRESS": "https://bot.example/facebook/webhook",
    "FACEBOOK_VERIFY_TOKEN": "verify-token-0123456789",
}
SHOPIFY = {
    "SHOPIFY_API_KEY": "api-key-0123456789",
    "SHOPIFY_API_SECRET": "api-secret-0123456789",
    "SHOPIFY_REDIRECT_URI": "https://bot.example/shopify/callback",
    "SHOPIFY_WEBHOOK_ADDRESS": "https://bot.example/shopify/webhook",
}
BOTH = {**FACEBOOK, **SHOPIFY}


def load(values: dict[str, str]) -> Settings:
    """As the app does, but without the secrets of its own."""
    return load_settings(values, platforms={one.name: one.read_settings for one in PLATFORMS})


def set_up(values: dict[str, str]) -> tuple[FacebookSettings, ShopifySettings]:
    """The settings of both."""
    platforms = load(values).platforms
    facebook, shopify = platforms["facebook"], platforms["shopify"]
    assert isinstance(facebook, FacebookSettings)
    assert isinstance(shopify, ShopifySettings)
    return facebook, shopify


def faulty(values: dict[str, str]) -> list[str]:
    """The names of the settings that cannot be used, each once."""
    with pytest.raises(SettingsError) as caught:
        load(values)
    names = [fault.partition(":")[0] for fault in caught.value.faults]
    assert len(names) == len(set(names))
    return names


def test_without_them_both_platforms_are_unset() -> None:
    """Blank is unset too: the backups run all the same."""
    for values in ({}, dict.fromkeys(BOTH, " ")):
        settings = load(values)
        assert settings.platforms == {}


def test_defaults_are_the_real_platforms() -> None:
    """Addresses, versions and scopes as of today; they can be moved by settings."""
    facebook, shopify = set_up(BOTH)

    assert facebook.graph_url == "https://graph.facebook.com"
    assert facebook.dialog_url == "https://www.facebook.com"
    assert facebook.version == "v26.0"
    assert facebook.public_url == "https://bot.example"
    assert shopify.admin_url == "https://{shop}"
    assert shopify.version == "2026-10"
    assert shopify.scopes == ("read_products",)


@pytest.mark.parametrize("name", BOTH)
def test_a_half_set_platform_is_a_fault_of_what_is_missing(name: str) -> None:
    """Naming it; the other platform does not matter."""
    assert faulty({other: value for other, value in BOTH.items() if other != name}) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FACEBOOK_APP_SECRET", "with a space"),
        ("FACEBOOK_VERIFY_TOKEN", "käse"),
        ("SHOPIFY_API_SECRET", "zwei Worte"),
        ("FACEBOOK_CONFIG_ID", "my-config"),
        ("FACEBOOK_GRAPH_VERSION", "26.0"),
        ("FACEBOOK_GRAPH_VERSION", "v26.0/../x"),
        ("FACEBOOK_GRAPH_URL", "graph.facebook.com"),
        ("FACEBOOK_GRAPH_URL", "http://graph.facebook.com"),
        ("FACEBOOK_GRAPH_URL", "https://"),
        ("FACEBOOK_GRAPH_URL", "https://host:port"),
        ("FACEBOOK_GRAPH_URL", "https://[::1"),
        ("FACEBOOK_DIALOG_URL", "ftp://www.facebook.com"),
        ("FACEBOOK_REDIRECT_URI", "http://bot.example/facebook/callback"),
        ("FACEBOOK_REDIRECT_URI", "https://bot.example/facebook/callback#x"),
        ("FACEBOOK_WEBHOOK_ADDRESS", "https://user:word@bot.example/"),
        ("SHOPIFY_REDIRECT_URI", "https://bot.example/?a=b"),
        ("SHOPIFY_WEBHOOK_ADDRESS", "bot.example"),
        ("SHOPIFY_ADMIN_URL", "https://admin.example"),
        ("SHOPIFY_API_VERSION", "2026-11"),
        ("SHOPIFY_API_VERSION", "unstable"),
        ("SHOPIFY_SCOPES", ","),
        ("SHOPIFY_SCOPES", "read products"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    """Alone, once, and without repeating a secret."""
    assert faulty({**BOTH, name: value}) == [name]
    if "SECRET" in name or "TOKEN" in name:
        with pytest.raises(SettingsError) as caught:
            load({**BOTH, name: value})
        assert value not in str(caught.value.faults)


def test_a_stand_in_on_this_host_needs_no_https() -> None:
    """That is how the tests, and a developer, run it."""
    facebook, shopify = set_up(
        {
            **BOTH,
            "FACEBOOK_GRAPH_URL": "http://127.0.0.1:9000/",
            "SHOPIFY_ADMIN_URL": "http://localhost:9001/shops/{shop}",
            "SHOPIFY_SCOPES": "read_products, read_orders",
        }
    )

    assert facebook.graph_url == "http://127.0.0.1:9000"
    assert shopify.scopes == ("read_products", "read_orders")


def test_secrets_are_not_in_the_text_of_the_settings() -> None:
    """Neither are they in a traceback that shows the settings."""
    shown = repr(load(BOTH))

    for name in ("FACEBOOK_APP_SECRET", "FACEBOOK_VERIFY_TOKEN", "SHOPIFY_API_SECRET"):
        assert BOTH[name] not in shown
