"""That the database which several hosts share is away, and that it is back: from each of them.

Nobody leads meanwhile, and what a host knows of anything else may be old; so of all else it sends
nothing. What it has sent of this it notes for itself.
"""

from __future__ import annotations

from collections.abc import Callable

from backups.alerts.dispatch import Alerts
from backups.alerts.notifier import Notifier
from backups.decisions.alarms import DATABASE_UNREACHABLE, News
from backups.decisions.health import Status
from backups.host.state import HostState
from backups.model import Finding
from shared.clock import Clock
from shared.errors import DatabaseError


class OutageAlerts(Alerts):
    """Sends that, whichever host leads; `ask` raises `DatabaseError` while the database is away."""

    def __init__(
        self,
        ask: Callable[[], object],
        status: Callable[[], Status],
        facts: HostState,
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        super().__init__(status, facts, notifier, clock, book=facts.messages.of_outages)
        self._ask = ask

    def _news(self) -> News:
        try:
            self._ask()
        except DatabaseError as error:
            return News((Finding(DATABASE_UNREACHABLE, error.message, error.hint),))
        return News(())
