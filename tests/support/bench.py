"""`Bench`: a whole `BackupService` in this process, over any store, with everything in reach."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from backups.alerts.notifier import Notifier
from backups.config import BackupConfig
from backups.decisions.retention import RetentionPolicy
from backups.format import naming
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.host.state import HostState
from backups.model import BackupSet, ReadabilityCheck, Run, Source, Trigger
from backups.service import BackupService
from backups.wiring import assemble
from shared.clock import Clock, SystemClock
from shared.crontab import Crontab
from shared.store.object_store import ObjectStore
from tests.support.memory_notifier import MemoryNotifier

PREFIX = "backups/"
_TABLES = {
    "tokens": "tokens(key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)",
    "sessions": "sessions(session_id TEXT PRIMARY KEY, uuid TEXT NOT NULL, created_at INTEGER)",
}


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for `closing`."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def write(path: Path, statement: str, *values: object) -> None:
    """Commit one statement, on a connection of its own."""
    with closing(connect(path)) as connection:
        connection.execute(statement, values)


def count(path: Path) -> int:
    """How many rows the table has that is called as the file is."""
    with closing(connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {path.stem}").fetchone()[0])


def add_rows(path: Path, number: int, *, padding: int = 0) -> None:
    """Commit that many rows, whose keys are new and random."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"INSERT INTO {path.stem} VALUES (hex(randomblob(16)), ?, 0)",
            (("x" * padding,) for _ in range(number)),
        )
        connection.execute("COMMIT")


def make_sources(folder: Path, rows: int = 60, *, padding: int = 0) -> tuple[Source, ...]:
    """The two databases of the bot, in WAL mode, below `folder`, as sources."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in _TABLES.items():
        with closing(connect(folder / f"{name}.db")) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"CREATE TABLE {columns}")
            connection.execute("PRAGMA user_version=1")
        add_rows(folder / f"{name}.db", rows, padding=padding)
    return (
        Source("tokens", folder / "tokens.db"),
        Source("sessions", folder / "sessions.db", volatile=True),
    )


@dataclass(frozen=True)
class Bench:
    """What belongs to one service; see `open_bench`."""

    service: BackupService
    store: ObjectStore
    facts: HostState
    directory: BackupDirectory
    sources: tuple[Source, ...]
    notes: MemoryNotifier

    @property
    def tokens(self) -> Path:
        """The live `tokens.db`."""
        return self.sources[0].path

    @property
    def sessions(self) -> Path:
        """The live `sessions.db`."""
        return self.sources[1].path

    def run(self, trigger: Trigger = "manual", *, only: str | None = None) -> Run:
        """Make a set, or fail; the finished run."""
        return self.service.backup.begin(trigger, only=only).execute()

    def made(self, trigger: Trigger = "manual", *, only: str | None = None) -> BackupSet:
        """Make a set, which must succeed; the set."""
        run = self.run(trigger, only=only)
        assert run.status == "succeeded", run.error
        assert run.set_id is not None
        return self.service.catalogue.get(run.set_id)

    def prune(self) -> Run:
        """Prune by hand; the finished run."""
        return self.service.prune.begin().execute()

    def problems(self) -> list[str]:
        """The codes of what is wrong now."""
        return [found.code for found in self.service.status().health.problems]

    def all_keys(self) -> list[str]:
        """All keys in the store but those of instances."""
        found = (one.key for one in self.store.list(PREFIX))
        return [key for key in found if not key.startswith(f"{PREFIX}instances/")]

    def data_keys(self) -> list[str]:
        """The keys of stored files."""
        return [key for key in self.all_keys() if naming.parse_data_key(PREFIX, key)]

    def stored_ids(self) -> list[str]:
        """The ids of the sets whose manifest is in the store, oldest first."""
        found = (naming.parse_set_key(PREFIX, key) for key in self.all_keys())
        return sorted(one[0] for one in found if one and one[1] == naming.MANIFEST)

    def bytes_of(self, key: str) -> bytes:
        """What is stored under a key."""
        buffer = io.BytesIO()
        self.store.get(key, buffer)
        return buffer.getvalue()

    def json_of(self, key: str) -> dict[str, Any]:
        """What is stored under the key of a document."""
        document: dict[str, Any] = json.loads(self.bytes_of(key))
        return document

    def everything(self) -> dict[str, bytes]:
        """All that is stored, by key."""
        return {key: self.bytes_of(key) for key in self.all_keys()}

    def staged(self) -> list[Path]:
        """What is in the staging folder."""
        return list((self.directory.path / "staging").iterdir())


@contextmanager
def open_bench(
    folder: Path,
    store: ObjectStore,
    *,
    clock: Clock | None = None,
    sources: Sequence[Source] | None = None,
    directory: str = "backups",
    schedule: str = "0 1 * * *",
    retention: RetentionPolicy | None = None,
    readability: tuple[tuple[str, ReadabilityCheck], ...] = (),
    change_delay: float = 0,
    timeout: float = 3600,
    busy_timeout: float = 1.0,
    local_copies: int = 0,
    token_keys: tuple[str, ...] = (),
    notify_success: bool = False,
    notifier: Notifier | None = None,
) -> Iterator[Bench]:
    """A service below `folder`; its sources are made there unless they are given."""
    clock = clock or SystemClock()
    chosen = make_sources(folder / "data") if sources is None else tuple(sources)
    backup_directory = BackupDirectory(folder / directory)
    notes = MemoryNotifier()
    with closing(open_records(backup_directory.path)) as records:
        config = BackupConfig(
            sources=chosen,
            schedule=Crontab(schedule),
            prefix=PREFIX,
            local_copies=local_copies,
            log_directory=None,
            busy_timeout=busy_timeout,
            token_keys=token_keys,
            readability_checks=readability,
            retention=retention or RetentionPolicy(),
            change_delay=timedelta(seconds=change_delay),
            timeout=timedelta(seconds=timeout),
        )
        service = assemble(
            config,
            store,
            backup_directory,
            records,
            clock=clock,
            notifier=notifier or notes,
            notify_success=notify_success,
        )
        yield Bench(service, store, service.facts, backup_directory, chosen, notes)
