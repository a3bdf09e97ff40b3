"""What all platforms' settings have in common: all of a platform's, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from shared.settings.reader import SettingReader, is_loopback


class PlatformSettings(Protocol):
    """What the program itself needs of the settings of a platform that is set up."""

    @property
    def redirect_uri(self) -> str:
        """Where the platform sends a merchant's browser back to."""

    @property
    def signing_secret(self) -> str:
        """The key that the platform shares with us; nothing else may be signed with it."""


# The settings of one platform, or None when they are unset; faults go to the reader.
ReadPlatform = Callable[[SettingReader], PlatformSettings | None]


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_local(url: str) -> bool:
    """Whether a URL leads to this host itself, where https is not needed."""
    return is_loopback(urlsplit(url).hostname or "")


def all_or_none(reader: SettingReader, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The texts of these settings; None when all are unset, or with a fault when one is."""
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


def url(reader: SettingReader, name: str, default: str) -> str:
    """The URL of a setting without a slash at its end, or `default`."""
    return checked_url(reader, name, reader.value(name, default).rstrip("/"))


def checked_url(reader: SettingReader, name: str, url: str) -> str:
    """`url` as it is; a fault of the setting `name` unless it is https, or leads to this host."""
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
