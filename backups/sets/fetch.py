"""Fetching the databases of a set: from a local copy or the store, unsealed and checked."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backups.errors import ProofFailed
from backups.host.directory import BackupDirectory
from backups.model import BackupSet, ProgressSink, StoredObject
from backups.sets import proof
from backups.sources.inspection import sha256_of
from backups.sources.install import leave_wal_mode
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger("backups.run")


@dataclass(frozen=True)
class Fetcher:
    """Brings objects of a set to this host; `identity_file` opens those that are encrypted."""

    store: ObjectStore
    directory: BackupDirectory
    identity_file: Path | None

    def fetch(
        self,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        staging: Path,
        progress: ProgressSink,
        *,
        copies: bool = True,
        identity_file: Path | None = None,
    ) -> dict[str, Path]:
        """Checked, self-contained files `<source>.db` in `staging`, by source.

        With `copies`, a local copy serves if it is what the manifest describes. Raises
        `ProofFailed`, `SealBroken`, `IdentityMissing`, `IdentityWrong`, `StoreError`.
        """
        identity = identity_file or self.identity_file
        tools = proof.ProofTools(self.store, staging, identity, progress, stage="get")
        files = {}
        for stored in objects:
            target = staging / f"{stored.source}.db"
            if not (copies and self._copy(backup_set, stored, target)):
                _download(tools, stored, target)
            leave_wal_mode(target)
            files[stored.source] = target
        return files

    def _copy(self, backup_set: BackupSet, stored: StoredObject, target: Path) -> bool:
        """Use the local copy if there is one and it is what the manifest describes."""
        copy = self.directory.copy_of(backup_set.id, stored.source)
        if not stored.described or not copy.is_file():
            return False
        shutil.copyfile(copy, target)
        target.chmod(0o600)
        try:
            if sha256_of(target) == stored.snapshot_sha256:
                proof.check_database(target, stored)
                source_log = logging.getLogger(f"backups.{stored.source}")
                source_log.info("local copy", extra=fields(set_id=backup_set.id))
                return True
        except ProofFailed as error:
            _log.warning("local copy: %s", error.message)
        target.unlink()
        return False


def _download(tools: proof.ProofTools, stored: StoredObject, target: Path) -> None:
    sealed = target.with_suffix(".sealed")
    try:
        proof.fetch(tools, stored, sealed)
        proof.open_fetched(tools, stored, sealed, target)
    finally:
        sealed.unlink(missing_ok=True)
