"""What the doctor found last, as this host remembers it."""

from __future__ import annotations

from backups.host.remembered.record import document
from backups.vocabulary.examination import KeptExamination
from shared.databases.sqlite import Database

_FOUND = document("examination", KeptExamination)


class KeptChecks:
    """The newest examination. Raises `DatabaseError` when the records cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def newest(self) -> KeptExamination | None:
        """What was found last; None for nothing that can be read."""
        with self._records.reading() as connection:
            return _FOUND.read(connection)

    def keep(self, found: KeptExamination) -> None:
        """Remember what was found."""
        with self._records.transaction() as connection:
            _FOUND.write(connection, found)
