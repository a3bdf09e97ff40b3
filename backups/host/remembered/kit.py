"""That a person keeps the emergency kit elsewhere, as the hosts of an installation remember it."""

from __future__ import annotations

from datetime import datetime

from backups.host.remembered.common import CommonFacts
from backups.host.remembered.record import document
from backups.vocabulary.kit import KeptKit

_KEPT = document("kit_kept", KeptKit)
NAMES = (_KEPT.name,)


class KitRecord:
    """The confirmation. Every method raises `DatabaseError` when the records cannot be used."""

    def __init__(self, common: CommonFacts) -> None:
        self._common = common

    def kept(self) -> KeptKit | None:
        """The newest confirmation, of whichever kit; None for none that can be read."""
        return self._common.read(_KEPT.read)

    def keep(self, fingerprint: str, at: datetime) -> KeptKit:
        """Note that a person keeps the kit with this fingerprint; returns the note."""
        kept = KeptKit(at, fingerprint)
        self._common.write(lambda connection: _KEPT.write(connection, kept))
        return kept
