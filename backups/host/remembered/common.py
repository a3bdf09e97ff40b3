"""What all hosts of an installation know of it: in the database that they share, if they do.

Which restore was rehearsed last, what the second place has, whether the last backup failed: that is
true whichever host did it, and the next one to lead goes on from there. Each host keeps what it has
noted itself, too: for while the shared database is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from shared.databases.engines.database import Connection
from shared.databases.engines.database import Database as SharedDatabase
from shared.databases.sqlite import Database
from shared.errors import DatabaseError

_T = TypeVar("_T")
# After a shared database did not answer: a page asks for many things, and each would wait.
_SECONDS_UNASKED = 10.0

_log = logging.getLogger("backups.host.state")


class CommonFacts:
    """The table `facts` of the hosts in common; of one host, that of its own `records`."""

    def __init__(self, records: Database, shared: SharedDatabase | None = None) -> None:
        self._records = records
        self._shared = shared
        self._ask_from = 0.0

    @property
    def is_shared(self) -> bool:
        """Whether other hosts note here, too."""
        return self._shared is not None

    def read(self, look: Callable[[Connection], _T]) -> _T:
        """What `look` finds there; in what this host has noted itself while nobody answers.

        Raises `DatabaseError` when the records cannot be used.
        """
        if self._shared is not None and time.monotonic() >= self._ask_from:
            try:
                with self._shared.reading() as connection:
                    return look(connection)
            except DatabaseError:  # status names it, by itself
                self._ask_from = time.monotonic() + _SECONDS_UNASKED
        return self.read_own(look)

    def write(self, change: Callable[[Connection], object]) -> None:
        """Make a change here and there, each in a transaction.

        Raises `DatabaseError`; where it is of the shared database, this host has noted it.
        """
        self.write_own(change)
        if self._shared is not None:
            with self._shared.transaction() as connection:
                change(connection)

    def read_own(self, look: Callable[[Connection], _T]) -> _T:
        """What `look` finds in the records of this host alone."""
        with self._records.reading() as own:
            return look(own)

    def write_own(self, change: Callable[[Connection], object]) -> None:
        """Make a change in the records of this host alone."""
        with self._records.transaction() as own:
            change(own)

    def mirror(self, names: Sequence[str], beginnings: Sequence[str]) -> None:
        """Note on this host what all know: names, and those with such a beginning.

        Where they know nothing, what this host has stays. Raises `DatabaseError`.
        """
        if self._shared is None:
            return
        with self._shared.reading() as connection:
            known = [row for row in _all(connection) if _is_one_of(row[0], names, beginnings)]
        if not known:
            return

        def change(own: Connection) -> None:
            here = dict(_all(own))
            gone = {name for name in here if _is_one_of(name, names, beginnings)} - dict(
                known
            ).keys()
            own.executemany("DELETE FROM facts WHERE name = ?", [(name,) for name in sorted(gone)])
            own.executemany(
                "INSERT INTO facts(name, value) VALUES (?, ?)"
                " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
                [row for row in known if here.get(row[0]) != row[1]],
            )

        self.write_own(change)

    def replace_shared(self, names: Sequence[str], beginnings: Sequence[str]) -> None:
        """Let the hosts know what this one knows, in place of all that was known before.

        Raises `DatabaseError`.
        """
        if self._shared is None:
            return

        def common(connection: Connection) -> list[tuple[str, str]]:
            return [row for row in _all(connection) if _is_one_of(row[0], names, beginnings)]

        known = self.read_own(common)
        with self._shared.transaction() as connection:
            gone = [(name,) for name, _ in common(connection)]
            connection.executemany("DELETE FROM facts WHERE name = ?", gone)
            connection.executemany("INSERT INTO facts(name, value) VALUES (?, ?)", known)

    def offer(self, names: Sequence[str], beginnings: Sequence[str] = ()) -> None:
        """Let the hosts know what this one knew alone, if they know nothing yet: it was the only
        one until now. A database that does not answer gets it at the next start."""
        if self._shared is None:
            return

        def common(connection: Connection) -> list[tuple[str, str]]:
            return [row for row in _all(connection) if _is_one_of(row[0], names, beginnings)]

        known = self.read_own(common)
        try:
            with self._shared.transaction() as connection:
                if known and not common(connection):
                    connection.executemany("INSERT INTO facts(name, value) VALUES (?, ?)", known)
        except DatabaseError as error:
            _log.warning("%s [%s] %s", error.message, error.code, error.hint)


def _all(connection: Connection) -> list[tuple[str, str]]:
    rows = connection.execute("SELECT name, value FROM facts").fetchall()
    return [(str(name), str(value)) for name, value in rows]


def _is_one_of(name: str, names: Sequence[str], beginnings: Sequence[str]) -> bool:
    return name in names or name.startswith(tuple(beginnings))
