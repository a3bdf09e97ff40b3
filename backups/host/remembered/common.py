"""What all hosts of an installation know of it: in the database that they share, if they do.

Which restore was rehearsed last, what the second place has, whether the last backup failed: that is
true whichever host did it, and the next one to lead goes on from there. Each host keeps what it has
noted itself, too: for while the shared database is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
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
    """The table `facts` of the hosts in common; of one host, that of its own `records`.

    `is_common` says which names in it are; the others are of one host, or of the inbox.
    """

    def __init__(
        self,
        records: Database,
        shared: SharedDatabase | None,
        is_common: Callable[[str], bool],
    ) -> None:
        self._records = records
        self._shared = shared
        self._is_common = is_common
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

    def mirror(self) -> None:
        """Note on this host what all know; where they know nothing, what this host has stays.

        Raises `DatabaseError`.
        """
        if self._shared is None:
            return
        with self._shared.reading() as connection:
            known = self._common(connection)
        if known and known != self.read_own(self._common):
            self.write_own(partial(self._replace, known))

    def replace_shared(self) -> None:
        """Let the hosts know what this one knows, in place of all that was known before.

        Raises `DatabaseError`.
        """
        if self._shared is not None:
            known = self.read_own(self._common)
            with self._shared.transaction() as connection:
                self._replace(known, connection)

    def offer(self) -> None:
        """Let the hosts know what this one knew alone, if they know nothing yet: it was the only
        one until now. A database that does not answer gets it at the next start."""
        if self._shared is None:
            return
        known = self.read_own(self._common)
        try:
            with self._shared.transaction() as connection:
                if not self._common(connection):
                    self._replace(known, connection)
        except DatabaseError as error:
            _log.warning("%s [%s] %s", error.message, error.code, error.hint)

    def _common(self, connection: Connection) -> dict[str, str]:
        rows = connection.execute("SELECT name, value FROM facts").fetchall()
        return {str(name): str(value) for name, value in rows if self._is_common(str(name))}

    def _replace(self, known: Mapping[str, str], connection: Connection) -> None:
        gone = [(name,) for name in self._common(connection)]
        connection.executemany("DELETE FROM facts WHERE name = ?", gone)
        connection.executemany("INSERT INTO facts(name, value) VALUES (?, ?)", known.items())
