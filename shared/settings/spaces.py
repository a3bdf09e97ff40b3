"""The settings of the bucket: all five, or none."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from shared.settings.reader import SettingReader, is_loopback
from shared.store.spaces_access import SpacesSettings

_SPACES_NAMES = (
    "SPACES_API_KEY",
    "SPACES_API_SECRET",
    "SPACES_REGION",
    "SPACES_BUCKET",
    "SPACES_ENDPOINT",
)
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def read_spaces(reader: SettingReader) -> SpacesSettings | None:
    """The settings of the bucket, or None when all five are unset; faults go to `reader`."""
    given = {name: reader.optional(name) for name in _SPACES_NAMES}
    ca_bundle = reader.optional("SPACES_CA_BUNDLE")
    if not any(given.values()):
        return None
    for name, text in given.items():
        if text is None:
            reader.fault(name, "is not set; set all five SPACES_ settings, or none")
        elif not text.isascii() or not text.isprintable() or " " in text:
            reader.fault(name, "has a space or a character that is not printable ASCII")
    if None in given.values():
        return None
    spaces = SpacesSettings(
        api_key=given["SPACES_API_KEY"] or "",
        api_secret=given["SPACES_API_SECRET"] or "",
        region=given["SPACES_REGION"] or "",
        bucket=given["SPACES_BUCKET"] or "",
        endpoint=(given["SPACES_ENDPOINT"] or "").rstrip("/"),
        ca_bundle=ca_bundle,
    )
    if not _BUCKET_NAME.fullmatch(spaces.bucket):
        reader.fault("SPACES_BUCKET", "is not a bucket name (3 to 63 of a-z, 0-9, '-' and '.')")
    if fault := _endpoint_fault(spaces):
        reader.fault("SPACES_ENDPOINT", fault)
    if spaces.ca_bundle and not Path(spaces.ca_bundle).is_file():
        reader.fault("SPACES_CA_BUNDLE", f"there is no file {spaces.ca_bundle}")
    return spaces


def _endpoint_fault(spaces: SpacesSettings) -> str | None:
    """Why the endpoint cannot be right, as far as that can be seen without the network."""
    right = f"use the region's own address, https://{spaces.region}.digitaloceanspaces.com"
    try:
        parts = urlsplit(spaces.endpoint)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return f"is not a URL; {right}"
    if parts.scheme not in ("https", "http") or not host:
        return f"is not an https URL; {right}"
    if parts.username or parts.password:
        return "has a user name or password in it; keys go into SPACES_API_KEY and _SECRET"
    if parts.path or parts.query or parts.fragment:
        return f"has a path after the host; {right}"
    if host.startswith(f"{spaces.bucket}."):
        return f"has the bucket in it, so objects would be stored as BUCKET/key; {right}"
    if ".cdn." in host:
        return f"is the CDN's address, which is read-only; {right}"
    if host.endswith(".digitaloceanspaces.com") and host.split(".")[0] != spaces.region:
        return f"is not in the region {spaces.region} of SPACES_REGION; {right}"
    if parts.scheme == "http" and not is_loopback(host):
        return "is plain http; only https keeps keys and data secret (http: loopback only)"
    return None
