"""Accept: a person has looked at a suspect set (its data looks damaged), and clears it."""

from __future__ import annotations

from backups.alerts.dispatch import Alerts
from backups.host.state import HostState
from backups.model import BackupSet
from backups.sets.catalogue import Catalogue
from backups.sets.verdicts import Verdicts


class Acceptance:
    """Clears sets of suspicion."""

    def __init__(
        self, catalogue: Catalogue, verdicts: Verdicts, facts: HostState, *, alerts: Alerts
    ) -> None:
        self._catalogue = catalogue
        self._verdicts = verdicts
        self._facts = facts
        self._alerts = alerts

    def accept(self, set_id: str) -> BackupSet:
        """Clear a set of suspicion, and its sources of having been begun anew.

        Raises `SetNotFound`, `ManifestInvalid`, `StoreError`.
        """
        self._catalogue.refresh()
        cleared = self._catalogue.get(set_id)
        self._verdicts.note_acceptance(set_id)
        for stored in cleared.objects:
            self._facts.forget_started_empty(stored.source)
        self._alerts.send_alerts()
        return self._catalogue.get(set_id)
