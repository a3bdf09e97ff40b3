"""The settings of the Meta app, and how they are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.settings.platforms import all_or_none, checked_url, origin, url
from shared.settings.reader import SettingReader

FACEBOOK_NAMES = (
    "FACEBOOK_APP_ID",
    "FACEBOOK_APP_SECRET",
    "FACEBOOK_REDIRECT_URI",
    "FACEBOOK_WEBHOOK_ADDRESS",
    "FACEBOOK_VERIFY_TOKEN",
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
    config_id: str

    @property
    def public_url(self) -> str:
        """Scheme and host under which browsers reach this app."""
        return origin(self.redirect_uri)

    @property
    def signing_secret(self) -> str:
        """See `PlatformSettings.signing_secret`."""
        return self.app_secret


def read_facebook(reader: SettingReader) -> FacebookSettings | None:
    """The settings of the Meta app, or None when they are unset; faults go to `reader`."""
    given = all_or_none(reader, FACEBOOK_NAMES)
    graph_url = url(reader, "FACEBOOK_GRAPH_URL", "https://graph.facebook.com")
    dialog_url = url(reader, "FACEBOOK_DIALOG_URL", "https://www.facebook.com")
    version = reader.parsed("FACEBOOK_GRAPH_VERSION", "v26.0", _graph_version)
    config_id = reader.parsed("FACEBOOK_CONFIG_ID", "", _config_id)
    if given is None:
        return None
    app_id, app_secret, redirect_uri, webhook_address, verify_token = given
    return FacebookSettings(
        app_id=app_id,
        app_secret=app_secret,
        redirect_uri=checked_url(reader, "FACEBOOK_REDIRECT_URI", redirect_uri),
        webhook_address=checked_url(reader, "FACEBOOK_WEBHOOK_ADDRESS", webhook_address),
        verify_token=verify_token,
        graph_url=graph_url,
        dialog_url=dialog_url,
        version=version,
        config_id=config_id,
    )


def _config_id(text: str) -> str:
    if not re.fullmatch(r"[0-9]{0,32}", text):
        raise ValueError("the id of a configuration is a number")
    return text


def _graph_version(text: str) -> str:
    if not re.fullmatch(r"v[0-9]{1,3}\.[0-9]", text):
        raise ValueError("a version of the Graph API looks like v26.0")
    return text
