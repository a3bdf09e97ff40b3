"""Examining everything that can be wrong with the backups, each finding with its remedy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from uuid import uuid4

from backups.model import Examination, Line
from backups.service import BackupService
from backups.sets.seal import load_identities
from backups.sources.live import inspect_live
from shared.clock import format_utc
from shared.errors import AppError, ObjectMissing
from shared.settings.load import Settings
from shared.store.object_store import ObjectStore

_WAL_BYTES = 64 * 1024 * 1024
_SKEW_SECONDS = 60


def examine(
    settings: Settings, service: BackupService, *, write: bool = False, notify: bool = False
) -> Examination:
    """Look at everything; with `write`, put, overwrite and delete a probe in the store too, with
    `notify`, send a test message.

    A check that itself fails becomes a problem with the error's remedy; nothing is raised.
    """
    checks: tuple[tuple[str, Callable[[], Iterator[Line]]], ...] = (
        ("secrets", lambda: _secrets(settings)),
        ("files", lambda: _files(settings, service)),
        ("databases", lambda: _databases(service)),
        ("disk", lambda: _disk(service)),
        ("keys", lambda: _keys(service)),
        ("store", lambda: _store(settings, service, write=write)),
        ("backups", lambda: _backups(service)),
        ("notify", lambda: _notifications(settings, service, notify=notify)),
    )
    lines: list[Line] = []
    for subject, check in checks:
        try:
            lines.extend(check())
        except AppError as error:
            lines.append(Line("problem", subject, f"{error.message} [{error.code}]", error.hint))
        except OSError as error:
            lines.append(
                Line("problem", subject, f"{error.filename}: {error.strerror}", "Check that file.")
            )
    return Examination(tuple(lines))


def _secrets(settings: Settings) -> Iterator[Line]:
    make = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    yield from _secret("ADMIN_TOKEN", settings.admin_token, make, needed="the admin routes")
    yield from _secret("STATE_TOKEN_SECRET", settings.state_token_secret, make, needed="the app")
    if settings.token_encryption_keys:
        yield Line("ok", "secrets", f"{len(settings.token_encryption_keys)} token key(s)")
    else:
        yield Line(
            "warning",
            "secrets",
            "TOKEN_ENCRYPTION_KEYS is not set here, so keys are not checked",
            "Run the doctor with the settings of the app.",
        )


def _secret(name: str, value: str | None, make: str, *, needed: str) -> Iterator[Line]:
    if value is None:
        yield Line("warning", "secrets", f"{name} is not set; {needed} needs it", make)
    elif len(value) < 32 or len(set(value)) < 10:
        yield Line("warning", "secrets", f"{name} is short or has little variety", make)
    else:
        yield Line("ok", "secrets", f"{name} is set")


def _files(settings: Settings, service: BackupService) -> Iterator[Line]:
    private = [Path(".env"), service.directory.path, service.directory.path / "runs.db"]
    private += [source.path for source in service.plan.sources]
    if settings.backup.age_identity_file:
        private.append(settings.backup.age_identity_file)
    for path in private:
        if not path.exists():
            continue
        found = path.stat()
        if found.st_mode & 0o077:
            yield Line(
                "problem",
                "files",
                f"{path} can be reached by other users (mode {found.st_mode & 0o777:o})",
                f"chmod {'700' if path.is_dir() else '600'} {path}",
            )
        elif found.st_uid != os.geteuid():
            yield Line(
                "warning",
                "files",
                f"{path} belongs to user {found.st_uid}, this process runs as {os.geteuid()}",
                "Run the commands as the user of the app.",
            )
        else:
            yield Line("ok", "files", f"{path} is private")


def _databases(service: BackupService) -> Iterator[Line]:
    for source in service.plan.sources:
        state = inspect_live(source, service.plan.busy_timeout)
        if state.state != "healthy":
            yield Line(
                "problem",
                "databases",
                f"source {source.name} ({source.path}) is {state.state}",
                "Bring it back: python -m backups restore --in-place --yes",
            )
            continue
        rows = sum((state.rows or {}).values())
        yield Line("ok", "databases", f"source {source.name} is sound, {rows:,} rows")
        yield from _wal(source.name, source.path)


def _wal(name: str, path: Path) -> Iterator[Line]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if mode != "wal":
        yield Line(
            "warning",
            "databases",
            f"source {name} is in journal mode {mode}: its writers wait while it is copied",
            f"sqlite3 {path} 'PRAGMA journal_mode=WAL'",
        )
    elif size > _WAL_BYTES:
        yield Line(
            "warning",
            "databases",
            f"the -wal of source {name} has {size:,} bytes: a reader holds it",
            "Find the process that keeps a transaction open, and end it.",
        )


def _disk(service: BackupService) -> Iterator[Line]:
    sizes = [source.path.stat().st_size for source in service.plan.sources if source.path.exists()]
    total, most = sum(sizes), max(sizes, default=0)
    folder = service.directory.path
    free = shutil.disk_usage(folder).free
    # A restore holds fetched, unsealed and safety copies at the same time.
    for name, needed in (("a run", total + most), ("a restore", 3 * total)):
        if free < needed:
            yield Line(
                "problem",
                "disk",
                f"{folder} has {free:,} bytes free, {name} needs {needed:,}",
                "Make room on that disk, or set BACKUP_DIR to a larger one.",
            )
        else:
            yield Line("ok", "disk", f"{folder} has room for {name}")


def _keys(service: BackupService) -> Iterator[Line]:
    plan = service.plan
    if plan.identity_file is not None:
        identities = load_identities(plan.identity_file)
        public = {str(identity.to_public()) for identity in identities}
        if plan.seal.recipients and not public & set(plan.seal.recipients):
            yield Line(
                "problem",
                "keys",
                f"no identity in {plan.identity_file} opens what BACKUP_AGE_RECIPIENTS seals",
                "Put the public key of that identity into BACKUP_AGE_RECIPIENTS as well.",
            )
        else:
            yield Line("ok", "keys", "the age identity is here, and opens what is sealed")
    elif plan.seal.recipients:
        yield Line(
            "warning",
            "keys",
            "backups are encrypted, and the identity is not on this host",
            "Rehearse with it now and then: python -m backups drill --identity FILE",
        )


def _store(settings: Settings, service: BackupService, *, write: bool) -> Iterator[Line]:
    store = service.store
    service.catalogue.refresh()
    yield Line("ok", "store", f"{store.location} answers, and can be listed")
    if not store.offsite:
        yield Line(
            "warning",
            "store",
            f"not offsite: {store.location} is on this host's own disk",
            "Set the five SPACES_ settings.",
        )
    latest = service.own_sets.latest()
    if latest is not None:
        store.get(latest.objects[0].key, _Nowhere())
        yield Line("ok", "store", f"{latest.objects[0].key} can be read")
    if settings.spaces is not None:
        yield from _spaces(settings, service, latest.objects[0].key if latest else None)
    if write:
        yield from _write_probe(service)


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, chunk: bytes, /) -> int:
        return len(chunk)


def _spaces(settings: Settings, service: BackupService, key: str | None) -> Iterator[Line]:
    spaces = settings.spaces
    assert spaces is not None  # noqa: S101 - asked for by the caller
    if key is None:
        return
    answer, date = _anonymous(f"{spaces.endpoint}/{spaces.bucket}/{key}", spaces.ca_bundle)
    if answer == 200:
        yield Line(
            "problem",
            "store",
            f"{key} can be read by everybody, without credentials",
            "Make the bucket private, and rotate what was in it: tokens may have been read.",
        )
    elif answer is None:
        yield Line("warning", "store", "whether the bucket is private could not be asked", "Retry.")
    else:
        yield Line("ok", "store", f"{key} cannot be read without credentials ({answer})")
    if date is not None:
        skew = abs((date - service.clock.now()).total_seconds())
        if skew > _SKEW_SECONDS:
            yield Line(
                "problem" if skew > 600 else "warning",
                "clock",
                f"this host's clock and the store's differ by {skew:.0f} s",
                "Set the clock: timedatectl set-ntp true",
            )
        else:
            yield Line("ok", "clock", f"within {_SKEW_SECONDS} s of the store's")
    versioning = getattr(service.store, "versioning", None)
    state = versioning() if versioning else None
    if state == "Enabled":
        yield Line("ok", "store", "versioning is on")
    elif state is not None:
        yield Line(
            "warning",
            "store",
            f"versioning is {state.lower()}: what someone deletes by mistake is gone",
            "Turn it on through the S3 API: aws s3api put-bucket-versioning ...",
        )


def _anonymous(url: str, ca_bundle: str | None) -> tuple[int | None, datetime | None]:
    """The status of a request without credentials, and the server's time."""
    import ssl  # noqa: PLC0415 - only the doctor needs it

    context = ssl.create_default_context(cafile=ca_bundle)
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - from checked settings
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return answer.status, _date(answer.headers.get("Date"))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _date(error.headers.get("Date"))
    except (OSError, ValueError):
        return None, None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    # RFC 5322: `-0000` is UTC of which no zone is told, and is parsed without one.
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


