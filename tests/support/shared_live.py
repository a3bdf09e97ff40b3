"""`SharedLive`: the live data of one of several hosts, whose database in common is a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from backups.host.records import open_records
from backups.sources.engine.live_data import Files
from shared.databases.engines.database import Connection
from shared.databases.engines.database import Database as SharedDatabase
from shared.databases.engines.holder import Holder
from shared.databases.sqlite import Database
from shared.errors import DatabaseUnreachable


class SharedLive(Files):
    """Files of this host, and a table `facts` of all hosts, which is `away` when a test says so,
    and counts how often it was `asked`.

    It is the lease of the scheduler, too, as a host sees it that does not lead.
    """

    is_shared = True

    def __init__(self, records: Database) -> None:
        self._records = records
        self.away = False
        self.asked = 0
        self.leader: Holder | None = None

    def database(self, source: str, *, fenced: bool = False) -> SharedDatabase:
        """What the hosts share."""
        return self  # type: ignore[return-value]

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `Database`."""
        self._answer()
        with self._records.transaction() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See `Database`."""
        self._answer()
        with self._records.reading() as connection:
            yield connection

    def holder(self) -> tuple[str, int] | None:
        """Who leads."""
        self._answer()
        return "other", 7

    def announced(self) -> Holder | None:
        """What the leader says of itself."""
        self._answer()
        return self.leader

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise DatabaseUnreachable("the database bot at db does not answer", "Look at it.")


@contextmanager
def shared_live(folder: Path) -> Iterator[SharedLive]:
    """With an empty table `facts` in `folder`."""
    folder.mkdir()
    with closing(open_records(folder)) as records:
        yield SharedLive(records)
