"""`Bench`: a real service in this process, built from settings, over a store that is watched.

Two generations of data make a restore visible: `write_generation` gives both databases the rows
of one generation and nothing else, so that what a database holds tells where it came from.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from backups.format import naming
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.model import BackupSet, ProgressSink, Run
from backups.operations.installation import Installation as Parts
from backups.service import BackupService, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.wiring import build_config, build_store
from shared.clock import Clock, SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.settings.load import Settings, load_settings
from shared.store.object_store import ObjectStore
from tests.support.clock import FixedClock
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, bot_secrets
from tests.support.memory_notifier import MemoryNotifier
from tests.support.store_wrappers import WatchedStore

PREFIX = "backups/"
SOURCES = ("tokens", "sessions")
Rows = list[tuple[Any, ...]]
LiveStateName = Literal[
    "healthy", "corrupt body", "corrupt header", "missing", "leftover", "zero bytes"
]
LIVE_STATES: tuple[LiveStateName, ...] = (
    "healthy",
    "corrupt body",
    "corrupt header",
    "missing",
    "leftover",
    "zero bytes",
)


def installation_in(folder: Path, **settings: str) -> Installation:
    """An installation whose paths are absolute, so that this process can open it as well."""
    data = folder / "data"
    return Installation(
        folder,
        {
            **bot_secrets(),
            "TOKEN_DB_PATH": str(data / "tokens.db"),
            "SESSION_DB_PATH": str(data / "sessions.db"),
            "BACKUP_DIR": str(data / "backups"),
            "BACKUP_LOCAL_STORE": str(data / "spaces"),
            **settings,
        },
    )


def settings_of(installation: Installation) -> Settings:
    """The installation's settings, as its own processes would read them."""
    return load_settings(installation.environment, for_app=True)


def live_path(folder: Path, source: str) -> Path:
    """The live database of a source."""
    return folder / "data" / f"{source}.db"


