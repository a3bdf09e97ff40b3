"""The doctor's own examination, once, after the settings were changed.

What is remembered of a setting is a keyed hash (HMAC-SHA256) under a key derived from the first
token key: who has `runs.db` alone can neither read a short secret nor find it by trying.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from backups.doctor import examine
from backups.service import BackupService
from backups.view.headline import headline
from backups.vocabulary.examination import SettingsCheck
from shared.databases.cipher import derived_key, key_fingerprint
from shared.settings.load import Settings

_PURPOSE = b"remembered settings v1"

_log = logging.getLogger(__name__)


class CheckAfterChange:
    """Examines once where the settings are others than those that were examined last.

    `work` raises `DatabaseError` when the records cannot be used, and may be called again.
    """

    def __init__(self, settings: Settings, service: BackupService) -> None:
        self._settings = settings
        self._service = service
        self._done = False
        self._looking = threading.Lock()
        self._changed: tuple[str, ...] | None = None

    def changed(self) -> tuple[str, ...]:
        """The names of the settings that were changed before this process began; from any thread.

        Raises `DatabaseError` when the records cannot be used.
        """
        with self._looking:
            if self._changed is None:
                before = self._service.facts.checks.last()
                keys, values = self._settings.token_encryption_keys, values_of(self._settings)
                self._changed = changed_since(before, keys, values) if before else ()
            return self._changed

    def work(self) -> None:
        """Examine if that is due; returns at once when this process has looked before.

        The first start of an installation only remembers its settings.
        """
        if self._done:
            return
        keys, values = self._settings.token_encryption_keys, values_of(self._settings)
        checks = self._service.facts.checks
        changed, before = self.changed(), checks.last()
        key, digests = key_fingerprint(keys[0]), digests_of(keys[0], values)
        now = self._service.clock.now()
        if before is None:
            checks.note(SettingsCheck(now, key, digests))
        elif changed:
            lines = examine(self._settings, self._service).lines
            light = headline(self._service.status(), self._service.clock.now())
            check = SettingsCheck(now, key, digests, changed, lines, light.light, light.title)
            checks.note(check)
            _report(check)
        elif before.digests != digests:  # names that an older version did not remember
            checks.note(replace(before, key=key, digests=digests))
        self._done = True


def values_of(settings: Settings) -> dict[str, str]:
    """The settings that decide whether backups work, by name; secrets are among the values."""
    backup, spaces, copy = settings.backup, settings.spaces, settings.copy
    values: dict[str, object] = {
        "ADMIN_TOKEN": settings.admin_token,
        "TOKEN_ENCRYPTION_KEYS": settings.token_encryption_keys,
        "TOKEN_DB_PATH": settings.token_db_path,
        "SESSION_DB_PATH": settings.session_db_path,
        **({"DATABASE_URL": settings.database.url} if settings.database else {}),
        "SPACES_API_KEY": spaces and spaces.api_key,
        "SPACES_API_SECRET": spaces and spaces.api_secret,
        "SPACES_REGION": spaces and spaces.region,
        "SPACES_BUCKET": spaces and spaces.bucket,
        "SPACES_ENDPOINT": spaces and spaces.endpoint,
        **{
            f"COPY_{name.upper()}": copy and getattr(copy.bucket, name)
            for name in ("api_key", "api_secret", "region", "bucket", "endpoint")
        },
        "COPY_LOCK_DAYS": copy and copy.lock_days,
        "BACKUP_LOCAL_STORE": backup.local_store,
        "BACKUP_PREFIX": backup.prefix,
        "BACKUP_SCHEDULE": backup.schedule.expression,
        "BACKUP_RUN_BY": backup.run_by,
        "BACKUP_EXTRA_SOURCES": [(name, str(path)) for name, path in backup.extra_sources],
        "BACKUP_COMPRESSION": backup.compression,
        "BACKUP_AGE_RECIPIENTS": backup.age_recipients,
        "BACKUP_AGE_IDENTITY_FILE": backup.age_identity_file,
        "BACKUP_FOLLOW": backup.follow,
        "BACKUP_CHANGE_DELAY": backup.change_delay,
        "BACKUP_NOTIFY_URLS": backup.notify_urls,
        "BACKUP_HEARTBEAT_URL": backup.heartbeat_url,
    }
    return {name: str(value) for name, value in values.items()}


def digests_of(token_key: str, values: Mapping[str, str]) -> dict[str, str]:
    """The keyed hash of each setting with its name, in hex."""
    secret = derived_key(token_key, _PURPOSE)
    return {
        name: hmac.digest(secret, f"{name}={value}".encode(), "sha256").hex()
        for name, value in values.items()
    }


def changed_since(
    before: SettingsCheck, token_keys: Sequence[str], values: Mapping[str, str]
) -> tuple[str, ...]:
    """The names of the settings that have another value than when `before` was noted.

    Without the token key of then nothing else can be compared: that one has changed.
    """
    then = next((key for key in token_keys if key_fingerprint(key) == before.key), None)
    if then is None:
        return ("TOKEN_ENCRYPTION_KEYS",)
    digests = digests_of(then, values)
    return tuple(
        name for name, digest in digests.items() if before.digests.get(name, digest) != digest
    )


def _report(check: SettingsCheck) -> None:
    """A line of the log for the whole, and one for each failed check, with its remedy.

    What status says of the backups is left out: it is logged, sent and shown by itself.
    """
    _log.info("everything was checked %s: the light is %s", check.reason, check.light)
    for line in check.lines:
        if line.level == "problem" and line.subject != "backups":
            _log.error("checked %s: %s: %s %s", check.reason, line.subject, line.message, line.hint)
