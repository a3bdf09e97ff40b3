"""One installation on several hosts: what they share in PostgreSQL, joined at the start."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backups.host.directory import BackupDirectory
from backups.sources.engine.live_data import Files, LiveData
from shared.clock import Clock
from shared.databases.cipher import key_fingerprint
from shared.databases.translation import translated
from shared.errors import DatabaseRefused, DatabaseUnreachable, SettingsError
from shared.settings.load import Settings

if TYPE_CHECKING:
    from backups.sources.engine.shared_data import SharedData
    from shared.databases.engines.connections import Connections

MOVED = "moved-to-postgresql"


def source_paths(settings: Settings) -> Mapping[str, Path]:
    """The file of each source: the live one, or that which the shared database is copied to."""
    if settings.database is None:
        return {"tokens": settings.token_db_path, "sessions": settings.session_db_path}
    folder = settings.backup.directory / "shared"
    return {source: folder / f"{source}.db" for source in ("tokens", "sessions")}


@contextmanager
def open_live(
    settings: Settings, directory: BackupDirectory, clock: Clock, *, only_looks: bool = False
) -> Iterator[LiveData]:
    """Where the live data is; with `DATABASE_URL`, this host joins those that share it.

    What `only_looks` opens it also while the shared database is away: then each use of it raises
    `DatabaseUnreachable`. Raises `DatabaseRefused` where the data is known to be in the other
    engine, or the database belongs to another installation; other `DatabaseError`s.
    """
    if settings.database is None:
        if (directory.path / MOVED).exists():
            raise DatabaseRefused(
                "the data of this installation was moved to PostgreSQL, and DATABASE_URL is not "
                "set: what is in the files of this host is old",
                "Set DATABASE_URL. To go back: set it, then ./bot backups migrate --to sqlite",
            )
        yield Files()
        return
    if find_spec("psycopg") is None:
        raise SettingsError(
            ("DATABASE_URL needs the driver: install requirements-postgres.txt here",)
        )
    # Only who has a DATABASE_URL needs it.
    from backups.sources.engine.shared_data import SharedData  # noqa: PLC0415
    from shared.databases.engines.connections import Connections  # noqa: PLC0415
    from shared.databases.engines.counter import SharedCounter  # noqa: PLC0415
    from shared.databases.engines.lease import SharedLease  # noqa: PLC0415

    address = settings.database
    with closing(Connections(address, most=settings.inbox_workers + 6)) as connections:
        leading = SharedLease(address, "scheduler")
        live = SharedData(connections, source_paths(settings), clock, leading)
        try:
            instance = _checked(settings, connections, live, directory.instance())
        except DatabaseUnreachable:
            if not only_looks:
                raise
            instance = directory.instance()  # of the last time, if there was one
        directory.join(instance, SharedLease(address, "run"), leading, SharedCounter(connections))
        yield live


def _checked(settings: Settings, connections: Connections, live: SharedData, instance: str) -> str:
    """Refuse a database that must not be used, make our tables and our files; the instance.

    `instance` is that of a new installation.
    """
    from shared.databases.engines.files import is_unfinished  # noqa: PLC0415 - see `open_live`
    from shared.databases.engines.opening import (  # noqa: PLC0415
        InstallationFacts,
        claim_installation,
        is_moved,
        prepare,
    )

    prepare(connections.address)
    if is_moved(connections):
        raise DatabaseRefused(
            f"the data in {connections.what} was moved to SQLite: what is there is old",
            "Leave DATABASE_URL out on the host that has it. "
            "To go back: ./bot backups migrate --to postgresql",
        )
    if is_unfinished(connections):
        raise DatabaseRefused(
            f"a migration to {connections.what} has not ended",
            "Run it again: ./bot backups migrate --to postgresql",
        )
    if live.is_empty():
        _refuse_forgotten_files(settings, connections.what)
    instance = claim_installation(connections, InstallationFacts(*facts_of(settings)), instance)
    if not all(path.exists() for path in source_paths(settings).values()):
        live.bring_up_to_date()
    return instance


def facts_of(settings: Settings) -> tuple[str, str, tuple[str, ...]]:
    """What all hosts of an installation have in common: store, prefix, fingerprints of the keys."""
    spaces, keys = settings.spaces, settings.token_encryption_keys
    store = f"{spaces.bucket} at {spaces.endpoint}" if spaces else ""
    return store, settings.backup.prefix, tuple(key_fingerprint(key) for key in keys)


def _refuse_forgotten_files(settings: Settings, what: str) -> None:
    """Raise `DatabaseRefused` where a file of this host has rows, and the database has none."""
    for path, table in ((settings.token_db_path, "tokens"), (settings.session_db_path, "sessions")):
        if path.exists() and _has_rows(path, table):
            raise DatabaseRefused(
                f"{what} is empty, and {path} has data that it does not have",
                "Bring it there: ./bot backups migrate --to postgresql. Or leave DATABASE_URL out",
            )


def _has_rows(path: Path, table: str) -> bool:
    url = f"{path.absolute().as_uri()}?mode=ro"
    with translated(str(path)), closing(sqlite3.connect(url, uri=True)) as file:
        if not file.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
            return False
        return file.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608
