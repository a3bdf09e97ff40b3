"""The work on the inbox: a thread that hands its events to the platforms, and tries again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby

from shared.errors import AppError
from shared.logs import fields
from shared.merchants.inbox import Inbox, Provider, WaitingEvent
from shared.merchants.platform import Platform
from shared.process.lasting_work import Supervisor, beat

_log = logging.getLogger(__name__)

_BATCH = 500
_POLL_SECONDS = 0.5
_PURGE_EVERY = 3600
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_WAIT_AFTER_FAULT_SECONDS = 3600.0
# A full batch of one account, with a slow platform and a slow store.
_MOST_SECONDS = 900.0


class InboxWorker:
    """Works the inbox off while it is `running`, which one process of a host may be."""

    def __init__(
        self,
        inbox: Inbox,
        platforms: Mapping[Provider, Platform],
        supervisor: Supervisor | None = None,
    ) -> None:
        self._inbox = inbox
        self._platforms = platforms
        self._supervisor = supervisor or Supervisor()
        self._stopping = threading.Event()
        self._purge_at = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work in a thread for the length of a block; ends after the batch in hand."""
        self._stopping.clear()
        with self._supervisor.running("inbox", self._step, self._stopping, most=_MOST_SECONDS):
            yield

    def work(self) -> int:
        """Work off one batch of what is due; how many events that were."""
        waiting = self._inbox.due(_BATCH, self._platforms)
        for (provider, account), group in groupby(sorted(waiting, key=_owner), _owner):
            if self._stopping.is_set():
                break
            beat()
            self._work(provider, account, list(group))
        return len(waiting)

    def _step(self) -> float:
        """Work off one batch; the seconds to wait before the next."""
        found = self.work()
        if time.monotonic() >= self._purge_at:
            self._inbox.purge()
            self._purge_at = time.monotonic() + _PURGE_EVERY
        return _POLL_SECONDS if found < _BATCH else 0

    def _work(self, provider: Provider, account: str, events: list[WaitingEvent]) -> None:
        about = fields(provider=provider, account=account, events=len(events))
        sequences = [waiting.sequence for waiting in events]
        attempts = max(waiting.attempts for waiting in events)
        try:
            self._platforms[provider].handle(account, events)
        except AppError as error:
            wait = min(2.0**attempts, _LONGEST_WAIT_SECONDS)
            _log.warning(
                "events failed and will be retried in %.0f s: %s [%s]",
                wait,
                error.message,
                error.code,
                extra=about,
            )
            self._inbox.postpone(sequences, wait)
        except Exception:
            # A fault of this program must not stop the work for the other accounts.
            wait = min(2.0**attempts, _LONGEST_WAIT_AFTER_FAULT_SECONDS)
            _log.exception("events failed and will be retried in %.0f s", wait, extra=about)
            self._inbox.postpone(sequences, wait)
        else:
            self._inbox.finish(sequences)


def _owner(waiting: WaitingEvent) -> tuple[Provider, str]:
    return waiting.event.provider, waiting.event.account
