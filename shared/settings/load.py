"""Every setting, read once from the environment and `.env`, checked, and frozen.

Nothing else in the program reads the environment. All faults are reported together.

One file, because the checks of settings against each other need all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

from shared.crontab import Crontab
from shared.databases.engines.address import DatabaseAddress
from shared.errors import SettingsError
from shared.logs import LogFormat
from shared.settings.database import read_database
from shared.settings.env_lines import read_lines
from shared.settings.given import GivenName, GivenSettings
from shared.settings.names import UnknownName, misspelt, unknown_names
from shared.settings.platforms import PlatformSettings, ReadPlatform, is_local
from shared.settings.reader import MAKE_FERNET_KEY, MAKE_SECRET, SettingReader, parse_path
from shared.settings.spaces import CopySettings, read_copy, read_spaces
from shared.store.object_store import key_fault
from shared.store.spaces_access import SpacesSettings

MOST_SOURCES = 8
_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


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
    points_days: int | None


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
    change_delay_is_set: bool
    follow: Literal["auto", "compare", "wal", "off"]
    timeout: int
    keep: KeepSettings
    notify_urls: tuple[str, ...] = field(repr=False)
    heartbeat_url: str | None = field(repr=False)
    notify_success: bool
    run_by: Literal["app", "cron"]


@dataclass(frozen=True)
class Settings:
    """All settings of one installation. Secrets are left out of its `repr`.

    `unknown_names` were given, and look like settings, but none has them.
    """

    token_db_path: Path
    session_db_path: Path
    inbox_db_path: Path
    sync_schedule: Crontab
    inbox_workers: int
    platforms: Mapping[str, PlatformSettings]
    backup: BackupSettings
    spaces: SpacesSettings | None
    copy: CopySettings | None
    database: DatabaseAddress | None
    host: str
    port: int
    shutdown_delay: int
    log_format: LogFormat
    metrics_public: bool
    admin_token: str | None = field(repr=False)
    token_encryption_keys: tuple[str, ...] = field(repr=False)
    state_token_secret: str | None = field(repr=False)
    unknown_names: tuple[UnknownName, ...] = ()

    @property
    def cookies_secure(self) -> bool:
        """Whether cookies go over https alone: always, unless logins come back to localhost."""
        addresses = [platform.redirect_uri for platform in self.platforms.values()]
        return not addresses or not all(map(is_local, addresses))


@dataclass(frozen=True)
class Manager:
    """How systemd wants to hear of this process; sd_notify(3), sd_watchdog_enabled(3)."""

    socket: str | None = None
    watchdog_seconds: float = 0.0
    watched_pid: int | None = None


def read_manager() -> Manager:
    """What the service manager has put into the environment; nothing where there is none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", "")
    return Manager(
        socket=os.environ.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0,
        watched_pid=int(watched) if watched.isdecimal() else None,
    )


def read_called_from() -> Path:
    """The folder that `./bot` was called from, before it went to its own; else the current one."""
    return Path(os.environ.get("BOT_CALLED_FROM", ""))


def read_environment(env_file: Path = Path(".env")) -> GivenSettings:
    """The process environment over the lines of `env_file`; blank values count as unset.

    Raises `SettingsError` when there is such a file and it cannot be read, or has a line that
    cannot be what was meant (`read_lines`).
    """
    try:
        content = env_file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        content = ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError((f"{env_file}: cannot be read: {why}",)) from error
    lines, faults = read_lines(content)
    if faults:
        raise SettingsError(tuple(f"{env_file}, {fault}" for fault in faults))
    return GivenSettings(os.environ, lines)


