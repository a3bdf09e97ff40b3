"""The newest examination that a change of settings caused, as this host remembers it."""

from __future__ import annotations

from backups.host.remembered.record import document
from backups.vocabulary.examination import SettingsCheck
from shared.databases.sqlite import Database

_CHECK = document("settings_check", SettingsCheck)


class CheckRecord:
    """The examination. Every method raises `DatabaseError` when the records cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def last(self) -> SettingsCheck | None:
        """The newest one; None for none that can be read."""
        with self._records.reading() as connection:
            return _CHECK.read(connection)

    def note(self, check: SettingsCheck) -> None:
        """Remember it in place of the one before."""
        with self._records.transaction() as connection:
            _CHECK.write(connection, check)
