"""Building the service from the settings: the only place that makes real adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from backups.backup_directory import BackupDirectory
from backups.catalogue import Catalogue
from backups.model import Source
from backups.records import open_records
from backups.runlog import RunLog
from backups.service import BackupService, Plan
from shared.clock import Clock, SystemClock
from shared.directory_store import DirectoryStore
from shared.object_store import ObjectStore
from shared.settings import Settings
from shared.sqlite import BUSY_TIMEOUT_SECONDS


@contextmanager
def open_service(settings: Settings, clock: Clock | None = None) -> Iterator[BackupService]:
    """A `BackupService` for the length of a block; the store is not contacted by this.

    Raises `AppError` when `BACKUP_DIR` or its records cannot be used.
    """
    clock = clock or SystemClock()
    store = build_store(settings)
    directory = BackupDirectory(settings.backup.directory)
    with closing(open_records(directory.path)) as records:
        yield BackupService(
            plan=build_plan(settings),
            store=store,
            directory=directory,
            runlog=RunLog(records),
            catalogue=Catalogue(records, store, settings.backup.prefix, clock),
            clock=clock,
        )


def build_plan(settings: Settings) -> Plan:
    """What the settings say is to be backed up, and how."""
    backup = settings.backup
    return Plan(
        sources=(
            Source("tokens", settings.token_db_path),
            Source("sessions", settings.session_db_path, volatile=True),
            *(Source(name, path) for name, path in backup.extra_sources),
        ),
        schedule=backup.schedule,
        prefix=backup.prefix,
        local_copies=backup.local_copies,
        log_directory=backup.log_directory,
        busy_timeout=BUSY_TIMEOUT_SECONDS,
    )


def build_store(settings: Settings) -> ObjectStore:
    """The store: Spaces when its settings are there, else a folder on this host."""
    if settings.spaces is None:
        return DirectoryStore(settings.backup.local_store)
    # Imported only here: boto3 takes longer to import than all the rest.
    from shared.spaces import SpacesStore  # noqa: PLC0415

    return SpacesStore(settings.spaces)
