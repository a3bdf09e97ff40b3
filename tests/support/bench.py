"""`Bench`: a whole `BackupService` in this process, with everything in reach."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from backups.alerts.notifier import Notifier
from backups.config import BackupConfig
from backups.format import naming
from backups.host.catalogues import open_catalogue
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.host.state import HostState
from backups.model import BackupSet, ProgressSink, Run, Source, Trigger
from backups.service import BackupService, ignore_progress
from backups.sources.engine.live_data import LiveData
from backups.wiring import assemble, bot_facts, build_config, build_store
from shared.clock import Clock
from shared.crontab import Crontab
from shared.databases.sqlite import Database
from shared.store.object_store import ObjectStore
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.generations import SOURCES, generation_of, write_generation
from tests.support.installation import Installation, installation_in, settings_of
from tests.support.marks import MARK_KEY
from tests.support.memory_notifier import MemoryNotifier
from tests.support.store_wrappers import WatchedStore

PREFIX = "backups/"
# The keys of a set that is made at `records.INSTANT`, the first of its day.
TOKENS, SESSIONS = "backups/tokens_2026-11-22.db", "backups/sessions_2026-11-22.db"
MANIFEST = "backups/sets/20261122T010000Z/manifest.json"


@dataclass(frozen=True)
class Bench:
    """What belongs to one service; see `open_bench`."""

    installation: Installation
    service: BackupService
    store: ObjectStore
    records: Database
    known: Database
    notes: MemoryNotifier

    # --- the parts ----------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The installation's folder."""
        return self.installation.folder

    @property
    def directory(self) -> BackupDirectory:
        """`BACKUP_DIR`."""
        return self.service.directory

    @property
    def facts(self) -> HostState:
        """What the host remembers."""
        return self.service.facts

    @property
    def sources(self) -> tuple[Source, ...]:
        """What is backed up."""
        return self.service.config.sources

    @property
    def tokens(self) -> Path:
        """The live `tokens.db`."""
        return self.live("tokens")

    @property
    def sessions(self) -> Path:
        """The live `sessions.db`."""
        return self.live("sessions")

    @property
    def watched(self) -> WatchedStore:
        """The store, which must be one that the test watches."""
        assert isinstance(self.store, WatchedStore)
        return self.store

    def live(self, source: str) -> Path:
        """The live database of a source."""
        return {one.name: one.path for one in self.sources}[source]

    # --- the operations -----------------------------------------------------------------

    def run(self, trigger: Trigger = "manual", *, only: str | None = None) -> Run:
        """Make a set, or fail; the finished run."""
        return self.service.backup.begin(trigger, only=only).execute()

    def made(self, trigger: Trigger = "manual", *, only: str | None = None) -> BackupSet:
        """Make a set, which must succeed; the set."""
        run = _succeeded(self.run(trigger, only=only))
        assert run.set_id is not None
        return self.service.catalogue.get(run.set_id)

    def verify(self, set_id: str | None = None) -> Run:
        """Prove a set again, or fail; the finished run."""
        return self.service.verify.begin(set_id).execute()

    def prune(self) -> Run:
        """Prune by hand; the finished run."""
        return self.service.prune.begin().execute()

    def restore(
        self,
        target: str = "latest",
        *,
        only: str | None = None,
        to: Path | None = None,
        at: datetime | None = None,
        accept_unsigned: bool = False,
        check: bool | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> Run:
        """Plan and restore, in place or into a folder; the finished run."""
        plan = self.service.restore.plan(
            target, only=only, at=at, in_place=to is None, accept_unsigned=accept_unsigned
        )
        return self.service.restore.begin(plan, to=to, check=check, progress=progress).execute()

    def restored(self, target: str = "latest", **options: Any) -> Run:
        """Restore, which must succeed; the run."""
        return _succeeded(self.restore(target, **options))

    def undo(self) -> Run:
        """Undo the last restore, which must succeed; the run."""
        return _succeeded(self.service.undo.begin().execute())

    # --- this host ----------------------------------------------------------------------

    def problems(self) -> list[str]:
        """The codes of what is wrong now."""
        return [found.code for found in self.service.status().health.problems]

    def is_free(self) -> bool:
        """Whether nobody holds the run lease."""
        return self.directory.run_lease.is_free()

    def write(self, name: str, *, rows: int = 12, bytes_a_row: int = 200) -> None:
        """See `write_generation`."""
        write_generation(self.folder, name, rows=rows, bytes_a_row=bytes_a_row)

    def generations(self) -> dict[str, str]:
        """The generation that each live database holds."""
        return {source: generation_of(self.live(source)) for source in SOURCES}

    def staged(self) -> list[Path]:
        """What is in the staging folder."""
        return list((self.directory.path / "staging").iterdir())

    def safety_copies(self, source: str) -> list[Path]:
        """What restores replaced of a source, oldest first."""
        return sorted((self.directory.path / "pre-restore").glob(f"*/{source}.db"))

    def quarantined(self, source: str) -> list[Path]:
        """The folders with damaged files of a source, oldest first."""
        return sorted(self.live(source).parent.glob(f"{source}.db.quarantine-*"))

    def forget_copies(self) -> None:
        """Remove the local copies, so that restores need the store."""
        for copy in (self.directory.path / "copies").glob("*/*.db"):
            copy.unlink()

    # --- the store ----------------------------------------------------------------------

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

    def replace_object(self, key: str, body: bytes) -> None:
        """Put other bytes under a key, as someone with a bucket key could."""
        metadata = self.store.head(key).metadata
        self.store.delete(key)
        self.store.put(key, io.BytesIO(body), metadata)

    def manifest_key(self, set_id: str) -> str:
        """The key of a set's manifest."""
        return naming.manifest_key(PREFIX, set_id)

    def manifest_of(self, set_id: str) -> dict[str, Any]:
        """The manifest as it is stored."""
        return self.json_of(self.manifest_key(set_id))

    def replace_manifest(self, set_id: str, document: bytes) -> None:
        """Store another manifest for a set, and forget on this host what the old one said."""
        self.replace_object(self.manifest_key(set_id), document)
        self.service.catalogue.forget(set_id)


def _succeeded(run: Run) -> Run:
    assert run.status == "succeeded", run.error
    return run


@contextmanager
def open_bench(
    folder: Path,
    store: ObjectStore | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    sources: Sequence[Source] | None = None,
    rows: int = 60,
    directory: str | None = None,
    clock: Clock | None = None,
    notifier: Notifier | None = None,
    notify_success: bool = False,
    live: LiveData | None = None,
    **changes: Any,
) -> Iterator[Bench]:
    """A service over the installation in `folder`; without a `store`, over its own, watched.

    With `settings`, which may be empty, all is as the bot's own processes have it. Without them
    it backs up plain rows, with no key and no check; its databases are made, with so many
    `rows` each, unless `sources` are given. `directory` is another `BACKUP_DIR` below `folder`,
    that of another host, and `live` what it shares with others. `changes` are fields of
    `BackupConfig`.
    """
    clock = clock or FixedClock()
    installation = installation_in(folder, **(settings or {}))
    if directory is not None:
        installation = installation.with_settings(BACKUP_DIR=str(folder / directory))
    loaded = settings_of(installation)
    if settings is not None:
        config = build_config(loaded)
    else:
        chosen = make_sources(folder / "data", rows) if sources is None else tuple(sources)
        config = plain_config(chosen)
    store = store or WatchedStore(build_store(loaded))
    backup_directory = BackupDirectory(loaded.backup.directory)
    notes = MemoryNotifier()
    config = replace(config, **changes)
    with (
        closing(open_records(backup_directory.path)) as records,
        closing(open_catalogue(backup_directory.path, store, config.prefix, records)) as known,
    ):
        service = assemble(
            replace(config, receivers=(notifier or notes).receivers)
            if "receivers" not in changes
            else config,
            store,
            backup_directory,
            records,
            known=known,
            clock=clock,
            notifier=notifier or notes,
            notify_success=notify_success,
            bot=bot_facts(loaded.inbox_db_path, clock),
            live=live,
        )
        yield Bench(installation, service, store, records, known, notes)


def plain_config(sources: tuple[Source, ...]) -> BackupConfig:
    """Daily sets of these sources, of which nothing is known but that they are databases.

    Their documents are marked with the key of the tests.
    """
    return BackupConfig(
        sources=sources,
        schedule=Crontab("0 1 * * *"),
        prefix=PREFIX,
        local_copies=2,
        log_directory=None,
        busy_timeout=5.0,
        run_by="cron",  # no app runs beside a bench
        mark_keys=(MARK_KEY,),
    )