def load_settings(
    values: Mapping[str, str],
    *,
    for_app: bool = False,
    platforms: Mapping[str, ReadPlatform] = MappingProxyType({}),
) -> Settings:
    """Check `values` (name -> text) and make `Settings` of them.

    With `for_app`, the secrets that only the bot needs must be there too; the backup
    commands run without them. `platforms` has the name of each platform, and what reads its
    settings; those that are set up are in `Settings.platforms`. Raises `SettingsError`, which
    names every wrong variable, and every name that is near one of a setting.
    """
    reader = SettingReader(values)
    given = values if isinstance(values, GivenSettings) else GivenSettings(values)
    spaces = read_spaces(reader)
    database = read_database(reader, spaces)
    settings = Settings(
        token_db_path=reader.path("TOKEN_DB_PATH", "./data/tokens.db"),
        session_db_path=reader.path("SESSION_DB_PATH", "./data/sessions.db"),
        inbox_db_path=reader.path("INBOX_DB_PATH", "./data/inbox.db"),
        sync_schedule=reader.schedule("SYNC_SCHEDULE", "0 2 * * *"),
        inbox_workers=reader.whole("INBOX_WORKERS", 4, 1, 64),
        platforms={
            name: platform for name, read in platforms.items() if (platform := read(reader))
        },
        backup=_read_backup(reader),
        spaces=spaces,
        copy=read_copy(reader, spaces),
        database=database,
        host=reader.value("HOST", "127.0.0.1"),
        port=reader.whole("PORT", 5000, 1, 65535),
        # Without other hosts nothing takes over meanwhile.
        shutdown_delay=reader.whole("SHUTDOWN_DELAY", 0 if database is None else 5, 0, 60),
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
    secrets = [platform.signing_secret for platform in settings.platforms.values()]
    if settings.state_token_secret in secrets:
        reader.fault("STATE_TOKEN_SECRET", "has the value of a platform's secret; set another one")
    _check_names(reader, given)
    if reader.faults:
        raise SettingsError(tuple(dict.fromkeys(reader.faults)))
    return replace(settings, unknown_names=tuple(unknown_names(given, reader.names)))


def _check_names(reader: SettingReader, given: GivenSettings) -> None:
    """Names that are misspelt, and values with what belongs to the file that they came from.

    Their faults come first, and in place of those that follow from them.
    """
    for one in given.everything():
        if one.name in reader.names and (why := _odd_text(one, one.name in reader.schedules)):
            reader.explain(one.name, f"{why} ({one.place})")
    for unknown in misspelt(given, reader.names):
        why = f"is not a setting ({unknown.place}); is {unknown.likely} meant?"
        reader.explain(unknown.name, why, unknown.likely)


def _odd_text(given: GivenName, quotable: bool) -> str | None:
    text = given.text.strip()
    if "\n" in text or "\r" in text:
        return "has a line break in it; is the quote closed on its own line?"
    if given.line is not None:
        return None
    # In `.env` quotes and comments are no part of the text; docker run --env-file leaves both in.
    if text[0] == text[-1] and text[0] in "'\"" and not quotable:
        return "begins and ends with a quote, which is part of the value; remove both quotes"
    if re.search(r"\s#", text):
        return "has a comment at its end, which is part of the value; put it on a line of its own"
    return None


def _read_backup(reader: SettingReader) -> BackupSettings:
    log_directory = reader.optional("BACKUP_LOG_DIR")
    identity = reader.optional("BACKUP_AGE_IDENTITY_FILE")
    identity_file = reader.path("BACKUP_AGE_IDENTITY_FILE", ".") if identity else None
    if identity_file and identity_file != Path() and not identity_file.is_file():
        reader.fault("BACKUP_AGE_IDENTITY_FILE", f"there is no file {identity}")
    return BackupSettings(
        schedule=reader.schedule("BACKUP_SCHEDULE", "0 1 * * *"),
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
        age_identity_file=identity_file,
        drill_schedule=reader.schedule("BACKUP_DRILL_SCHEDULE", "0 3 * * 0"),
        restore_on_empty=reader.flag("BACKUP_RESTORE_ON_EMPTY"),
        change_delay=reader.whole("BACKUP_CHANGE_DELAY", 1, 0, 86_400),
        change_delay_is_set=reader.optional("BACKUP_CHANGE_DELAY") is not None,
        follow=cast(
            'Literal["auto", "compare", "wal", "off"]',
            reader.choice("BACKUP_FOLLOW", "auto", ("auto", "compare", "wal", "off")),
        ),
        timeout=reader.whole("BACKUP_TIMEOUT", 3600, 1, 86_400),
        keep=KeepSettings(
            changes_hours=reader.count("BACKUP_KEEP_CHANGES_HOURS", "24"),
            all_days=reader.count("BACKUP_KEEP_ALL_DAYS", "7"),
            daily=reader.count("BACKUP_KEEP_DAILY", "16"),
            weekly=reader.count("BACKUP_KEEP_WEEKLY", "8"),
            monthly=reader.count("BACKUP_KEEP_MONTHLY", "4"),
            yearly=reader.count("BACKUP_KEEP_YEARLY", "2"),
            max_bytes=reader.count("BACKUP_KEEP_MAX_BYTES", "forever"),
            points_days=reader.count("BACKUP_KEEP_POINTS_DAYS", "7"),
        ),
        notify_urls=_read_notify_urls(reader),
        heartbeat_url=_read_heartbeat_url(reader),
        notify_success=reader.flag("BACKUP_NOTIFY_SUCCESS"),
        run_by=cast(
            'Literal["app", "cron"]', reader.choice("BACKUP_RUN_BY", "app", ("app", "cron"))
        ),
    )


def _parse_prefix(text: str) -> str:
    prefix = text.rstrip("/")
    if fault := key_fault(prefix):
        raise ValueError(fault)
    if prefix.startswith("."):
        raise ValueError("must not begin with a dot")
    if prefix.split("/")[0] == "users":
        raise ValueError(
            "must not be users/: the merchants' documents are there, and are overwritten"
        )
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
        if path[0] in "'\"":
            raise ValueError(f"the path of {name} begins with a quote; remove the quotes")
        found[name] = parse_path(path)
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
                    "make a pair with: ./bot backups keygen"
                ) from None
    return recipients


