"""Following changes: with increments, and with a run of all sources where only that helps.

Where increments are off, the watch is polled, and a change run starts when one is due.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from backups.decisions.due import STORE_FAILURES, ChangeFacts, due_at
from backups.errors import LeaseHeld, RunInterrupted
from backups.increments.follow_folder import FollowFolder
from backups.increments.follower import Follower, Outcome
from backups.model import Run
from backups.scheduling.asked_steps import AskedSteps
from backups.scheduling.follower_parts import make_follower
from backups.scheduling.store_probe import StoreProbe
from backups.service import BackupService
from backups.vocabulary.following import Following
from shared.errors import AppError, DiskFull
from shared.process.lasting_work import note

_log = logging.getLogger(__name__)

# The time of a file is that of the kernel's last tick, or coarser: a write after the newest set
# may seem to have come a little before it.
_COARSE = timedelta(seconds=2)
# So that a look is not a moment too early, and the next one a whole turn later.
_JUST_AFTER = 0.005


class ChangeFollower:
    """Asks for a run `delay` after a change; call `step` about once a second, then `close`."""

    def __init__(
        self, service: BackupService, delay: timedelta, stopping: threading.Event | None = None
    ) -> None:
        self._service = service
        self._delay = delay
        config = service.config
        self._follower = make_follower(service, delay, stopping) if config.follows else None
        self._folder = FollowFolder(service.directory)
        self._asked = AskedSteps(service)
        self._said: Following | None = None
        watched = [source for source in config.sources if not source.volatile]
        self._watch = service.live.watch(watched)
        # When the last attempt began and ended, whether or not it came as far as a run.
        self._last: tuple[timedelta, timedelta] | None = None
        self._failures = 0
        self._store_failed = False
        self._probe = StoreProbe(service.backup.ask_store, service.clock.monotonic)
        self._changed_at: timedelta | None = self._changed_before_the_start()
        # Only the age of the files says so: a start and an end of SQLite change that, too.
        self._is_unsure = self._changed_at is not None

    def step(self) -> Run | None:
        """Poll once; the run, if one was due and was made."""
        now = self._now()
        if self._follower is not None and not self._service.own_sets.started_empty():
            outcome = self._follow(self._follower)
            follows = self._follower.chain is not None and outcome != "needs_full"
            if follows or outcome == "waiting":
                self._changed_at, self._is_unsure = None, False
                return None
            if outcome == "needs_full":
                self._is_unsure = False
                self._changed_at = self._changed_at or now - self._delay
        elif self._watch.poll():
            self._is_unsure = False
            if self._changed_at is None:
                self._changed_at = now
        if self._changed_at is None or not self._is_due(self._changed_at, now):
            return None
        # Before the run: what is written while it runs is a change of its own.
        changed_at, self._changed_at = self._changed_at, None
        try:
            started = (
                self._service.backup.begin_if_changed()
                if self._is_unsure
                else self._service.backup.begin("change")
            )
            self._is_unsure = False
            if started is None:
                return None
            run = started.execute()
        except LeaseHeld:
            self._changed_at = changed_at  # asked again at the next step
            return None
        except AppError as error:
            _log.error("change run failed: %s [%s] %s", error.message, error.code, error.hint)
            note(error)
            self._changed_at = changed_at
            self._failures += 1
            self._store_failed = False
            self._last = now, self._now()
            return None
        note(None)
        self._last = now, self._now()
        if run.status == "succeeded":
            if self._follower is not None:
                self._follower.full_made()
            self._failures = 0
            self._probe.succeeded()
        else:
            self._failures += 1
            self._changed_at = changed_at
            self._probe.failed()
        self._store_failed = run.error is not None and run.error.code in STORE_FAILURES
        return run

    def _follow(self, follower: Follower) -> Outcome:
        """A step of the follower; what status is to say of it is written when it changes."""
        try:
            return self._answering(follower)
        except RunInterrupted:  # the process ends while a source is locked
            return "waiting"
        finally:
            following = follower.following
            if self._said is None or _differ(following, self._said):
                with suppress(DiskFull):  # it is written at a later step
                    self._folder.note_following(following)
                    self._said = following

    def _answering(self, follower: Follower) -> Outcome:
        asked = self._asked.waiting()
        outcome = follower.step(hurry=bool(asked))
        if follower.chain is not None and outcome in ("idle", "stored"):
            self._asked.answer(asked)
        return outcome

    def wait(self, most: float) -> float:
        """Seconds until the next look: `most`, or less where a step is due before."""
        if self._follower is None:
            return most
        due_in = self._follower.not_before - self._service.clock.monotonic()
        return min(most, due_in + _JUST_AFTER) if due_in > 0 else most

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()
        if self._follower is not None:
            self._follower.close()

    def _now(self) -> timedelta:
        return timedelta(seconds=self._service.clock.monotonic())

    def _is_due(self, changed_at: timedelta, now: timedelta) -> bool:
        """Whether a run may begin: also before the delay is over, if the store is back."""
        facts = ChangeFacts(
            changed_at=changed_at,
            last_started_at=self._last[0] if self._last else None,
            last_finished_at=self._last[1] if self._last else None,
            failures=self._failures,
        )
        if due_at(facts, self._delay) <= now:
            return True
        if not self._store_failed or due_at(replace(facts, failures=0), self._delay) > now:
            return False
        return self._probe.answers_again()

    def _changed_before_the_start(self) -> timedelta | None:
        """A write that came after the newest set, while nobody watched, is a change too."""
        newest = self._service.catalogue.newest_protecting(self._service.own_sets.ours())
        modified = self._watch.modified_at()
        if newest is None or modified is None or modified + _COARSE <= newest.holds_until:
            return None
        return self._now()


def _differ(one: Following, other: Following) -> bool:
    """Whether status says another thing of them; since when they wait may move by a second."""
    return replace(one, waiting_since=None) != replace(other, waiting_since=None) or (
        (one.waiting_since is None) != (other.waiting_since is None)
    )
