"""What the doctor looks at on this host: secrets, files, databases, room, keys."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from backups.decisions.marks import unchecked
from backups.host.catalogues import FOLDER
from backups.model import Source
from backups.service import BackupService
from backups.sets.proof import size_of
from backups.sets.seal import load_identities
from backups.sources.live import look_at
from backups.sources.pins import what
from backups.sources.room import bytes_of, room_for_restore
from backups.vocabulary.examination import Line
from shared.databases.translation import translated
from shared.errors import DatabaseError
from shared.settings.load import Settings
from shared.words import counted

_WAL_BYTES = 64 * 1024 * 1024


def secrets(settings: Settings) -> Iterator[Line]:
    """Whether the secrets that the app needs are set, and are hard to guess."""
    make = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    yield from _secret("ADMIN_TOKEN", settings.admin_token, make, needed="the admin routes")
    yield from _secret("STATE_TOKEN_SECRET", settings.state_token_secret, make, needed="the app")
    if settings.token_encryption_keys:
        yield Line("ok", "secrets", counted(len(settings.token_encryption_keys), "token key"))
    else:
        yield Line(
            "warning",
            "secrets",
            "TOKEN_ENCRYPTION_KEYS is not set in this process, so keys were not checked",
            "Run the doctor with the settings of the app.",
        )


def _secret(name: str, value: str | None, make: str, *, needed: str) -> Iterator[Line]:
    if value is None:
        yield Line("warning", "secrets", f"{name} is not set; {needed} needs it", make)
    elif len(value) < 32 or len(set(value)) < 10:
        yield Line("warning", "secrets", f"{name} is short or has little variety", make)
    else:
        yield Line("ok", "secrets", f"{name} is set")


def files(settings: Settings, service: BackupService) -> Iterator[Line]:
    """Whether other users can reach the files that hold data or secrets."""
    folder = service.directory.path
    private = [Path(".env"), folder, folder / "runs.db", *sorted(folder.glob(f"{FOLDER}/*.db"))]
    private += [source.path for source in service.config.sources]
    if settings.backup.age_identity_file:
        private.append(settings.backup.age_identity_file)
    for path in private:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield Line(
                "problem",
                "files",
                f"{path} cannot be reached: {error.strerror}",
                "Check the owner and mode of its directories.",
            )
            continue
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
                f"{path} belongs to user {found.st_uid}, but this process runs as {os.geteuid()}",
                "Run the commands as the user of the app.",
            )
        else:
            yield Line("ok", "files", f"{path} is private")


def shared_database(service: BackupService) -> Iterator[Line]:
    """Whether the database that hosts share, if they do, answers. Raises `DatabaseError`."""
    if service.live.is_shared:
        with service.live.database("tokens").reading():
            yield Line("ok", "databases", "the database that the hosts share answers")


def databases(service: BackupService) -> Iterator[Line]:
    """Whether each source is sound, is in WAL mode, and has a `-wal` of moderate size."""
    # Where all are, the check of the backups has the one line that helps.
    problems = {found.code for found in service.status().health.problems}
    for source in service.config.sources:
        state = look_at(source, service.config.busy_timeout)
        if state.state == "missing" and "host_is_empty" in problems:
            continue
        if state.state in ("locked", "unreadable") and state.fault is not None:
            yield Line("problem", "databases", state.fault.message, state.fault.hint)
            continue
        if state.state != "healthy":
            gone = f"{source.path.name} is gone; only its -wal and -shm remain"
            other = gone if state.state == "leftover" else f"{what(source)} is {state.state}"
            fault = state.fault.message if state.fault else other
            disk = f"{state.fault.hint} " if state.fault and state.on_disk else ""
            yield Line(
                "problem",
                "databases",
                fault,
                f"{disk}Restore it: ./bot backups restore --in-place --yes",
            )
            continue
        rows = sum((state.rows or {}).values())
        yield Line("ok", "databases", f"source {source.name} is sound, {counted(rows, 'row')}")
        try:
            yield from _wal(source)
        except DatabaseError as error:  # since then: the next source is looked at all the same
            yield Line("problem", "databases", error.message, error.hint)


def _wal(source: Source) -> Iterator[Line]:
    name, path = source.name, source.path
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with translated(what(source)), closing(sqlite3.connect(uri, uri=True)) as connection:
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


def disk(service: BackupService) -> Iterator[Line]:
    """Whether the next run, and a restore of everything, would find room."""
    directory, sources = service.directory, service.config.sources
    staging = directory.staging_folder
    latest = service.own_sets.latest()
    if latest is None:
        sizes = {source.name: bytes_of(source) for source in sources}
    else:
        sizes = {stored.source: size_of(stored) for stored in latest.objects}
    replaced = [source for source in sources if source.name in sizes]
    kept = directory.pre_restore_folder
    for name, room in (
        ("a backup", service.backup.room(sources, staging)),
        ("a restore", room_for_restore(sizes, replaced, staging=staging, kept=kept)),
    ):
        lacks = list(room.lacks())
        for lack in lacks:
            yield Line("problem", "disk", lack.message, lack.hint)
        if not lacks:
            yield Line("ok", "disk", f"{directory.path} has room for {name}")


def keys(service: BackupService) -> Iterator[Line]:
    """Whether this host could open what it seals."""
    plan = service.config
    if not plan.mark_keys:
        found = unchecked()
        yield Line("warning", "keys", found.message, found.hint)
    yield Line("ok", "keys", _encryption(len(plan.seal.recipients)))
    if plan.identity_file is not None:
        identities = load_identities(plan.identity_file)
        public = {str(identity.to_public()) for identity in identities}
        if plan.seal.recipients and not public & set(plan.seal.recipients):
            yield Line(
                "problem",
                "keys",
                f"no identity in {plan.identity_file} decrypts for BACKUP_AGE_RECIPIENTS",
                "Add the public key of that identity to BACKUP_AGE_RECIPIENTS.",
            )
        else:
            yield Line("ok", "keys", "the age identity is on this host, and decrypts the backups")
    elif plan.seal.recipients:
        yield Line(
            "warning",
            "keys",
            "backups are encrypted, and the identity is not on this host",
            "From time to time, test a restore with it: ./bot backups drill --identity FILE",
        )


def _encryption(recipients: int) -> str:
    if not recipients:
        return "backups are not encrypted (BACKUP_AGE_RECIPIENTS is not set)"
    return f"backups are encrypted for {counted(recipients, 'recipient')}"
