"""Litestream, made to replicate once and end: a full copy first, then only what has changed."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from benchmarks.contenders.contender import Command
from benchmarks.contenders.peer import Peer
from benchmarks.databases import Pair
from benchmarks.place import Place

_DATABASE = """\
  - path: {path}
    replica:
      type: s3
      bucket: {bucket}
      path: {name}
      endpoint: {endpoint}
      region: us-east-1
      force-path-style: true
"""


class Litestream(Peer):
    """It adds tables to what it replicates, and so has databases of its own.

    They are open all the while, as an app has them: with the last connection the WAL would go.
    """

    name = "Litestream"
    in_go = True

    def __init__(self, place: Place, pair: Pair, litestream: str) -> None:
        super().__init__(place, place.copy_of(pair))
        self._litestream = litestream
        self._open = [sqlite3.connect(path, isolation_level=None) for path in self.pair.paths]
        for connection in self._open:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("SELECT count(*) FROM sqlite_schema")

    def prepare(self) -> None:
        """Forget what it has replicated."""
        super().prepare()
        for path in self.pair.paths:
            shutil.rmtree(path.with_name(f".{path.name}-litestream"), ignore_errors=True)
        databases = (
            _DATABASE.format(
                path=path, bucket=self.bucket, name=path.stem, endpoint=self.place.endpoint
            )
            for path in self.pair.paths
        )
        text = "logging:\n  level: warn\ndbs:\n" + "".join(databases)
        (self.folder / "litestream.yml").write_text(text)

    def backup_command(self) -> Command:
        """One process for both databases."""
        return self.shell(f"{self._litestream} replicate -config litestream.yml -once")

    def restore_command(self, into: Path) -> Command:
        """One after the other."""
        lines = [
            f"{self._litestream} restore -config litestream.yml -o {into / path.name} {path}"
            for path in self.pair.paths
        ]
        return self.shell(" && ".join(lines))

    def close(self) -> None:
        """Forget its databases too."""
        for connection in self._open:
            connection.close()
        super().close()
        shutil.rmtree(self.pair.folder)
