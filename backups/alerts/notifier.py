"""Telling someone: notifications through apprise, and the heartbeat. Neither ever raises."""

from __future__ import annotations

import http.client
import logging
import urllib.request
from collections.abc import Callable
from typing import Protocol

from backups.decisions.alarms import Message
from shared.errors import AppError

_log = logging.getLogger(__name__)
_HEARTBEAT_SECONDS = 10


class Notifier(Protocol):
    """Sends messages; its failures are logged, counted, and kept to itself."""

    def send(self, message: Message) -> bool:
        """Whether somebody was notified; True also when there is nobody to notify."""

    def heartbeat(self) -> bool:
        """Tell the watchdog that a run was proven; True also when there is none."""


class AppriseNotifier:
    """Sends to every URL of `BACKUP_NOTIFY_URLS`, and calls `BACKUP_HEARTBEAT_URL`.

    URLs hold secrets: they never appear in a log.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        heartbeat_url: str | None,
        count: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._urls = urls
        self._heartbeat_url = heartbeat_url
        self._count = count

    def send(self, message: Message) -> bool:
        """See `Notifier.send`."""
        if not self._urls:
            return True
        try:
            import apprise  # noqa: PLC0415 - it is slow to import, and seldom needed

            sender = apprise.Apprise()
            for url in self._urls:
                sender.add(url)
            sent = bool(sender.notify(title=message.title, body=message.body))
        except Exception as error:  # recorded: a broken notifier never breaks a run
            _log.warning("a notification failed: %s", type(error).__name__)
            sent = False
        if not sent:
            _log.warning("a notification did not reach every URL: %s", message.title)
        try:
            self._count(sent)
        except AppError as error:
            _log.warning("a notification could not be counted: %s", error.message)
        return sent

    def heartbeat(self) -> bool:
        """See `Notifier.heartbeat`."""
        if self._heartbeat_url is None:
            return True
        try:
            request = urllib.request.Request(self._heartbeat_url)  # noqa: S310 - checked setting
            with urllib.request.urlopen(request, timeout=_HEARTBEAT_SECONDS) as answer:  # noqa: S310
                return bool(answer.status < 400)
        except (OSError, ValueError, http.client.HTTPException) as error:
            _log.warning("the heartbeat URL could not be called: %s", type(error).__name__)
            return False