def _write_probe(service: BackupService) -> Iterator[Line]:
    store: ObjectStore = service.store
    key = f"{service.plan.prefix}doctor/{uuid4().hex}"
    try:
        store.put(key, BytesIO(b"probe"), {"sha256": "probe"})
        store.check(key, b"other")
        found = BytesIO()
        store.get(key, found)
        if found.getvalue() != b"probe":
            yield Line(
                "problem",
                "store",
                "a second put of a key replaced the first: conditional puts are not honoured",
                "Use a store that honours If-None-Match: *.",
            )
        else:
            yield Line("ok", "store", "takes objects, and does not overwrite them")
    finally:
        store.delete(key)
    try:
        store.head(key)
    except ObjectMissing:
        yield Line("ok", "store", "deletes objects")
    else:
        yield Line(
            "problem", "store", "accepted a delete, and still has the object", "See its provider."
        )


def _notifications(settings: Settings, service: BackupService, *, notify: bool) -> Iterator[Line]:
    count = len(settings.backup.notify_urls)
    if not count:
        yield Line(
            "warning",
            "notify",
            "nobody is told when backups fail",
            "Set BACKUP_NOTIFY_URLS (docs/settings.md), then: python -m backups doctor --notify",
        )
    elif not notify:
        yield Line("ok", "notify", f"{count} URL(s) are told; try them with doctor --notify")
    elif service.alerts.send_test_message():
        yield Line("ok", "notify", f"a test message went to {count} URL(s)")
    else:
        yield Line(
            "problem",
            "notify",
            "the test message did not reach every URL of BACKUP_NOTIFY_URLS",
            "Correct them; https://github.com/caronc/apprise has the forms.",
        )


def _backups(service: BackupService) -> Iterator[Line]:
    status = service.status()
    for found in status.health.problems:
        yield Line("problem", "backups", f"{found.message} [{found.code}]", found.hint)
    for found in status.health.warnings:
        if found.code != "not_offsite":
            yield Line("warning", "backups", f"{found.message} [{found.code}]", found.hint)
    newest = status.newest_restore_point
    if newest is not None:
        age = service.clock.now() - newest.created_at
        yield Line("ok", "backups", f"the newest restore point, {newest.id}, is {age} old")
    yield Line("ok", "schedule", f"{status.cron} UTC, next at {format_utc(status.next_run_at)}")
