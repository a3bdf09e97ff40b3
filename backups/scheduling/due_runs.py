"""What the scheduler thread does: runs and drills when they are due, or were missed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Literal

from backups.errors import LeaseHeld
from backups.model import Trigger
from backups.scheduling.store_probe import StoreProbe
from backups.service import BackupService
from shared.clock import format_utc
from shared.errors import AppError
from shared.logs import fields
from shared.process.lasting_work import note, patience

Due = Literal["backup", "drill"]

POLL_SECONDS = 1.0
CATCH_UP_SECONDS = 60.0
DRILL_RETRY_SECONDS = 3600.0
# Half of `protection.SEEN_WITHIN`, with room for a look that the store does not answer.
LOOK_SECONDS = 15 * 60

_log = logging.getLogger(__name__)


class DueRuns:
    """Runs what is due; `wake` it from any thread, and call `step` about once a second from one.

    Where `changed` names settings, a run that failed before is tried again at once.

    Waits are by the monotonic clock, so that a clock that is set holds nothing up.
    """

    def __init__(
        self, service: BackupService, changed: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._service = service
        self._changed = changed
        self._corrected = False
        self._monotonic = service.clock.monotonic
        self._woken: set[Due] = set()
        self._catch_up_at = self._monotonic()
        self._drill_at: float | None = None
        self._probe = StoreProbe(service.backup.ask_store, self._monotonic)
        self.begun = threading.Event()
        self._look_at = 0.0
        self._cured = False
        self._restore_seen: str | None = None

    def wake(self, due: Due) -> None:
        """An instant of a schedule has come."""
        self._woken.add(due)

    def step(self) -> float:
        """Run what is due; the seconds to wait before the next step.

        Raises what keeps this host from scheduling at all, such as records that it cannot write.
        """
        # The store is asked before a run begins, too, and one that hangs takes its time.
        with patience(self._service.config.timeout.total_seconds()):
            self._run_what_is_due()
        return POLL_SECONDS

    def _run_what_is_due(self) -> None:
        if not self.begun.is_set():
            self._begin()
        if self._is_cured():
            self._back_up_what_is_cured()
        if "backup" in self._woken:
            self._woken.discard("backup")
            self._run_if_owed("scheduled")
        if self._monotonic() >= self._catch_up_at:
            self._catch_up_at = self._monotonic() + CATCH_UP_SECONDS
            self._run_if_owed("catch-up", at_once=self._corrected or self._store_is_back())
            self._corrected = False
        if self._monotonic() >= self._look_at:
            self._look()
        if "drill" in self._woken:
            self._woken.discard("drill")
            self._drill_at = self._monotonic()
        if self._drill_at is not None and self._monotonic() >= self._drill_at:
            self._drill_at = self._monotonic() + DRILL_RETRY_SECONDS
            self._drill()

    def _begin(self) -> None:
        """A host that is new, or was off for long, must not believe its old records."""
        self._service.facts.note_begun(self._service.clock.now())
        error = self._service.own_sets.refresh()
        if error is not None:
            _log.warning("could not refresh the catalogue; using local records: %s", error.message)
        else:
            self._service.adoption.say_what_was_taken_over()
            self._service.later_marks.finish()
        keys = " ".join(self._service.config.token_keys)
        before = self._service.facts.exchange_leader_keys(keys)
        # A key that was put back: only a backup shows that all is well again.
        self._cured = before not in (None, keys) and not self._service.status().health.healthy
        # What failed with other settings says nothing of these.
        self._corrected = bool(self._changed())
        self._look_at = self._monotonic() + LOOK_SECONDS
        self.begun.set()

    def _is_cured(self) -> bool:
        """Whether a person has just put the data or the keys right, and no backup has followed."""
        restore = self._service.facts.last_restore()
        if restore is not None and restore.run_id != self._restore_seen:
            made = self._service.own_sets.newest_made()
            if made is None or made.created_at <= restore.at:
                return True
            self._restore_seen = restore.run_id
        return self._cured

    def _back_up_what_is_cured(self) -> None:
        """Make a set at once, so that status says so; a failure is tried again as any other."""
        restore = self._service.facts.last_restore()
        try:
            started = self._service.backup.begin_unless(lambda: not self._is_cured(), "catch-up")
        except LeaseHeld:
            return  # such as the rest of the restore: again in a second
        except AppError as error:
            _log.error("no backup of what was put right: %s [%s]", error.message, error.code)
        else:
            if started is None:  # the follower's full has come first
                return
            run = started.execute()
            if run.status == "succeeded":
                self._probe.succeeded()
                self._announce(run.set_id)
        self._cured = False
        self._restore_seen = restore.run_id if restore is not None else None

    def _look(self) -> None:
        """See what the store has: somebody may have emptied the bucket since the last run."""
        self._look_at = self._monotonic() + LOOK_SECONDS
        if self._service.own_sets.waits_for_store():  # it is asked each minute, with less
            return
        error = self._service.own_sets.refresh()
        if error is not None:
            _log.warning("could not look at the store: %s [%s]", error.message, error.code)
        else:
            self._service.later_marks.finish()

    def _store_is_back(self) -> bool:
        """Whether a run that the store failed may begin before its delay is over."""
        try:
            return self._service.own_sets.waits_for_store() and self._probe.answers_again()
        except AppError:
            return False  # the run meets it again, and says so

    def _run_if_owed(self, trigger: Trigger, *, at_once: bool = False) -> None:
        try:
            run = self._service.backup.run_if_owed(trigger, at_once=at_once)
        except LeaseHeld as error:
            _log.info("%s", error.message, extra=fields(trigger=trigger))
            return
        except AppError as error:
            note(error)
            _log.error(
                "%s backup failed: %s [%s] %s", trigger, error.message, error.code, error.hint
            )
            return
        note(None)
        if run is None:
            return
        if run.status == "succeeded":
            self._probe.succeeded()
            self._announce(run.set_id)
        else:
            self._probe.failed()

    def _drill(self) -> None:
        """Begin a drill; one that cannot begin is tried again until the next one is due."""
        try:
            with self._service.drilling() as service:
                started = service.drill.begin("scheduled")
                self._drill_at = None
                try:
                    started.execute()
                except AppError as error:
                    _log.error("drill failed: %s [%s] %s", error.message, error.code, error.hint)
        except AppError as error:
            _log.warning(
                "the drill could not begin and will be tried again in %.0f min: %s [%s] %s",
                DRILL_RETRY_SECONDS / 60,
                error.message,
                error.code,
                error.hint,
            )

    def _announce(self, set_id: str | None) -> None:
        status = self._service.status()
        made = self._service.catalogue.get(set_id) if set_id else None
        if made is not None and made.suspect:
            _log.warning(
                "not protected: set %s is in %s, but suspect (the data looks damaged): %s; "
                "see: ./bot backups status",
                set_id,
                status.location,
                "; ".join(made.suspect),
            )
            return
        _log.info(
            "protected: set %s is in %s; next backup at %s; see: ./bot backups status",
            set_id,
            status.location,
            format_utc(status.next_run_at),
        )
