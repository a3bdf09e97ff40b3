"""Accept: a person has looked at a suspect set, or knows of restore points that are missing."""

from __future__ import annotations

from backups.alerts.dispatch import Alerts
from backups.host.state import HostState
from backups.model import BackupSet, MissingPoint
from backups.operations.own_sets import OwnSets
from backups.sets.catalogue import Catalogue
from backups.sets.verdicts import Verdicts


class Acceptance:
    """Clears sets of suspicion, and ends the problem of what is missing."""

    def __init__(
        self,
        catalogue: Catalogue,
        verdicts: Verdicts,
        facts: HostState,
        *,
        own_sets: OwnSets,
        alerts: Alerts,
    ) -> None:
        self._catalogue = catalogue
        self._own_sets = own_sets
        self._verdicts = verdicts
        self._facts = facts
        self._alerts = alerts

    def accept(self, target: str) -> BackupSet:
        """Clear a set of suspicion, and its sources of having been begun anew.

        `target` is its id, or `latest`. Raises what `OwnSets.named` does, and `StoreError`.
        """
        self._catalogue.refresh()
        cleared = self._own_sets.named(target)
        self._verdicts.note_acceptance(cleared.id)
        for stored in cleared.objects:
            self._facts.forget_started_empty(stored.source)
            self._facts.forget_baseline(stored.source)
        self._alerts.send_alerts()
        return self._catalogue.get(cleared.id)

    def accept_missing(self) -> tuple[MissingPoint, ...]:
        """Remember that the loss of all missing restore points is known; those that were missing.

        They are a problem until a newer proven set is in the store: at once, if there is one.
        """
        missing = self._own_sets.missing_points()
        self._catalogue.accept_missing()
        self._alerts.send_alerts()
        return missing
