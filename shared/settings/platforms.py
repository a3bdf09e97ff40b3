"""The settings of the two platforms: all of a platform's, or none."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from shared.settings.reader import SettingReader, is_loopback

FACEBOOK_NAMES = (
    "FACEBOOK_APP_ID",
    "FACEBOOK_APP_SECRET",
    "FACEBOOK_REDIRECT_URI",
    "FACEBOOK_WEBHOOK_ADDRESS",
    "FACEBOOK_VERIFY_TOKEN",
)
SHOPIFY_NAMES = (
    "SHOPIFY_API_KEY",
    "SHOPIFY_API_SECRET",
    "SHOPIFY_REDIRECT_URI",
    "SHOPIFY_WEBHOOK_ADDRESS",
)


@dataclass(frozen=True)
class FacebookSettings:
    """The Meta app. Its secrets are left out of its `repr`."""

    app_id: str
    app_secret: str = field(repr=False)
    redirect_uri: str
    webhook_address: str
    verify_token: str = field(repr=False)
    graph_url: str
    dialog_url: str
    version: str

    @property
    def public_url(self) -> str:
        """Scheme and host under which browsers reach this app."""
        return origin(self.redirect_uri)


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


def read_facebook(reader: SettingReader) -> FacebookSettings | None:
    """The settings of the Meta app, or None when they are unset; faults go to `reader`."""
    given = _all_or_none(reader, FACEBOOK_NAMES)
    graph_url = _url(reader, "FACEBOOK_GRAPH_URL", "https://graph.facebook.com")
    dialog_url = _url(reader, "FACEBOOK_DIALOG_URL", "https://www.facebook.com")
    version = reader.parsed("FACEBOOK_GRAPH_VERSION", "v26.0", _graph_version)
    if given is None:
        return None
    app_id, app_secret, redirect_uri, webhook_address, verify_token = given
    return FacebookSettings(
        app_id=app_id,
        app_secret=app_secret,
        redirect_uri=_checked_url(reader, "FACEBOOK_REDIRECT_URI", redirect_uri),
        webhook_address=_checked_url(reader, "FACEBOOK_WEBHOOK_ADDRESS", webhook_address),
        verify_token=verify_token,
        graph_url=graph_url,
        dialog_url=dialog_url,
        version=version,
    )


def read_shopify(reader: SettingReader) -> ShopifySettings | None:
    """The settings of the Shopify app, or None when they are unset; faults go to `reader`."""
    given = _all_or_none(reader, SHOPIFY_NAMES)
    admin_url = _url(reader, "SHOPIFY_ADMIN_URL", "https://{shop}")
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
        redirect_uri=_checked_url(reader, "SHOPIFY_REDIRECT_URI", redirect_uri),
        webhook_address=_checked_url(reader, "SHOPIFY_WEBHOOK_ADDRESS", webhook_address),
        admin_url=admin_url,
        version=version,
        scopes=scopes,
    )


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_local(url: str) -> bool:
    """Whether a URL leads to this host itself, where https is not needed."""
    return is_loopback(urlsplit(url).hostname or "")


def _all_or_none(reader: SettingReader, names: tuple[str, ...]) -> tuple[str, ...] | None:
    given = {name: reader.optional(name) for name in names}
    if not any(given.values()):
        return None
    for name, text in given.items():
        if text is None:
            reader.fault(name, f"is not set; set all of {', '.join(names)}, or none")
        elif not text.isascii() or not text.isprintable() or " " in text:
            reader.fault(name, "has a space or a character that is not printable ASCII")
    if None in given.values():
        return None
    return tuple(text or "" for text in given.values())


def _url(reader: SettingReader, name: str, default: str) -> str:
    return _checked_url(reader, name, reader.value(name, default).rstrip("/"))


def _checked_url(reader: SettingReader, name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http"):
        reader.fault(name, "is not an https URL")
    elif parts.username or parts.password or parts.query or parts.fragment:
        reader.fault(name, "has a user name, a query or a fragment in it")
    elif parts.scheme == "http" and not is_loopback(host):
        reader.fault(name, "is plain http; use https (http: loopback only)")
    return url


def _graph_version(text: str) -> str:
    if not re.fullmatch(r"v[0-9]{1,3}\.[0-9]", text):
        raise ValueError("a version of the Graph API looks like v26.0")
    return text


def _shopify_version(text: str) -> str:
    if not re.fullmatch(r"20[0-9]{2}-(01|04|07|10)", text):
        raise ValueError("a version of the Admin API looks like 2026-10")
    return text


def _scopes(text: str) -> tuple[str, ...]:
    scopes = tuple(part.strip() for part in text.split(",") if part.strip())
    if not scopes or not all(re.fullmatch("[a-z_]{1,64}", scope) for scope in scopes):
        raise ValueError("write scopes separated by commas, such as read_products")
    return scopes
