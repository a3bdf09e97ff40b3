"""The settings of a bucket: all five, or none; and of the second one, which gets copies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.settings.reader import SettingReader, is_loopback
from shared.store.spaces_access import SettingNames, SpacesSettings

_FIELDS = ("API_KEY", "API_SECRET", "REGION", "BUCKET", "ENDPOINT")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_DO_HOST = ".digitaloceanspaces.com"


@dataclass(frozen=True)
class CopySettings:
    """The second place: its bucket, after how many seconds what is new is copied, how many days
    each object is locked (0: not), and how many Mbit/s copying takes at the most (0: no limit)."""

    bucket: SpacesSettings
    every: int
    lock_days: int
    mbit: int


def read_spaces(reader: SettingReader, names: SettingNames = "SPACES") -> SpacesSettings | None:
    """The settings of a bucket, or None when all five are unset; faults go to `reader`."""
    given = {field: reader.optional(f"{names}_{field}") for field in _FIELDS}
    ca_bundle = reader.optional(f"{names}_CA_BUNDLE")
    if not any(given.values()):
        return None
    for field, text in given.items():
        if text is None:
            reader.fault(f"{names}_{field}", f"is not set; set all five {names}_ settings, or none")
        elif not text.isascii() or not text.isprintable() or " " in text:
            reader.fault(
                f"{names}_{field}", "has a space or a character that is not printable ASCII"
            )
    if None in given.values():
        return None
    spaces = SpacesSettings(
        api_key=given["API_KEY"] or "",
        api_secret=given["API_SECRET"] or "",
        region=given["REGION"] or "",
        bucket=given["BUCKET"] or "",
        endpoint=(given["ENDPOINT"] or "").rstrip("/"),
        ca_bundle=ca_bundle,
        names=names,
    )
    if not _BUCKET_NAME.fullmatch(spaces.bucket):
        reader.fault(f"{names}_BUCKET", "is not a bucket name (3 to 63 of a-z, 0-9, '-' and '.')")
    if fault := _endpoint_fault(spaces):
        reader.fault(f"{names}_ENDPOINT", fault)
    if spaces.ca_bundle and not Path(spaces.ca_bundle).is_file():
        reader.fault(f"{names}_CA_BUNDLE", f"there is no file {spaces.ca_bundle}")
    return spaces


def read_copy(reader: SettingReader, spaces: SpacesSettings | None) -> CopySettings | None:
    """The settings of the second place, or None; `spaces` is the first one."""
    every = reader.whole("COPY_EVERY", 3600, 60, 86_400)
    lock_days = reader.whole("COPY_LOCK_DAYS", 0, 0, 36_500)
    mbit = reader.whole("COPY_MBIT", 0, 0, 100_000)
    bucket = read_spaces(reader, "COPY")
    if bucket is None:
        return None
    if spaces is not None:
        if (bucket.endpoint, bucket.bucket) == (spaces.endpoint, spaces.bucket):
            reader.fault("COPY_BUCKET", "is the bucket of SPACES_BUCKET; a copy needs another one")
        elif (bucket.endpoint, bucket.api_key) == (spaces.endpoint, spaces.api_key):
            reader.fault(
                "COPY_API_KEY",
                "is the key of SPACES_API_KEY; who steals one must not have the other: make a key "
                "for the second bucket alone, best at another provider",
            )
    return CopySettings(bucket, every, lock_days, mbit)


def _endpoint_fault(spaces: SpacesSettings) -> str | None:
    """Why the endpoint cannot be right, as far as that can be seen without the network."""
    right = f"use the region's own address, https://{spaces.region}{_DO_HOST}"
    if spaces.names == "COPY":
        right = "use the region's own address at the provider"
    try:
        parts = urlsplit(spaces.endpoint)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return f"is not a URL; {right}"
    names = spaces.names
    if parts.scheme not in ("https", "http") or not host:
        return f"is not an https URL; {right}"
    if parts.username or parts.password:
        return f"has a user name or password in it; keys go into {names}_API_KEY and _SECRET"
    if parts.path or parts.query or parts.fragment:
        return f"has a path after the host; {right}"
    if host.startswith(f"{spaces.bucket}."):
        return f"has the bucket in it, so objects would be stored as BUCKET/key; {right}"
    if ".cdn." in host:
        return f"is the CDN's address, which is read-only; {right}"
    if host.endswith(_DO_HOST) and host.split(".")[0] != spaces.region:
        return f"is not in the region {spaces.region} of {names}_REGION; {right}"
    if parts.scheme == "http" and not is_loopback(host):
        return "is plain http; only https keeps keys and data secret (http: loopback only)"
    return None
