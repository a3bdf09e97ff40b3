"""Noticing that a live database was written, by whatever process.

`PRAGMA data_version` changes for a connection when another one has committed to the file
(https://www.sqlite.org/pragma.html#pragma_data_version). It costs microseconds, reads no
table, and holds no lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from backups.model import Source


class ChangeWatch:
    """Watches sources; `poll` from one thread, and `close` at the end."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._watched = [_Watched(source) for source in sources]

    def poll(self) -> bool:
        """Whether a source was changed, replaced or removed since the last poll."""
        return bool(self.changed())

    def changed(self) -> frozenset[str]:
        """The names of the sources that were changed, replaced or removed since the last poll."""
        return frozenset(one.name for one in self._watched if one.poll())

    @property
    def unsure(self) -> frozenset[str]:
        """The names of the sources that are there, and could not be asked at the last poll."""
        return frozenset(one.name for one in self._watched if one.is_unsure)

    def modified_at(self) -> datetime | None:
        """When the newest of the files was written last, by the file system.

        An empty `-wal` is what opening the database leaves, and is no sign of a write.
        """
        times = []
        for one in self._watched:
            for file in (one.path, one.path.with_name(f"{one.path.name}-wal")):
                with suppress(OSError):  # not there, or not to be reached: the run names it
                    found = file.stat()
                    if found.st_size:
                        times.append(found.st_mtime)
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def close(self) -> None:
        """Close the connections."""
        for one in self._watched:
            one.close()


class _Watched:
    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.path = source.path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._version: int | None = None
        self.poll()

    def poll(self) -> bool:
        identity = self._find()
        replaced = identity != self._identity
        if replaced:
            self.close()
            self._identity = identity
        version = self._data_version() if identity is not None else None
        self.is_unsure = identity is not None and version is None
        changed = version != self._version and version is not None
        if version is not None:
            self._version = version
        return changed or (replaced and identity is not None)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._version = None

    def _find(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        # SQLite would unlink the `-wal` beside an empty main file as it opens it.
        return (found.st_dev, found.st_ino) if found.st_size else None

    def _data_version(self) -> int | None:
        # A database that cannot be asked now is asked again at the next poll.
        with suppress(sqlite3.Error):
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode=rw",
                    uri=True,
                    timeout=0,
                    isolation_level=None,
                    check_same_thread=False,
                )
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        return None