def _read_notify_urls(reader: SettingReader) -> tuple[str, ...]:
    urls = tuple((reader.optional("BACKUP_NOTIFY_URLS") or "").replace(",", " ").split())
    if urls:
        import apprise  # noqa: PLC0415 - slow to import, and only for who is notified

        wrong = [place for place, url in enumerate(urls, 1) if not apprise.Apprise().add(url)]
        for place in wrong:  # the URL itself is not repeated: it holds a secret
            reader.fault(
                "BACKUP_NOTIFY_URLS", f"URL number {place} is not one that apprise supports"
            )
    return urls


def _read_heartbeat_url(reader: SettingReader) -> str | None:
    url = reader.optional("BACKUP_HEARTBEAT_URL")
    if url is not None and not url.startswith(("https://", "http://")):
        reader.fault("BACKUP_HEARTBEAT_URL", "is not an http or https URL")
        return None
    return url


def _check_paths(reader: SettingReader, settings: Settings) -> None:
    named = {
        "TOKEN_DB_PATH": settings.token_db_path,
        "SESSION_DB_PATH": settings.session_db_path,
        **{f"BACKUP_EXTRA_SOURCES ({name})": path for name, path in settings.backup.extra_sources},
    }
    taken: dict[str | tuple[int, int], str] = {}
    for name, path in named.items():
        real = _file_of(path)
        if real in taken:
            reader.fault(name, f"names the same file as {taken[real]}")
        taken.setdefault(real, name)
    inbox = _file_of(settings.inbox_db_path)  # it may be an extra source
    if taken.get(inbox) in ("TOKEN_DB_PATH", "SESSION_DB_PATH"):
        reader.fault("INBOX_DB_PATH", f"names the same file as {taken[inbox]}")


def _file_of(path: Path) -> str | tuple[int, int]:
    """What two paths to one file have in common: device and inode, which hard links share too.

    The real path of a file that is not there yet, or cannot be reached.
    """
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino
