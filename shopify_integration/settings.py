"""The settings of the Shopify app, and how they are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.settings.platforms import all_or_none, checked_url, url
from shared.settings.reader import SettingReader

SHOPIFY_NAMES = (
    "SHOPIFY_API_KEY",
    "SHOPIFY_API_SECRET",
    "SHOPIFY_REDIRECT_URI",
    "SHOPIFY_WEBHOOK_ADDRESS",
)


@dataclass(frozen=True)
class ShopifySettings:
    """The Shopify app. `admin_url` has `{shop}` where the shop's domain goes."""

    api_key: str
    api_secret: str = field(repr=False)
    redirect_uri: str
    webhook_address: str
    admin_url: str
    version: str
    scopes: tuple[str, ...]

    @property
    def signing_secret(self) -> str:
        """See `PlatformSettings.signing_secret`."""
        return self.api_secret


def read_shopify(reader: SettingReader) -> ShopifySettings | None:
    """The settings of the Shopify app, or None when they are unset; faults go to `reader`."""
    given = all_or_none(reader, SHOPIFY_NAMES)
    admin_url = url(reader, "SHOPIFY_ADMIN_URL", "https://{shop}")
    if "{shop}" not in admin_url:
        reader.fault("SHOPIFY_ADMIN_URL", "must contain {shop}, where the shop's domain goes")
    version = reader.parsed("SHOPIFY_API_VERSION", "2026-10", _shopify_version)
    scopes = reader.parsed("SHOPIFY_SCOPES", "read_products", _scopes)
    if given is None:
        return None
    api_key, api_secret, redirect_uri, webhook_address = given
    return ShopifySettings(
        api_key=api_key,
        api_secret=api_secret,
        redirect_uri=checked_url(reader, "SHOPIFY_REDIRECT_URI", redirect_uri),
        webhook_address=checked_url(reader, "SHOPIFY_WEBHOOK_ADDRESS", webhook_address),
        admin_url=admin_url,
        version=version,
        scopes=scopes,
    )


def _shopify_version(text: str) -> str:
    if not re.fullmatch(r"20[0-9]{2}-(01|04|07|10)", text):
        raise ValueError("a version of the Admin API looks like 2026-10")
    return text


def _scopes(text: str) -> tuple[str, ...]:
    scopes = tuple(part.strip() for part in text.split(",") if part.strip())
    if not scopes or not all(re.fullmatch("[a-z_]{1,64}", scope) for scope in scopes):
        raise ValueError("write scopes separated by commas, such as read_products")
    return scopes
