"""Every setting, read once from the environment and `.env`, checked, and frozen.

Nothing else in the program reads the environment. All faults are reported together.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast
from urllib.parse import urlsplit

from dotenv import dotenv_values

from shared.cipher import TokenCipher
from shared.crontab import Crontab
from shared.errors import SettingsError
from shared.logs import LogFormat
from shared.object_store import key_fault
from shared.spaces_settings import SpacesSettings

T = TypeVar("T")

MOST_SOURCES = 8
MAKE_SECRET = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"  # noqa: S105
MAKE_FERNET_KEY = (
    "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
)
_SPACES_NAMES = (
    "SPACES_API_KEY",
    "SPACES_API_SECRET",
    "SPACES_REGION",
    "SPACES_BUCKET",
    "SPACES_ENDPOINT",
)
_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class KeepSettings:
    """How many of each kind are kept; None is `forever` (of bytes: no limit)."""

    changes_hours: int | None
    all_days: int | None
    daily: int | None
    weekly: int | None
    monthly: int | None
    yearly: int | None
    max_bytes: int | None


@dataclass(frozen=True)
class BackupSettings:
    """What is backed up, when, and where to."""

    schedule: Crontab
    directory: Path
    local_store: Path
    prefix: str
    local_copies: int
    extra_sources: tuple[tuple[str, Path], ...]
    log_directory: Path | None
    compression: Literal["none", "zstd"]
    age_recipients: tuple[str, ...]
    age_identity_file: Path | None
    drill_schedule: Crontab
    restore_on_empty: bool
    change_delay: int
    timeout: int
    keep: KeepSettings
    notify_urls: tuple[str, ...] = field(repr=False)
    heartbeat_url: str | None = field(repr=False)
    notify_success: bool


@dataclass(frozen=True)
class Settings:
    """All settings of one installation. Secrets are left out of its `repr`."""

    token_db_path: Path
    session_db_path: Path
    backup: BackupSettings
    spaces: SpacesSettings | None
    host: str
    port: int
    log_format: LogFormat
    metrics_public: bool
    admin_token: str | None = field(repr=False)
    token_encryption_keys: tuple[str, ...] = field(repr=False)
    state_token_secret: str | None = field(repr=False)


def read_environment(env_file: Path = Path(".env")) -> Mapping[str, str]:
    """The process environment over the lines of `env_file`; blank values count as unset.

    Raises `SettingsError` when there is such a file and it cannot be read.
    """
    try:
        lines = dotenv_values(env_file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError((f"{env_file}: cannot be read: {why}",)) from error
    given = {name: value for name, value in lines.items() if value and value.strip()}
    given.update((name, value) for name, value in os.environ.items() if value.strip())
    return given


def load_settings(values: Mapping[str, str], *, for_app: bool = False) -> Settings:
    """Check `values` (name -> text) and make `Settings` of them.

    With `for_app`, the secrets that only the bot needs must be there too; the backup
    commands run without them. Raises `SettingsError`, which names every wrong variable.
    """
    reader = _Reader(values)
    settings = Settings(
        token_db_path=reader.path("TOKEN_DB_PATH", "./data/tokens.db"),
        session_db_path=reader.path("SESSION_DB_PATH", "./data/sessions.db"),
        backup=_read_backup(reader),
        spaces=_read_spaces(reader),
        host=reader.value("HOST", "127.0.0.1"),
        port=reader.whole("PORT", 5000, 1, 65535),
        log_format=cast(LogFormat, reader.choice("LOG_FORMAT", "human", ("human", "json"))),
        metrics_public=reader.flag("METRICS_PUBLIC"),
        admin_token=reader.secret("ADMIN_TOKEN", 16),
        token_encryption_keys=reader.fernet_keys("TOKEN_ENCRYPTION_KEYS"),
        state_token_secret=reader.secret("STATE_TOKEN_SECRET", 16),
    )
    if for_app:
        if not settings.token_encryption_keys:
            reader.missing("TOKEN_ENCRYPTION_KEYS", MAKE_FERNET_KEY)
        if settings.state_token_secret is None:
            reader.missing("STATE_TOKEN_SECRET", MAKE_SECRET)
    _check_paths(reader, settings)
    if reader.faults:
        raise SettingsError(tuple(dict.fromkeys(reader.faults)))
    return settings


class _Reader:
    """Casts named texts, and collects a line for each that cannot be used."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.faults: list[str] = []

    def fault(self, name: str, why: str) -> None:
        self.faults.append(f"{name}: {why}")

    def missing(self, name: str, command: str) -> None:
        # A malformed one has its line already.
        if not any(line.startswith(f"{name}:") for line in self.faults):
            self.fault(name, f"is not set; make one with: {command}")

    def optional(self, name: str) -> str | None:
        text = self._values.get(name, "").strip()
        return text or None

    def value(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def path(self, name: str, default: str) -> Path:
        return self.parsed(name, default, _parse_path)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        text = self.value(name, str(default))
        # Twenty digits are enough for any of them; Python refuses to read some thousand.
        if re.fullmatch("[0-9]{1,20}", text) and least <= int(text) <= most:
            return int(text)
        self.fault(name, f"is {text!r}, must be a whole number from {least} to {most}")
        return default

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.value(name, default)
        if text in choices:
            return text
        self.fault(name, f"is {text!r}, must be one of: {', '.join(choices)}")
        return default

    def flag(self, name: str) -> bool:
        return self.choice(name, "false", ("true", "false")) == "true"

    def count(self, name: str, default: str) -> int | None:
        text = self.value(name, default)
        if text == "forever":
            return None
        if text.isascii() and text.isdigit() and len(text) <= 15:
            return int(text)
        self.fault(name, f"is {text!r}, must be a whole number, or forever")
        return None

    def parsed(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        text = self.value(name, default)
        try:
            return parse(text)
        except ValueError as error:
            # Someone may have pasted the secret half of a key pair: that is not repeated.
            shown = "is a secret key" if "SECRET" in text.upper() else f"is {text!r}"
            self.fault(name, f"{shown}: {error}")
            return parse(default)

    def secret(self, name: str, least: int) -> str | None:
        text = self.optional(name)
        if text is None:
            return None
        if len(text) < least or not text.isascii() or not text.isprintable() or " " in text:
            why = f"must have at least {least} printable ASCII characters and no space"
            self.fault(name, f"{why}; make one with: {MAKE_SECRET}")
            return None
        return text

    def fernet_keys(self, name: str) -> tuple[str, ...]:
        text = self.optional(name)
        keys = tuple(part.strip() for part in (text or "").split(",") if part.strip())
        try:
            if text is not None:
                TokenCipher(keys)
        except ValueError as error:
            self.fault(name, f"{error}, several separated by commas; make one: {MAKE_FERNET_KEY}")
            return ()
        return keys


def _read_backup(reader: _Reader) -> BackupSettings:
    log_directory = reader.optional("BACKUP_LOG_DIR")
    identity = reader.optional("BACKUP_AGE_IDENTITY_FILE")
    if identity and not Path(identity).expanduser().is_file():
        reader.fault("BACKUP_AGE_IDENTITY_FILE", f"there is no file {identity}")
    return BackupSettings(
        schedule=reader.parsed("BACKUP_SCHEDULE", "0 1 * * *", Crontab),
        directory=reader.path("BACKUP_DIR", "./data/backups"),
        local_store=reader.path("BACKUP_LOCAL_STORE", "./data/spaces"),
        prefix=reader.parsed("BACKUP_PREFIX", "backups/", _parse_prefix),
        local_copies=reader.whole("BACKUP_LOCAL_COPIES", 2, 0, 1000),
        extra_sources=reader.parsed("BACKUP_EXTRA_SOURCES", ",", _parse_extra_sources),
        log_directory=reader.path("BACKUP_LOG_DIR", ".") if log_directory else None,
        compression=cast(
            'Literal["none", "zstd"]', reader.choice("BACKUP_COMPRESSION", "none", ("none", "zstd"))
        ),
        age_recipients=reader.parsed("BACKUP_AGE_RECIPIENTS", ",", _parse_recipients),
        age_identity_file=Path(identity).expanduser() if identity else None,
        drill_schedule=reader.parsed("BACKUP_DRILL_SCHEDULE", "0 3 * * 0", Crontab),
        restore_on_empty=reader.flag("BACKUP_RESTORE_ON_EMPTY"),
        change_delay=reader.whole("BACKUP_CHANGE_DELAY", 60, 0, 86_400),
        timeout=reader.whole("BACKUP_TIMEOUT", 3600, 1, 86_400),
        keep=KeepSettings(
            changes_hours=reader.count("BACKUP_KEEP_CHANGES_HOURS", "24"),
            all_days=reader.count("BACKUP_KEEP_ALL_DAYS", "7"),
            daily=reader.count("BACKUP_KEEP_DAILY", "16"),
            weekly=reader.count("BACKUP_KEEP_WEEKLY", "8"),
            monthly=reader.count("BACKUP_KEEP_MONTHLY", "4"),
            yearly=reader.count("BACKUP_KEEP_YEARLY", "2"),
            max_bytes=reader.count("BACKUP_KEEP_MAX_BYTES", "forever"),
        ),
        notify_urls=_read_notify_urls(reader),
        heartbeat_url=_read_heartbeat_url(reader),
        notify_success=reader.flag("BACKUP_NOTIFY_SUCCESS"),
    )


def _parse_path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no user with that home directory") from None


def _parse_prefix(text: str) -> str:
    prefix = text.rstrip("/")
    if fault := key_fault(prefix):
        raise ValueError(fault)
    if prefix.startswith("."):
        raise ValueError("a prefix does not begin with a dot")
    return f"{prefix}/"


def _parse_extra_sources(text: str) -> tuple[tuple[str, Path], ...]:
    found: dict[str, Path] = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, equals, path = (piece.strip() for piece in part.partition("="))
        if not equals or not path or not _SOURCE_NAME.fullmatch(name):
            raise ValueError("write name=path,name=path; a name is a-z, 0-9 and _, at most 32 long")
        if name in found or name in ("tokens", "sessions"):
            raise ValueError(f"the source {name} is named twice")
        found[name] = _parse_path(path)
    if len(found) > MOST_SOURCES - 2:
        raise ValueError(f"at most {MOST_SOURCES} sources in all, tokens and sessions included")
    return tuple(found.items())


def _parse_recipients(text: str) -> tuple[str, ...]:
    recipients = tuple(part.strip() for part in text.split(",") if part.strip())
    if recipients:
        import pyrage  # noqa: PLC0415 - only who encrypts pays for it

        for recipient in recipients:
            try:
                pyrage.x25519.Recipient.from_str(recipient)
            except pyrage.RecipientError:
                raise ValueError(
                    "age public keys begin with age1, and are separated by commas; "
                    "make a pair with: python -m backups keygen"
                ) from None
    return recipients


def _read_notify_urls(reader: _Reader) -> tuple[str, ...]:
    urls = tuple((reader.optional("BACKUP_NOTIFY_URLS") or "").replace(",", " ").split())
    if urls:
        import apprise  # noqa: PLC0415 - slow to import, and only for who is notified

        wrong = [place for place, url in enumerate(urls, 1) if not apprise.Apprise().add(url)]
        for place in wrong:  # the URL itself is not repeated: it holds a secret
            reader.fault("BACKUP_NOTIFY_URLS", f"number {place} is not a URL that apprise knows")
    return urls


def _read_heartbeat_url(reader: _Reader) -> str | None:
    url = reader.optional("BACKUP_HEARTBEAT_URL")
    if url is not None and not url.startswith(("https://", "http://")):
        reader.fault("BACKUP_HEARTBEAT_URL", "is not an http or https URL")
        return None
    return url


def _read_spaces(reader: _Reader) -> SpacesSettings | None:
    given = {name: reader.optional(name) for name in _SPACES_NAMES}
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
        ca_bundle=reader.optional("SPACES_CA_BUNDLE"),
    )
    if not _BUCKET_NAME.fullmatch(spaces.bucket):
        reader.fault("SPACES_BUCKET", "is not a bucket name (3 to 63 of a-z, 0-9, '-' and '.')")
    if fault := endpoint_fault(spaces):
        reader.fault("SPACES_ENDPOINT", fault)
    if spaces.ca_bundle and not Path(spaces.ca_bundle).is_file():
        reader.fault("SPACES_CA_BUNDLE", f"there is no file {spaces.ca_bundle}")
    return spaces


def endpoint_fault(spaces: SpacesSettings) -> str | None:
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
        return f"has a path behind the host; {right}"
    if host.startswith(f"{spaces.bucket}."):
        return f"has the bucket in it, so objects would be stored as BUCKET/key; {right}"
    if ".cdn." in host:
        return f"is the CDN's address, which only reads; {right}"
    if host.endswith(".digitaloceanspaces.com") and host.split(".")[0] != spaces.region:
        return f"is not in the region {spaces.region} of SPACES_REGION; {right}"
    if parts.scheme == "http" and not _is_loopback(host):
        return "is plain http; only https keeps keys and data secret (http: loopback only)"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_paths(reader: _Reader, settings: Settings) -> None:
    named = {
        "TOKEN_DB_PATH": settings.token_db_path,
        "SESSION_DB_PATH": settings.session_db_path,
        **{f"BACKUP_EXTRA_SOURCES ({name})": path for name, path in settings.backup.extra_sources},
    }
    taken: dict[str, str] = {}
    for name, path in named.items():
        real = os.path.realpath(path)
        if real in taken:
            reader.fault(name, f"names the same file as {taken[real]}")
        taken.setdefault(real, name)
