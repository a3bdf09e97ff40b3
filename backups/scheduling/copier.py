"""When to copy to the second place: after each set, and each `COPY_EVERY` seconds.

While the first place is away, sets are made in the second, one each `COPY_EVERY` seconds in which
something changed; when the first is back, it gets them, also from a host that has replaced this
one meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import timedelta

from backups.decisions.due import STORE_FAILURES
from backups.errors import CopyInProgress, LeaseHeld, RunInterrupted
from backups.format import naming
from backups.increments.follow_folder import FollowFolder
from backups.model import OperationName
from backups.operations.second.place import SecondPlace
from backups.service import BackupService
from backups.vocabulary.second import StandIn
from shared.errors import AppError, StoreError

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 30.0, 1800.0
_LOOK_SECONDS = 15.0
_AFTER_A_FAILURE_SECONDS = 300.0
_GRACE = timedelta(seconds=30)
# A set; what a restore has set aside; the note that a set was deleted on purpose.
_LEAVE_SOMETHING: tuple[OperationName, ...] = ("backup", "restore", "delete")

_log = logging.getLogger("backups.copy")


class Copier:
    """Copies what is new; call `work` every second in a thread of its own.

    `open_stand_in` opens the service that makes sets in the second place.
    """

    def __init__(
        self,
        service: BackupService,
        second: SecondPlace,
        open_stand_in: Callable[[], AbstractContextManager[BackupService]],
    ) -> None:
        self._service = service
        self._second = second
        self._open_stand_in = open_stand_in
        self._record = service.facts.second
        self._asked = threading.Event()
        self._not_before = 0.0
        self._look_at = 0.0
        self._failures = 0
        self._seen: list[str] = []
        self._looked_elsewhere = False
        self._location = second.config.location
        self._copied_at: float | None = None

    def ask(self) -> None:
        """Copy at the next look, whatever is due."""
        self._not_before = 0.0
        self._asked.set()

    def work(self) -> None:
        """Do what is due; what stands in the way is noted, and tried again."""
        now = self._service.clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            with suppress(CopyInProgress, LeaseHeld, RunInterrupted):
                try:
                    self._stand_in_if_away()
                except AppError as error:
                    _log.warning(
                        "the second place does not stand in for the first: %s [%s]",
                        error.message,
                        error.code,
                    )
        runs = self._last_runs()
        if runs != self._seen or (now >= self._not_before and self._is_due(now)):
            self._seen = runs
            self._copy(now)

    def _copy(self, now: float) -> None:
        self._asked.clear()
        try:
            state, _ = self._second.copy()
        except (CopyInProgress, RunInterrupted):
            self._not_before = now + _FIRST_WAIT_SECONDS
            self._asked.set()
            return
        except AppError as error:
            self._wait_longer()
            log = _log.warning if self._failures == 1 else _log.debug
            log("nothing was copied to the second place: %s [%s]", error.message, error.code)
            return
        if state.waiting:
            self._wait_longer()
        else:
            self._failures = 0
        self._copied_at = self._service.clock.monotonic()
        self._inherit()
        self._copy_documents(now)

    def _copy_documents(self, now: float) -> None:
        """The application's documents, a while at a time: what is newly published goes first."""
        try:
            copied = self._second.copy_documents()
        except (CopyInProgress, RunInterrupted):
            return  # with the next copying
        except AppError as error:
            _log.warning(
                "no documents were copied to the second place: %s [%s]", error.message, error.code
            )
            return
        if copied is not None and copied.ran_out:
            self._not_before = min(self._not_before, now)
            self._asked.set()

    def _wait_longer(self) -> None:
        self._failures += 1
        wait = min(_FIRST_WAIT_SECONDS * 2.0 ** (self._failures - 1), _LONGEST_WAIT_SECONDS)
        self._not_before = self._service.clock.monotonic() + wait

    def _is_due(self, now: float) -> bool:
        if self._asked.is_set() or self._failures or self._copied_at is None:
            return True
        return now - self._copied_at >= self._second.config.every.total_seconds()

    def _last_runs(self) -> list[str]:
        """The last runs after which the second place lacks something."""
        found = (self._service.run_log.last(one, "succeeded") for one in _LEAVE_SOMETHING)
        return [run.id for run in found if run is not None]

    # --- while the first place is away ------------------------------------------------------

    def _stand_in_if_away(self) -> None:
        noted = self._record.stand_in(self._location)
        if not self._looked_elsewhere:
            self._looked_elsewhere = True
            if (left := self._record.left_elsewhere(self._location)) is not None and left.sets:
                _log.warning(
                    "sets that the first place did not get are in %s: %s. Set COPY_ back to it "
                    "until it has them",
                    left.location,
                    ", ".join(left.sets),
                )
        if not self._waits() and noted is None:
            return
        now = self._service.clock.now()
        if not self._is_away():
            if noted is not None:
                self._bring_back(noted)
            return
        stand_in = noted or StandIn(now)
        if noted is None:
            self._note(stand_in)
        last = stand_in.last_at or stand_in.at
        if not timedelta() <= now - last < self._second.config.every:  # or the clock was set back
            self._make_set(stand_in)

    def _waits(self) -> bool:
        """Whether a backup or a change waits for the store."""
        failure = self._service.own_sets.attempts.unresolved_failure()
        if failure is not None and failure.error and failure.error.code in STORE_FAILURES:
            return True
        following = FollowFolder(self._service.directory).following()
        since = following.waiting_since if following is not None else None
        return since is not None and self._service.clock.now() - since > _GRACE

    def _is_away(self) -> bool:
        prefix = naming.instances_prefix(self._service.config.prefix)
        try:
            next(iter(self._service.store.list(prefix)), None)
        except StoreError:
            return True
        return False

    def _make_set(self, stand_in: StandIn) -> None:
        """A set in the second place, unless nothing has changed since the one before."""
        with self._open_stand_in() as service:
            service.catalogue.refresh()
            started = service.backup.begin_if_changed()
            run = started.execute() if started is not None else None
        now = self._service.clock.now()
        if run is not None:
            self._service.run_log.note_elsewhere(run)
        if run is None:
            self._note(replace(stand_in, last_at=now))
        elif run.set_id is not None and run.error is None:
            sets = (*stand_in.sets, run.set_id)
            self._note(replace(stand_in, last_at=now, sets=sets))
            _log.warning(
                "the first place is away: set %s is in %s", run.set_id, self._second.config.location
            )
        elif run.error is not None:
            self._look_at = self._service.clock.monotonic() + _AFTER_A_FAILURE_SECONDS
            _log.error("neither place takes a set: %s [%s]", run.error.message, run.error.code)

    def _bring_back(self, stand_in: StandIn) -> None:
        """Give the first place what it lacks."""
        if stand_in.sets:
            self._second.bring_back(stand_in.sets)
            _log.info("the first place is back, and got %d sets", len(stand_in.sets))
        self._note(None)

    def _inherit(self) -> None:
        """After a restore from the second place: the first gets what led to it, and it lacks."""
        restored = self._service.facts.last_restore()
        if restored is None or restored.run_id == self._record.inherited():
            return
        try:
            if sets := self._second.lacking_in_first(restored.set_id):
                self._second.bring_back(sets)
                _log.info("the first place got %d sets from the second", len(sets))
        except (CopyInProgress, RunInterrupted):
            return  # with the next copying
        except AppError as error:
            _log.warning(
                "the first place did not get what led to the restore: %s [%s]",
                error.message,
                error.code,
            )
            return
        self._record.note_inherited(restored.run_id)

    def _note(self, stand_in: StandIn | None) -> None:
        self._record.note_stand_in(stand_in, self._location)
