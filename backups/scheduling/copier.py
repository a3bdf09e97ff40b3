"""When to copy to the second place: after each set, and each `COPY_EVERY` seconds."""

from __future__ import annotations

import logging
import threading

from backups.errors import CopyInProgress, RunInterrupted
from backups.operations.second.place import SecondPlace
from backups.service import BackupService
from shared.errors import AppError

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 30.0, 1800.0

_log = logging.getLogger("backups.copy")


class Copier:
    """Copies what is new; call `work` every second in a thread of its own."""

    def __init__(self, service: BackupService, second: SecondPlace) -> None:
        self._service = service
        self._second = second
        self._asked = threading.Event()
        self._not_before = 0.0
        self._failures = 0
        self._seen: str | None = None
        self._copied_at: float | None = None

    def ask(self) -> None:
        """Copy at the next look, whatever is due."""
        self._not_before = 0.0
        self._asked.set()

    def work(self) -> None:
        """Copy if that is due; what stands in the way is noted, and tried again."""
        now = self._service.clock.monotonic()
        if now < self._not_before or not self._is_due(now):
            return
        last = self._service.run_log.last("backup", "succeeded")
        self._asked.clear()
        try:
            self._second.copy()
        except (CopyInProgress, RunInterrupted):
            self._not_before = now + _FIRST_WAIT_SECONDS
            return
        except AppError as error:
            self._failures += 1
            wait = min(_FIRST_WAIT_SECONDS * 2.0 ** (self._failures - 1), _LONGEST_WAIT_SECONDS)
            self._not_before = self._service.clock.monotonic() + wait
            log = _log.warning if self._failures == 1 else _log.debug
            log("nothing was copied to the second place: %s [%s]", error.message, error.code)
            return
        self._failures = 0
        self._seen = last.id if last is not None else None
        self._copied_at = self._service.clock.monotonic()

    def _is_due(self, now: float) -> bool:
        if self._asked.is_set() or self._failures or self._copied_at is None:
            return True
        if now - self._copied_at >= self._second.config.every.total_seconds():
            return True
        last = self._service.run_log.last("backup", "succeeded")
        return last is not None and last.id != self._seen