def write_generation(
    folder: Path, name: str, *, rows: int = 12, bytes_a_row: int = 200, key: str | None = None
) -> None:
    """Make the rows of generation `name` all that the two databases hold, with the bot's code."""
    cipher = TokenCipher((key or TOKEN_ENCRYPTION_KEY,))
    with closing(TokenStorage(live_path(folder, "tokens"), cipher)) as tokens:
        for found in tokens.keys():  # noqa: SIM118 - no dictionary
            tokens.delete(found)
        for number in range(rows):
            tokens.put(f"{name}-{number:05d}", f"{name} {number} ".ljust(bytes_a_row, "."))
    with closing(SessionStorage(live_path(folder, "sessions"), SystemClock())):
        pass
    with closing(connect(live_path(folder, "sessions"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM sessions")
        now = int(SystemClock().now().timestamp())
        connection.executemany(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            [
                (f"{name}-{number:05d}", f"user of {name}".ljust(bytes_a_row, "."), now)
                for number in range(rows)
            ],
        )
        connection.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode to a file that must exist, for `closing`."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=30
    )


def rows_of(path: Path) -> Rows:
    """Every row of the table that is called as the file is; it must be sound."""
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()
        assert tables == [(path.stem,)], "a stale journal was applied"
        return connection.execute(f"SELECT * FROM {path.stem} ORDER BY 1").fetchall()


def generations_in(path: Path) -> set[str]:
    """The names of the generations whose rows a database holds."""
    return {str(row[0]).rpartition("-")[0] for row in rows_of(path)}


def generation_of(path: Path) -> str:
    """The one generation that a sound database holds."""
    found = generations_in(path)
    assert len(found) == 1, f"{path} holds {found or 'nothing'}"
    return found.pop()


def side_files(path: Path) -> list[Path]:
    """Where `-wal`, `-shm` and `-journal` of a database would be."""
    return [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]


def bring_into(state: LiveStateName, path: Path) -> None:
    """Do to a live database what the name of the state says; nobody may have it open."""
    if state == "corrupt body":
        checkpoint(path)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
    elif state == "corrupt header":
        checkpoint(path)
        with path.open("r+b") as file:
            file.write(b"this is no database at all")
    elif state == "missing":
        for one in (path, *side_files(path)):
            one.unlink(missing_ok=True)
    elif state == "leftover":
        leave_wal_behind(path)
        path.unlink()
    elif state == "zero bytes":
        checkpoint(path)
        with path.open("r+b") as file:
            file.truncate(0)


def checkpoint(path: Path) -> None:
    """Bring everything into the main file, as a clean shutdown does."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def leave_wal_behind(path: Path) -> None:
    """Leave rows in `-wal` and a `-shm` beside the file, as a killed process does."""
    copies: dict[Path, bytes] = {}
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE stale(x)")
        connection.executemany("INSERT INTO stale VALUES (?)", [("stale" * 99,)] * 99)
        for side in side_files(path)[:2]:
            copies[side] = side.read_bytes()
    for side, content in copies.items():
        side.write_bytes(content)


@dataclass(frozen=True)
class Bench:
    """What belongs to one service; see `open_bench`."""

    installation: Installation
    service: BackupService
    store: WatchedStore
    parts: Parts

    @property
    def folder(self) -> Path:
        """The installation's folder."""
        return self.installation.folder

    @property
    def backup_dir(self) -> Path:
        """`BACKUP_DIR`."""
        return self.parts.directory.path

    def live(self, source: str) -> Path:
        """The live database of a source."""
        return live_path(self.folder, source)

    def generations(self) -> dict[str, str]:
        """The generation that each live database holds."""
        return {source: generation_of(self.live(source)) for source in SOURCES}

    def write(self, name: str, *, rows: int = 12, bytes_a_row: int = 200) -> None:
        """See `write_generation`."""
        write_generation(self.folder, name, rows=rows, bytes_a_row=bytes_a_row)

    def make_set(self, *, only: str | None = None) -> BackupSet:
        """Make a set, which must succeed."""
        run = self.service.backup.begin(only=only).execute()
        assert run.status == "succeeded", run.error
        assert run.set_id is not None
        return self.service.catalogue.get(run.set_id)

    def restore(
        self,
        target: str = "latest",
        *,
        only: str | None = None,
        to: Path | None = None,
        at: datetime | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> Run:
        """Plan and restore, in place or into a folder; the finished run."""
        plan = self.service.restore.plan(target, only=only, at=at)
        return self.service.restore.begin(plan, to=to, progress=progress).execute()

    def restored(self, target: str = "latest", **options: Any) -> Run:
        """Restore, which must succeed; the run."""
        run = self.restore(target, **options)
        assert run.status == "succeeded", run.error
        return run

    def undo(self) -> Run:
        """Undo the last restore, which must succeed; the run."""
        run = self.service.undo.begin().execute()
        assert run.status == "succeeded", run.error
        return run

    def safety_copies(self, source: str) -> list[Path]:
        """What restores replaced of a source, oldest first."""
        return sorted((self.backup_dir / "pre-restore").glob(f"*/{source}.db"))

    def quarantined(self, source: str) -> list[Path]:
        """The folders with damaged files of a source, oldest first."""
        return sorted(self.live(source).parent.glob(f"{source}.db.quarantine-*"))

    def bytes_of(self, key: str) -> bytes:
        """What is stored under a key."""
        buffer = io.BytesIO()
        self.store.get(key, buffer)
        return buffer.getvalue()

    def replace_object(self, key: str, body: bytes) -> None:
        """Put other bytes under a key, as someone with a bucket key could."""
        metadata = self.store.head(key).metadata
        self.store.delete(key)
        self.store.put(key, io.BytesIO(body), metadata)

    def put(self, key: str, body: bytes) -> None:
        """Put an object that this program did not make: it has no metadata."""
        self.store.put(key, io.BytesIO(body), {})

    def forget_copies(self) -> None:
        """Remove the local copies, so that restores need the store."""
        for copy in (self.backup_dir / "copies").glob("*/*.db"):
            copy.unlink()

    def manifest_of(self, set_id: str) -> dict[str, Any]:
        """The manifest as it is stored."""
        document: dict[str, Any] = json.loads(self.bytes_of(self.manifest_key(set_id)))
        return document

    def manifest_key(self, set_id: str) -> str:
        """The key of a set's manifest."""
        return naming.manifest_key(PREFIX, set_id)

    def replace_manifest(self, set_id: str, document: bytes) -> None:
        """Store another manifest for a set, and forget on this host what the old one said."""
        self.replace_object(self.manifest_key(set_id), document)
        self.service.catalogue.forget(set_id)


@contextmanager
def open_bench(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    clock: Clock | None = None,
    store: ObjectStore | None = None,
) -> Iterator[Bench]:
    """A service over the installation in `folder`, as `open_service` makes it but watched."""
    clock = clock or FixedClock()
    installation = installation_in(folder, **(settings or {}))
    loaded = settings_of(installation)
    watched = WatchedStore(store or build_store(loaded))
    directory = BackupDirectory(loaded.backup.directory)
    with closing(open_records(directory.path)) as records:
        parts = Parts(
            config=build_config(loaded),
            store=watched,
            directory=directory,
            run_log=RunLog(records),
            catalogue=Catalogue(records, watched, loaded.backup.prefix, clock),
            clock=clock,
        )
        yield Bench(
            installation,
            BackupService(parts, HostState(records), records, MemoryNotifier()),
            watched,
            parts,
        )
