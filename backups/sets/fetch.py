"""Fetching the databases of a set: from a local copy or the store, unsealed and checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backups.decisions.restore_plan import newer_schemas
from backups.errors import (
    IncrementBroken,
    PointDamaged,
    ProofFailed,
    RestoreBlocked,
    SetNotFound,
)
from backups.format.chain_keys import point_id, set_of
from backups.host.directory import BackupDirectory
from backups.model import BackupSet, ProgressSink, StoredObject
from backups.sets import proof
from backups.sources.checking.inspection import sha256_of
from backups.sources.install import borrow, leave_wal_mode, make_own
from shared.databases import schema
from shared.databases.schema import KnownSchema
from shared.databases.untrusted import open_untrusted
from shared.errors import DatabaseSchemaMismatch
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger("backups.run")


# Brings files of a full, by source, to a point of its chain, in place (`increments/replay.py`).
ReplayTo = Callable[[BackupSet, Mapping[str, Path], Path | None, ProgressSink], None]


@dataclass(frozen=True)
class Fetcher:
    """Brings objects of a set to this host; `identity_file` opens those that are encrypted.

    The local copies of `directory` serve, too; with None they do not.

    `schemas` are those of the sources whose databases this program makes, and `schema_versions`
    the newest `user_version` of each that it can open. `replay` makes a point out of its full, and
    `point_of` has a point by its id.
    """

    store: ObjectStore
    directory: BackupDirectory | None
    identity_file: Path | None
    schemas: Mapping[str, KnownSchema] = field(default_factory=dict)
    schema_versions: Sequence[tuple[str, int]] = ()
    replay: ReplayTo | None = None
    point_of: Callable[[str], BackupSet] | None = None

    def fetch_to_install(
        self,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        staging: Path,
        progress: ProgressSink,
        *,
        copies: bool = True,
        check: bool | None = None,
        identity_file: Path | None = None,
    ) -> dict[str, Path]:
        """The same as `fetch`, but only of what may take the place of a live database.

        What the application has made is that; of what only looks so, the rows are, in a new file.
        Raises `RestoreBlocked` for anything else, before any live database is touched.
        """
        files = self.fetch(
            backup_set,
            objects,
            staging,
            progress,
            copies=copies,
            check=check,
            identity_file=identity_file,
        )
        for stored in objects:
            tools = proof.ProofTools(self.store, staging, None, progress, stage="get")
            self._admit(backup_set.id, stored.source, files[stored.source], tools.ask(stored))
        return files

    def _admit(self, set_id: str, source: str, path: Path, ask: Callable[[], None]) -> None:
        with open_untrusted(path, str(path)) as copy:  # the header alone has it
            version = int(copy.execute("PRAGMA user_version").fetchone()[0])
        for one in newer_schemas({source: version}, self.schema_versions):
            raise RestoreBlocked(set_id, one.code, one.message, one.hint)
        known = self.schemas.get(source)
        if known is None:
            return
        if version < len(known.migrations):
            make_own(path)  # the application brings it to its newest version
        log = logging.getLogger(f"backups.{source}")
        try:
            if not schema.admit(path, source, known, ask):
                log.warning("its schema is not ours to the letter: only its rows are used")
        except DatabaseSchemaMismatch as error:
            raise RestoreBlocked(
                set_id,
                "schema_differs",
                error.message,
                "No live database was changed. Choose another restore point (./bot backups "
                f"list), or look at it: ./bot backups restore {set_id} --only {source} "
                "--to DIR",
            ) from error
        leave_wal_mode(path)

    def fetch(
        self,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        staging: Path,
        progress: ProgressSink,
        *,
        copies: bool = True,
        check: bool | None = None,
        identity_file: Path | None = None,
    ) -> dict[str, Path]:
        """Self-contained files `<source>.db` in `staging`, by source, as the manifest describes.

        They are to be read; who writes to one calls `make_own`, as a local copy may be lent.

        Where the manifest has a valid mark, they are byte for byte what was checked when the set
        was made, and SQLite does not `check` them once more unless it is asked to.

        With `copies`, a local copy serves if it is what the manifest describes. Of a point of a
        chain they are its full's, replayed up to it, and checked again. Raises `ProofFailed`,
        `SealBroken`, `IncrementBroken`, `IdentityMissing`, `IdentityWrong`, `StoreError`.
        """
        identity = identity_file or self.identity_file
        if check is None:
            check = backup_set.mark != "valid"
        tools = proof.ProofTools(self.store, staging, identity, progress, stage="get", checks=check)
        try:
            return self._fetch(backup_set, objects, tools, copies=copies)
        except PointDamaged as error:
            near = self._newest_sound(backup_set, objects, tools, copies=copies)
            error.hint = f"The newest good second before it: ./bot backups restore {near}"
            raise

    def _fetch(
        self,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        tools: proof.ProofTools,
        *,
        copies: bool,
    ) -> dict[str, Path]:
        files = {}
        for stored in objects:
            target = tools.scratch / f"{stored.source}.db"
            if not (copies and self._copy(backup_set, stored, target, tools)):
                proof.bring(tools, stored, target)
            files[stored.source] = target
        if backup_set.point is not None and self.replay is not None:
            self.replay(backup_set, files, tools.identity_file, tools.progress)
        for stored in objects:
            leave_wal_mode(files[stored.source])
            if backup_set.point is not None:
                _check_point(files[stored.source], backup_set, tools.ask(stored))
        return files

    def _newest_sound(
        self,
        damaged: BackupSet,
        objects: Sequence[StoredObject],
        tools: proof.ProofTools,
        *,
        copies: bool,
    ) -> str:
        """The id of the newest point of a chain before a damaged one whose files are sound.

        It is found by halves: what damages a database stays in it. The set itself was proven.
        """
        assert damaged.point is not None  # noqa: S101 - only a point raises `PointDamaged`
        chain, low, high = damaged.point.chain, 0, damaged.point.number
        near = set_of(chain)
        while self.point_of is not None and high - low > 1:
            middle = (low + high) // 2
            for stored in objects:
                (tools.scratch / f"{stored.source}.db").unlink(missing_ok=True)
            try:
                self._fetch(self.point_of(point_id(chain, middle)), objects, tools, copies=copies)
            except SetNotFound:
                low = middle  # pruned: a differential leads past it
            except (PointDamaged, IncrementBroken):
                high = middle
            else:
                low, near = middle, point_id(chain, middle)
        return near

    def _copy(
        self, backup_set: BackupSet, stored: StoredObject, target: Path, tools: proof.ProofTools
    ) -> bool:
        """Use the local copy if there is one and it is what the manifest describes."""
        if self.directory is None:
            return False
        copy = self.directory.copy_of(backup_set.id, stored.source)
        if not stored.described or not copy.is_file():
            return False
        borrow(copy, target)
        try:
            if sha256_of(target) == stored.snapshot_sha256:
                if tools.checks:
                    proof.check_database(target, stored, tools.ask(stored))
                source_log = logging.getLogger(f"backups.{stored.source}")
                source_log.info("local copy", extra=fields(set_id=backup_set.id))
                return True
        except ProofFailed as error:
            _log.warning("local copy: %s", error.message)
        target.unlink()
        return False


def _check_point(path: Path, point: BackupSet, ask: Callable[[], None]) -> None:
    """Raise `PointDamaged` for a file of a point that SQLite does not find sound."""
    try:
        proof.check_sound(path, point.id, ask)
    except ProofFailed as error:
        raise PointDamaged(error.message, error.hint) from error
