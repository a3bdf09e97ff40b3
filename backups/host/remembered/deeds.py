"""What one of several hosts did that the others find undone, or gone: a restore, a removed set."""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.host.remembered.common import CommonFacts
from backups.host.remembered.record import Record, time_of
from shared.clock import format_utc
from shared.databases.engines.database import Connection

_NEWEST_RESTORE: Record[str] = Record("newest_restore", str, str)
NAMES = (_NEWEST_RESTORE.name,)
DOOMED = "doomed:"
# A host that was away for longer has to read the store anew.
_REMEMBERED = timedelta(days=365)


class Deeds:
    """Of a host alone its own records tell: nothing is noted. Methods raise `DatabaseError`."""

    def __init__(self, common: CommonFacts) -> None:
        self._common = common

    def note_restore(self, run_id: str) -> None:
        """Let the other hosts know that a run of this one has replaced live data."""
        if self._common.is_shared:
            self._common.write(lambda connection: _NEWEST_RESTORE.write(connection, run_id))

    def was_restored_elsewhere(self, run_id: str) -> bool:
        """Whether another host has restored in place after this run of this one."""
        newest = self._common.read(_NEWEST_RESTORE.text) if self._common.is_shared else None
        return newest is not None and newest != run_id

    def note_doomed(self, set_id: str, at: datetime) -> None:
        """Let the other hosts know that this one is about to remove a set; for a year."""
        if not self._common.is_shared:
            return
        record, long_ago = time_of(f"{DOOMED}{set_id}"), format_utc(at - _REMEMBERED)

        def change(connection: Connection) -> None:
            record.write(connection, at)
            connection.execute(
                "DELETE FROM facts WHERE substr(name, 1, ?) = ? AND value < ?",
                (len(DOOMED), DOOMED, long_ago),
            )

        self._common.write(change)

    def is_doomed(self, set_id: str) -> bool:
        """Whether a host of this installation has removed a set."""
        record = time_of(f"{DOOMED}{set_id}")
        return self._common.is_shared and self._common.read(record.text) is not None
