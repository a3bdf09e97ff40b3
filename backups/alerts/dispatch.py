"""Which message is sent, and the record that it was."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from backups.alerts.notifier import Notifier
from backups.decisions.alarms import active_alarms, message_for, success_message, test_message
from backups.decisions.health import Status
from backups.host.state import HostState
from shared.errors import AppError

_log = logging.getLogger("backups.run")


class Alerts:
    """Sends a message when the problems of status have changed."""

    def __init__(
        self,
        status: Callable[[], Status],
        facts: HostState,
        notifier: Notifier,
        *,
        of_success: bool,
    ) -> None:
        self._status = status
        self._facts = facts
        self._notifier = notifier
        self._of_success = of_success

    def send_alerts(self) -> None:
        """Send a message if the alarms have changed since the last one; never raises."""
        try:
            status = self._status()
            now = active_alarms(status.health.problems)
            sent = self._facts.sent_alarms()
            last = status.last_run
            if sent and not now and (last is None or last.status != "succeeded"):
                return  # a failure that is merely no longer the newest run is no recovery
            message = message_for(sent, now, name=_name())
            if self._facts.claim_alarms([found.code for found in now]) is None or message is None:
                return
            if not self._notifier.send(message):
                self._facts.claim_alarms(sent)  # sent again at the next occasion
        except AppError as error:
            _log.warning("notifications could not be sent: %s", error.message)

    def send_success(self, set_id: str) -> None:
        """A sign of life after each good set, and a message if those are wanted."""
        self._notifier.heartbeat()
        if self._of_success:
            self._notifier.send(success_message(_name(), set_id))

    def send_test_message(self) -> bool:
        """Send a test message; whether it reached everybody."""
        return self._notifier.send(test_message(_name()))


def _name() -> str:
    return socket.gethostname()
