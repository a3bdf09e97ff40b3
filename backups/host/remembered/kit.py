"""That a person keeps the emergency kit elsewhere, as this host remembers it."""

from __future__ import annotations

from datetime import datetime

from backups.host.remembered.record import document
from backups.vocabulary.kit import KeptKit
from shared.databases.sqlite import Database

_KEPT = document("kit_kept", KeptKit)


class KitRecord:
    """The confirmation. Every method raises `DatabaseError` when the records cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def kept(self) -> KeptKit | None:
        """The newest confirmation, of whichever kit; None for none that can be read."""
        with self._records.reading() as connection:
            return _KEPT.read(connection)

    def keep(self, fingerprint: str, at: datetime) -> KeptKit:
        """Note that a person keeps the kit with this fingerprint; returns the note."""
        kept = KeptKit(at, fingerprint)
        with self._records.transaction() as connection:
            _KEPT.write(connection, kept)
        return kept
