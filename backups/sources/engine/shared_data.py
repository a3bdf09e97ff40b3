"""`SharedData`: the live data of several hosts in PostgreSQL, as the files of the sources."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from backups.model import Source
from backups.sources.engine.live_data import Watch
from shared.clock import Clock
from shared.databases.engines.connections import Connections
from shared.databases.engines.database import Database
from shared.databases.engines.files import (
    changes,
    copy_out,
    forget,
    is_empty,
    kept_runs,
    stage,
    swap,
    swap_back,
)
from shared.databases.engines.lease import LeaderDatabase, SharedLease
from shared.databases.engines.postgres import PostgresDatabase
from shared.databases.translation import translated
from shared.errors import DatabaseError, DatabaseMissing
from shared.files import make_private_directory
from shared.logs import fields

# Of the runs of which what they have replaced stays in the database.
MOST_KEPT = 3

_log = logging.getLogger("backups.run")


class SharedData:
    """See `LiveData`. `files` has the file of each source, below `BACKUP_DIR`."""

    is_shared = True

    def __init__(
        self,
        connections: Connections,
        files: Mapping[str, Path],
        clock: Clock,
        leading: SharedLease,
    ) -> None:
        self.connections = connections
        self._leading = leading
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()

    def is_empty(self) -> bool:
        """Whether no source has a row."""
        return all(is_empty(self.connections, source) for source in self._files)

    def bring_up_to_date(self, *, begin: bool = False) -> datetime | None:
        """Copy all sources as of one instant, into files as the app would have left them."""
        with self._lock:
            begun = begin or any(path.exists() for path in self._files.values())
            if not begun and self.is_empty():
                return None
            return self._copy()

    def replaced(self, run_id: str, sources: Sequence[Source]) -> None:
        """Bring the rows of the files in, and let all of them be live at once."""
        rows = 0
        for source in sources:
            rows += stage(self.connections, run_id, source.name, source.path)
        swap(self.connections, run_id, [source.name for source in sources])
        _log.info("the shared database has what was restored", extra=fields(rows=rows))
        self._forget_old()

    def put_back(self, undone: str, run_id: str, sources: Sequence[Source]) -> None:
        """Let the tables be live again that the other run has replaced; else bring the files in."""
        try:
            swap_back(self.connections, undone, run_id, [source.name for source in sources])
        except DatabaseMissing as error:
            _log.warning("%s; the files of this host are brought in", error.message)
            self.replaced(run_id, sources)

    def watch(self, sources: Sequence[Source]) -> Watch:
        """By the counters of the server."""
        return _Counters(self.connections, [source.name for source in sources], self._clock)

    def database(self, source: str, *, fenced: bool = False) -> Database:
        """The tables of a source; `fenced` writes are refused unless this process leads."""
        if fenced:
            return LeaderDatabase(self.connections, source, self._leading)
        return PostgresDatabase(self.connections, source)

    def _copy(self) -> datetime:
        folder = next(iter(self._files.values())).parent
        make_private_directory(folder)
        instants: list[datetime] = []
        coming = {source: folder / f".{source}.{uuid4().hex}" for source in self._files}
        try:
            copy_out(
                self.connections,
                coming,
                at_instant=lambda: instants.append(self._clock.now()),
            )
            for source, path in self._files.items():
                _use_wal(coming[source])
                for suffix in ("-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                coming[source].replace(path)
        finally:
            for path in coming.values():
                for suffix in ("", "-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
        return instants[0]

    def _forget_old(self) -> None:
        with suppress(DatabaseError):  # the next one does
            for run in kept_runs(self.connections)[:-MOST_KEPT]:
                forget(self.connections, run)


class _Counters:
    """A `Watch` over what the server counts, which it makes known within about a second."""

    def __init__(self, connections: Connections, sources: Sequence[str], clock: Clock) -> None:
        self._connections = connections
        self._sources = sources
        self._clock = clock
        self._seen = self._look()

    def poll(self) -> bool:
        found = self._look()
        changed = found is not None and found != self._seen
        self._seen = found or self._seen
        return changed

    def modified_at(self) -> datetime | None:
        """Now: nobody knows, and a change run compares before it stores."""
        return self._clock.now()

    def close(self) -> None:
        """Nothing is open."""

    def _look(self) -> list[tuple[int, int]] | None:
        with suppress(DatabaseError):  # status names it; the next look is soon
            return [changes(self._connections, source) for source in self._sources]
        return None


def _use_wal(path: Path) -> None:
    """As the app would leave it: what is in WAL mode takes part in the instant of a set."""
    with translated(str(path)), closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=WAL")
