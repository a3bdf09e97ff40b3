"""Telling someone: notifications through apprise, and the heartbeat. Neither ever raises."""

from __future__ import annotations

import logging
from typing import Protocol

from backups.decisions.alarms import Message
from backups.vocabulary.receivers import Receiver, receivers_of
from shared.printable import printable, printable_lines

_log = logging.getLogger(__name__)
_HEARTBEAT_SECONDS = 10


class Notifier(Protocol):
    """Sends messages; its failures are logged, and kept to itself."""

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """Whom it can reach."""

    def send(self, receiver: Receiver, message: Message) -> bool:
        """Whether the message reached this receiver. May be called from several threads."""

    def heartbeat(self) -> bool:
        """Tell the watchdog that a run was proven; True also when there is none."""


class AppriseNotifier:
    """Sends to the URLs of `BACKUP_NOTIFY_URLS`, and calls `BACKUP_HEARTBEAT_URL`.

    URLs hold secrets: they never appear in a log.
    """

    def __init__(self, urls: tuple[str, ...], heartbeat_url: str | None) -> None:
        self._urls = urls
        self._heartbeat_url = heartbeat_url
        self._receivers = receivers_of(urls)

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """See `Notifier.receivers`."""
        return self._receivers

    def send(self, receiver: Receiver, message: Message) -> bool:
        """See `Notifier.send`.

        apprise waits 4 s for a connection and 4 s for each part of an answer, 15 s of a mail
        server (`socket_connect_timeout` and `socket_read_timeout` of its plugins).
        """
        try:
            import apprise  # noqa: PLC0415 - it is slow to import, and seldom needed

            sender = apprise.Apprise()
            sender.add(self._urls[receiver.number - 1])
            body, title = printable_lines(message.body), printable(message.title)
            sent = bool(sender.notify(body, title, message.kind))
        except Exception as error:  # recorded: a broken notifier never breaks a run
            _log.warning("a message failed: %s", type(error).__name__)
            sent = False
        if not sent:
            _log.warning(
                "a message did not reach %s of BACKUP_NOTIFY_URLS: %s", receiver, message.title
            )
        return sent

    def heartbeat(self) -> bool:
        """See `Notifier.heartbeat`."""
        if self._heartbeat_url is None:
            return True
        import http.client  # noqa: PLC0415 - only who has a watchdog pays for it
        import urllib.request  # noqa: PLC0415

        try:
            request = urllib.request.Request(self._heartbeat_url)  # noqa: S310 - checked setting
            with urllib.request.urlopen(request, timeout=_HEARTBEAT_SECONDS) as answer:  # noqa: S310
                return bool(answer.status < 400)
        except (OSError, ValueError, http.client.HTTPException) as error:
            _log.warning("the heartbeat URL could not be called: %s", type(error).__name__)
            return False
