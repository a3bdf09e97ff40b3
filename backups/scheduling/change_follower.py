"""Following changes: polls the watch, and starts a change run when one is due."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from backups.decisions.due import ChangeFacts, due_at
from backups.errors import LeaseHeld
from backups.model import Run
from backups.service import BackupService
from backups.sources.change_watch import ChangeWatch
from shared.errors import AppError

_log = logging.getLogger(__name__)


class ChangeFollower:
    """Asks for a run `delay` after a change; call `step` about once a second, then `close`."""

    def __init__(self, service: BackupService, delay: timedelta) -> None:
        self._service = service
        self._delay = delay
        self._watch = ChangeWatch([s for s in service.config.sources if not s.volatile])
        # When the last attempt began and ended, whether or not it came as far as a run.
        self._last: tuple[datetime, datetime] | None = None
        self._failures = 0
        self._changed_at: datetime | None = self._changed_before_the_start()

    def step(self) -> Run | None:
        """Poll once; the run, if one was due and was made."""
        now = self._service.clock.now()
        if self._watch.poll() and self._changed_at is None:
            self._changed_at = now
        if self._changed_at is None or due_at(self._facts(self._changed_at), self._delay) > now:
            return None
        # Before the run: what is written while it runs is a change of its own.
        changed_at, self._changed_at = self._changed_at, None
        try:
            run = self._service.backup.begin("change").execute()
        except LeaseHeld:
            self._changed_at = changed_at  # asked again at the next step
            return None
        except AppError as error:
            _log.error("change run failed: %s [%s] %s", error.message, error.code, error.hint)
            self._changed_at = changed_at
            self._failures += 1
            self._last = now, self._service.clock.now()
            return None
        self._last = run.started_at, run.finished_at or self._service.clock.now()
        self._failures = 0 if run.status == "succeeded" else self._failures + 1
        if run.status != "succeeded":
            self._changed_at = changed_at
        return run

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def _facts(self, changed_at: datetime) -> ChangeFacts:
        return ChangeFacts(
            changed_at=changed_at,
            last_started_at=self._last[0] if self._last else None,
            last_finished_at=self._last[1] if self._last else None,
            failures=self._failures,
        )

    def _changed_before_the_start(self) -> datetime | None:
        """A write that came after the newest set, while nobody watched, is a change too."""
        newest = self._service.catalogue.newest_protecting(self._service.own_sets.ours())
        modified = self._watch.modified_at()
        if newest is None or modified is None or modified <= newest.created_at:
            return None
        return self._service.clock.now()
