"""`sqlite3 .backup` and `rclone copyto`: the usual careful script."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders.contender import Command
from benchmarks.contenders.peer import Peer
from benchmarks.databases import Pair
from benchmarks.place import Place


class Rclone(Peer):
    """One database after the other."""

    name = ".backup + rclone"
    in_go = True

    def __init__(self, place: Place, pair: Pair, sqlite3: str, rclone: str) -> None:
        super().__init__(place, pair)
        self._sqlite3 = sqlite3
        self._copy = f"{rclone} copyto --config /dev/null --s3-no-check-bucket"
        self._remote = {
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
            "RCLONE_CONFIG_STORE_REGION": "us-east-1",
            "RCLONE_CONFIG_STORE_ENDPOINT": place.endpoint,
        }

    def backup_command(self) -> Command:
        """A copy by SQLite, then sent."""
        lines = [
            f"{self._sqlite3} {path} '.backup {path.name}' &&"
            f" {self._copy} {path.name} store:{self.bucket}/backups/{path.name}"
            for path in self.pair.paths
        ]
        return self.shell(" && ".join(lines), **self._remote)

    def restore_command(self, into: Path) -> Command:
        """The same way back."""
        lines = [
            f"{self._copy} store:{self.bucket}/backups/{path.name} {into / path.name}"
            for path in self.pair.paths
        ]
        return self.shell(" && ".join(lines), **self._remote)
