"""The embedded scheduler: one process of the host schedules; when it dies, another does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from backups.errors import LeaseHeld
from backups.host.lease import HeldLease
from backups.model import Trigger
from backups.scheduling.change_follower import ChangeFollower
from backups.service import BackupService
from shared.clock import format_utc
from shared.crontab import Crontab
from shared.errors import AppError
from shared.logs import fields
from shared.process.lasting_work import last

JOB_ID = "backup"
CATCH_UP_JOB_ID = "catch-up"
DRILL_JOB_ID = "drill"
ALERTS_JOB_ID = "alerts"
POLL_SECONDS = 1
CATCH_UP_SECONDS = 60
LEADER_JOB_SECONDS = 1
LEAD_RETRY_SECONDS = 5
GRACE_SECONDS = 6 * 3600
PATIENCE_AT_SHUTDOWN_SECONDS = 5

_log = logging.getLogger(__name__)


class CrontabTrigger(BaseTrigger):  # type: ignore[misc]
    """APScheduler's view of a `Crontab`, with crontab's weekdays and UTC."""

    def __init__(self, crontab: Crontab) -> None:
        self._crontab = crontab

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """The first due instant after the previous one, or after now."""
        return self._crontab.next_after(previous_fire_time or now)


@dataclass(frozen=True)
class LeaderJob:
    """A job of another part of the program, which only the process that schedules does.

    `work` is called at the instants of `schedule`, and every second, also while it goes on: it
    decides whether something is owed, and raises nothing. `while_leader` is entered when
    this process begins to schedule, and left when it ends; `stop` makes `work` end soon.
    """

    name: str
    schedule: Crontab
    work: Callable[[], object]
    while_leader: Callable[[], AbstractContextManager[None]]
    stop: Callable[[], None]


class _Following:
    """A change follower that is made anew after a fault: backups go on without one meanwhile."""

    def __init__(self, service: BackupService, delay: timedelta) -> None:
        self._service = service
        self._delay = delay
        self._follower: ChangeFollower | None = None

    def step(self) -> float:
        """Follow once; the seconds to wait before the next step."""
        if self._follower is None:
            self._follower = ChangeFollower(self._service, self._delay)
        try:
            self._follower.step()
        except Exception:
            self.close()
            raise
        return POLL_SECONDS

    def close(self) -> None:
        """Stop watching."""
        if self._follower is not None:
            self._follower.close()
        self._follower = None


class BackupScheduler:
    """Runs what is due while this process holds the scheduler lease; `start` and `stop` it."""

    def __init__(self, service: BackupService, jobs: Sequence[LeaderJob] = ()) -> None:
        self._service = service
        self._leader_jobs = tuple(jobs)
        self._stopping = threading.Event()
        self._leading_ends = threading.Event()  # set with it, and when the lease is lost
        self._thread = threading.Thread(target=self._try_to_lead, name="backup-scheduler")

    def start(self) -> None:
        """Begin to try for the lease, in a thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop scheduling; a running backup gets some seconds to end, then stops cleanly."""
        self._stopping.set()
        self._leading_ends.set()
        for job in self._leader_jobs:
            job.stop()
        self._thread.join(PATIENCE_AT_SHUTDOWN_SECONDS)
        self._service.stop()
        self._thread.join()

    def give_up(self) -> None:
        """Stop all work at once, from any thread; `stop` follows."""
        self._stopping.set()
        self._leading_ends.set()
        for job in self._leader_jobs:
            job.stop()
        self._service.stop()

    def _try_to_lead(self) -> None:
        last("the scheduler", self._lead, self._stopping)

    def _lead(self) -> float:
        """Schedule until this process stops, if nobody else does; when to try again, in seconds."""
        lease = self._service.directory.scheduler_lease
        held = lease.try_acquire()
        if held is None:
            return LEAD_RETRY_SECONDS
        self._leading_ends.clear()
        if self._stopping.is_set():
            self._leading_ends.set()
        try:
            lease.announce()
            self._service.facts.note_begun(self._service.clock.now())
            with ExitStack() as leading:
                for job in self._leader_jobs:
                    leading.enter_context(job.while_leader())
                self._schedule(held)
        finally:
            held.release()
        return LEAD_RETRY_SECONDS

    def _schedule(self, held: HeldLease) -> None:
        scheduler = BackgroundScheduler(timezone=UTC)
        scheduler.add_job(
            self._run_if_owed,
            CrontabTrigger(self._service.config.schedule),
            args=("scheduled",),
            id=JOB_ID,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=GRACE_SECONDS,
        )
        scheduler.add_job(
            self._run_if_owed,
            IntervalTrigger(seconds=CATCH_UP_SECONDS, timezone=UTC),
            args=("catch-up",),
            id=CATCH_UP_JOB_ID,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=GRACE_SECONDS,
            next_run_time=datetime.now(UTC),
        )
        if self._service.config.drill_schedule and self._service.drill_is_possible():
            scheduler.add_job(
                self._drill,
                CrontabTrigger(self._service.config.drill_schedule),
                id=DRILL_JOB_ID,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=GRACE_SECONDS,
            )
        scheduler.add_job(
            self._service.alerts.send_alerts,
            IntervalTrigger(seconds=CATCH_UP_SECONDS, timezone=UTC),
            id=ALERTS_JOB_ID,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=GRACE_SECONDS,
        )
        for job in self._leader_jobs:
            self._add_leader_job(scheduler, job)
        # A host that is new, or was off for long, must not believe its old records.
        error = self._service.own_sets.refresh()
        if error is not None:
            _log.warning("could not refresh the catalogue; using local records: %s", error.message)
        if self._stopping.is_set():  # that may have taken long
            return
        scheduler.start()
        _log.info(
            "this process schedules the backups",
            extra=fields(
                cron=self._service.config.schedule.expression,
                next_run_at=format_utc(self._service.status().next_run_at),
            ),
        )
        try:
            self._follow_changes(held)
        finally:
            scheduler.shutdown(wait=True)

    def _add_leader_job(self, scheduler: BackgroundScheduler, job: LeaderJob) -> None:
        """At its instants, and every second for what was missed or asked for.

        Two at a time, so that a look while the work goes on is no warning in the log.
        """
        scheduler.add_job(
            job.work,
            CrontabTrigger(job.schedule),
            id=job.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=GRACE_SECONDS,
        )
        scheduler.add_job(
            job.work,
            IntervalTrigger(seconds=LEADER_JOB_SECONDS, timezone=UTC),
            id=f"{job.name}-catch-up",
            coalesce=True,
            max_instances=2,
            misfire_grace_time=GRACE_SECONDS,
            next_run_time=datetime.now(UTC),
        )

    def _follow_changes(self, held: HeldLease) -> None:
        """Ask for a run when data that is not volatile changes, until this process stops.

        Or until another one has the lease, whose file was removed and made anew.
        """
        delay = self._service.config.change_delay
        follower = _Following(self._service, delay) if delay else None

        def step() -> float:
            if not held.keep():
                _log.warning("another process schedules the backups now")
                self._leading_ends.set()
                return 0
            return follower.step() if follower else POLL_SECONDS

        try:
            last("following changes", step, self._leading_ends)
        finally:
            if follower:
                follower.close()

    def _run_if_owed(self, trigger: Trigger) -> None:
        try:
            run = self._service.backup.run_if_owed(trigger)
        except LeaseHeld as error:
            _log.info("%s", error.message, extra=fields(trigger=trigger))
        except AppError as error:
            _log.error(
                "%s backup failed: %s [%s] %s", trigger, error.message, error.code, error.hint
            )
        else:
            if run is not None and run.status == "succeeded":
                self._announce(run.set_id)

    def _drill(self) -> None:
        try:
            self._service.drill.begin("scheduled").execute()
        except LeaseHeld as error:
            _log.info("the drill was skipped: %s", error.message)
        except AppError as error:
            _log.error("drill failed: %s [%s] %s", error.message, error.code, error.hint)

    def _announce(self, set_id: str | None) -> None:
        status = self._service.status()
        _log.info(
            "protected: set %s is in %s; next backup at %s; see: python -m backups status",
            set_id,
            status.location,
            format_utc(status.next_run_at),
        )
