"""`sqlite3 .backup` and restic: encrypted, deduplicated, compressed."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.contenders.contender import Command
from benchmarks.contenders.peer import Peer
from benchmarks.databases import Pair
from benchmarks.place import Place


class Restic(Peer):
    """Both databases in one snapshot; a new repository for each full backup."""

    name = ".backup + restic"
    in_go = True

    def __init__(self, place: Place, pair: Pair, sqlite3: str, restic: str) -> None:
        super().__init__(place, pair)
        self._sqlite3 = sqlite3
        self._restic = restic

    def prepare(self) -> None:
        """A new repository."""
        super().prepare()
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        self._with_restic("init --repository-version 2").run()

    def backup_command(self) -> Command:
        """Copies by SQLite, then what of them the repository does not have."""
        copies = " && ".join(
            f"{self._sqlite3} {path} '.backup {path.name}'" for path in self.pair.paths
        )
        return self._with_restic("backup tokens.db sessions.db", before=f"{copies} && ")

    def restore_command(self, into: Path) -> Command:
        """The last snapshot."""
        return self._with_restic(f"restore latest --target {into}")

    def _with_restic(self, verb: str, before: str = "") -> Command:
        return self.shell(
            f"{before}{self._restic} --quiet --repo s3:{self.place.endpoint}/{self.bucket} {verb}",
            RESTIC_PASSWORD="of-the-benchmarks",
            RESTIC_CACHE_DIR=str(self.folder / "cache"),
        )
