"""`Workbench`: a `BackupService` in this process, over any store, with everything in reach."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups.config import BackupConfig, SealConfig
from backups.format import naming
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.model import BackupSet, Run, Source, Trigger
from backups.service import BackupService
from backups.wiring import assemble
from shared.clock import Clock, SystemClock
from shared.crontab import Crontab
from shared.databases.sqlite import Database
from shared.errors import StoreUnreachable
from shared.store.object_store import ObjectStore
from tests.support.memory_notifier import MemoryNotifier

PREFIX = "backups/"
UNSEALED = SealConfig()
# The keys of a set that is made at `records.INSTANT`, the first of its day.
TOKENS, SESSIONS = "backups/tokens_2026-11-22.db", "backups/sessions_2026-11-22.db"
MANIFEST = "backups/sets/20261122T010000Z/manifest.json"
TABLES = {
    "tokens": "tokens(key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)",
    "sessions": "sessions(session_id TEXT PRIMARY KEY, uuid TEXT NOT NULL, created_at INTEGER)",
}


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for `closing`."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def make_database(
    path: Path, rows: int = 3, *, journal_mode: str = "wal", padding: int = 0
) -> Path:
    """Write a database with one table, called as the file is, in which every row is numbered."""
    table = path.stem
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute(
            f"CREATE TABLE {TABLES.get(table, TABLES['tokens'].replace('tokens', table))}"
        )
        connection.execute("PRAGMA user_version=1")
        connection.execute("BEGIN")
        connection.executemany(
            f"INSERT INTO {table} VALUES (printf('%09d', ?), ?, 0)",
            ((number, f"{table}-{number}-{'x' * padding}") for number in range(1, rows + 1)),
        )
        connection.execute("COMMIT")
    return path


def make_sources(folder: Path, rows: int = 3, *, padding: int = 0) -> tuple[Source, ...]:
    """The two databases of the bot, below `folder`, as sources."""
    tokens, sessions = (
        make_database(folder / f"{name}.db", rows, padding=padding)
        for name in ("tokens", "sessions")
    )
    return Source("tokens", tokens), Source("sessions", sessions, volatile=True)


def count_rows(path: Path, table: str | None = None) -> int:
    """How many rows a database has in the table that is called as the file is, or in `table`."""
    with closing(connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table or path.stem}").fetchone()[0])


@dataclass(frozen=True)
class Workbench:
    """What belongs to one service; see `open_workbench`."""

    service: BackupService
    store: ObjectStore
    records: Database
    directory: Path
    sources: tuple[Source, ...]

    def run(self, trigger: Trigger = "manual", *, only: str | None = None) -> Run:
        """Make a set, or fail; the finished run."""
        return self.service.backup.begin(trigger, only=only).execute()

    def made(self, *, only: str | None = None) -> BackupSet:
        """Make a set, which must succeed; the set."""
        run = self.run(only=only)
        assert run.status == "succeeded", run.error
        assert run.set_id is not None
        return self.service.catalogue.get(run.set_id)

    def verify(self, set_id: str | None = None) -> Run:
        """Prove a set again, or fail; the finished run."""
        return self.service.verify.begin(set_id).execute()

    def all_keys(self) -> list[str]:
        """All keys in the store but those of instances."""
        found = (one.key for one in self.store.list(PREFIX))
        return [key for key in found if not key.startswith(f"{PREFIX}instances/")]

    def data_keys(self) -> list[str]:
        """The keys of stored files."""
        return [key for key in self.all_keys() if naming.parse_data_key(PREFIX, key)]

    def manifests(self) -> list[str]:
        """The keys of manifests: what is published."""
        return [key for key in self.all_keys() if key.endswith("/manifest.json")]

    def bytes_of(self, key: str) -> bytes:
        """What is stored under a key."""
        buffer = io.BytesIO()
        self.store.get(key, buffer)
        return buffer.getvalue()

    def json_of(self, key: str) -> dict[str, Any]:
        """What is stored under the key of a document."""
        document: dict[str, Any] = json.loads(self.bytes_of(key))
        return document

    def is_free(self) -> bool:
        """Whether nobody holds the run lease."""
        return self.service.directory.run_lease.is_free()

    def staged(self) -> list[Path]:
        """What is in the staging folder."""
        return list((self.directory / "staging").iterdir())


@contextmanager
def open_workbench(
    folder: Path,
    store: ObjectStore,
    *,
    clock: Clock | None = None,
    sources: Sequence[Source] | None = None,
    directory: str = "backups",
    local_copies: int = 2,
    log_directory: Path | None = None,
    schedule: str = "0 1 * * *",
    busy_timeout: float = 5.0,
    seal: SealConfig = UNSEALED,
) -> Iterator[Workbench]:
    """A service below `folder`; its sources are made there unless they are given."""
    clock = clock or SystemClock()
    chosen = make_sources(folder / "data") if sources is None else tuple(sources)
    backup_directory = BackupDirectory(folder / directory)
    with closing(open_records(backup_directory.path)) as records:
        config = BackupConfig(
            sources=chosen,
            schedule=Crontab(schedule),
            prefix=PREFIX,
            local_copies=local_copies,
            log_directory=log_directory,
            busy_timeout=busy_timeout,
            seal=seal,
        )
        service = assemble(
            config, store, backup_directory, records, clock=clock, notifier=MemoryNotifier()
        )
        yield Workbench(service, store, records, backup_directory.path, chosen)


def put(store: ObjectStore, key: str, body: bytes = b"of another") -> None:
    """Store an object that is not ours."""
    store.put(key, io.BytesIO(body), {})


def fail() -> None:
    raise StoreUnreachable("there was no answer", "Check the network.")
