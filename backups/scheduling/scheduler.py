"""The embedded scheduler: one process of the host schedules; when it dies, another does.

Of several hosts that share their database, one process of all of them.

One file, because the threads of a leader begin and end together.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from backups.alerts.outage import OutageAlerts
from backups.host.heartbeats import dump_signs
from backups.host.lease import HeldRight, Right
from backups.host.records import find_faults
from backups.scheduling.change_follower import ChangeFollower
from backups.scheduling.due_runs import DueRuns
from backups.scheduling.packer import Packer
from backups.service import BackupService
from backups.status import cannot_begin
from shared.clock import format_utc
from shared.crontab import Crontab
from shared.errors import AppError, DatabaseError
from shared.logs import fields
from shared.process.clock_steps import ClockSteps
from shared.process.lasting_work import Supervisor, last, until

JOB_ID = "backup"
DRILL_JOB_ID = "drill"
POLL_SECONDS = 1.0
ALERT_SECONDS = 60.0
# Each URL that does not answer takes its time.
MOST_SECONDS_OF_ALERTS = 600.0
HEARTBEAT_TURNS = 10
LEAD_RETRY_SECONDS = 5.0
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
        """The first due instant after the previous one, or after now.

        Of several that have passed since the previous one it is the last: APScheduler makes
        one of them, after a list of them all, which is long when a clock was set by years.
        """
        if previous_fire_time is None:
            return self._crontab.next_after(now)
        following = self._crontab.next_after(previous_fire_time)
        return max(following, self._crontab.last_until(now)) if following <= now else following


@dataclass(frozen=True)
class LeaderJob:
    """A job of another part of the program, which only the process that schedules does.

    `work` is called at the instants of `schedule`, if there is one, and every second: it decides
    whether something is owed, and ends soon where it `has_to_end`. `while_leader` is entered when
    this process begins to schedule, and left when it ends; `stop` makes `work` end soon, for good.
    """

    name: str
    schedule: Crontab | None
    work: Callable[[], object]
    while_leader: Callable[[], AbstractContextManager[None]]
    stop: Callable[[], None]


class _Following:
    """A change follower that is made anew after a fault: backups go on without one meanwhile."""

    def __init__(
        self,
        service: BackupService,
        delay: timedelta,
        begun: threading.Event,
        stopping: threading.Event,
    ) -> None:
        self._service = service
        self._delay = delay
        self._stopping = stopping
        self._begun = begun
        self._follower: ChangeFollower | None = None

    def step(self) -> float:
        """Follow once; the seconds to wait before the next step."""
        if not self._begun.is_set():  # it compares with the newest set, which is not known yet
            return POLL_SECONDS
        if self._follower is None:
            self._follower = ChangeFollower(self._service, self._delay, self._stopping)
        try:
            self._follower.step()
            return self._follower.wait(POLL_SECONDS)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Stop watching."""
        if self._follower is not None:
            self._follower.close()
        self._follower = None


class BackupScheduler:
    """Runs what is due while this process holds the scheduler lease; `start` and `stop` it.

    Its threads, and those of `jobs`, are in the `supervisor`: `alerts` in each process of the app,
    `scheduler`, `follower` and `packer` in the one that schedules, which also writes for the
    others how its threads are. Where `changed` names settings, a failed backup is tried at once.
    """

    def __init__(
        self,
        service: BackupService,
        jobs: Sequence[LeaderJob] = (),
        *,
        supervisor: Supervisor | None = None,
        changed: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._service, self._changed = service, changed
        self._leader_jobs = tuple(jobs)
        self._supervisor = supervisor or Supervisor()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._try_to_lead, name="backup-scheduler")
        self._in_each_process = ExitStack()
        self._alerted = self._silent = False
        self._outage = OutageAlerts(
            service.directory.scheduler_lease.holder,
            service.status,
            service.facts,
            service.alerts.notifier,
            service.clock,
        )

    def start(self) -> None:
        """Begin to try for the lease, in a thread; returns at once."""
        self._in_each_process.enter_context(
            self._supervisor.running(
                "alerts", self._alert, threading.Event(), most=MOST_SECONDS_OF_ALERTS
            )
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop scheduling; a running backup gets some seconds to end, then stops cleanly."""
        self._stopping.set()
        for job in self._leader_jobs:
            job.stop()
        self._thread.join(PATIENCE_AT_SHUTDOWN_SECONDS)
        self._service.stop()
        self._thread.join()
        self._in_each_process.close()

    def give_up(self) -> None:
        """Stop all work at once, from any thread; `stop` follows."""
        self._stopping.set()
        for job in self._leader_jobs:
            job.stop()
        self._service.stop()

    def _keep_up(self) -> None:
        """Of several hosts, know what all know, and tell what they could not be told before."""
        with suppress(DatabaseError):  # status names it; the next look is soon
            self._service.own_sets.attempts.tell()
            self._service.facts.common.mirror()

    def _alert(self) -> float:
        service, alerted = self._service, self._alerted
        if service.live.is_shared:
            self._keep_up()
        self._alerted = True
        # Not at the start: what this process makes up for first is no news.
        if alerted and service.facts.messages.is_shared:
            self._outage.send_alerts()
        if not service.alerts.may_send():
            # Whoever leads sends the others; of its sets this host knows what the store has.
            service.own_sets.refresh()
        elif alerted:
            service.alerts.send_alerts()
        return ALERT_SECONDS

    def _try_to_lead(self) -> None:
        last("the scheduler", self._lead, self._stopping)

    def _lead(self) -> float:
        """Schedule until this process stops, if nobody else does; when to try again, in seconds."""
        lease = self._service.directory.scheduler_lease
        held = lease.try_acquire()
        if held is None:
            return LEAD_RETRY_SECONDS
        self._service.alerts.leads = True
        try:
            self._announce(lease)
            self._schedule(held)
        finally:
            self._service.alerts.leads = False
            held.release()
        return LEAD_RETRY_SECONDS

    def _announce(self, lease: Right) -> None:
        """Say who leads, and with which key; on a full disk nobody can read it."""
        try:
            lease.announce()
            if keys := self._service.config.mark_keys:
                self._service.facts.note_leader_key(keys[0].fingerprint)
        except AppError as error:
            _log.warning("%s [%s] %s", error.message, error.code, error.hint)

    def _schedule(self, held: HeldRight) -> None:
        """Run the threads of a leader until this process stops, or has the lease no more."""
        lost = threading.Event()
        with until(lost), ExitStack() as leading:
            try:
                self._watch(self._begin_to_schedule(leading), held)
            finally:
                if not self._stopping.is_set():  # else what is in hand has a while: see `stop`
                    self._service.alerts.leads = False
                    lost.set()

    def _begin_to_schedule(self, leading: ExitStack) -> BackgroundScheduler:
        """Start the threads of a leader, which the end of `leading` ends."""
        runs, ended = DueRuns(self._service, self._changed), threading.Event()
        for job in self._leader_jobs:
            leading.enter_context(job.while_leader())
        leading.enter_context(self._supervisor.running("scheduler", runs.step, ended))
        if delay := self._service.config.change_delay:
            following = _Following(self._service, delay, runs.begun, self._stopping)
            leading.callback(following.close)
            leading.enter_context(self._supervisor.running("follower", following.step, ended))
            packer = Packer(self._service, ended)
            leading.enter_context(self._supervisor.running("packer", packer.step, ended))
        for job in self._leader_jobs:
            leading.enter_context(_working_each_second(job, ended))
        leading.callback(ended.set)
        plan = self._plan(runs)
        plan.start()
        leading.callback(plan.shutdown, wait=True)
        schedule = self._service.config.schedule
        _log.info(
            "this process schedules the backups",
            extra=fields(
                cron=schedule.expression,
                next_run_at=format_utc(schedule.next_after(self._service.clock.now())),
            ),
        )
        return plan

    def _plan(self, runs: DueRuns) -> BackgroundScheduler:
        """The instants of the schedules; what has to be done then, the threads do."""
        plan = BackgroundScheduler(timezone=UTC)
        schedules: list[tuple[str, Crontab, Callable[[], object]]] = [
            (JOB_ID, self._service.config.schedule, lambda: runs.wake("backup")),
            *((job.name, job.schedule, job.work) for job in self._leader_jobs if job.schedule),
        ]
        if self._service.config.drill_schedule and self._service.drill_is_possible():
            schedules.append(
                (DRILL_JOB_ID, self._service.config.drill_schedule, lambda: runs.wake("drill"))
            )
        for name, schedule, act in schedules:
            plan.add_job(
                partial(copy_context().run, act),  # its threads are of this turn, too
                CrontabTrigger(schedule),
                id=name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=GRACE_SECONDS,
            )
        return plan

    def _watch(self, plan: BackgroundScheduler, held: HeldRight) -> None:
        """Say how the threads are, and plan anew when the clock was set, until the end.

        That is also when another process has the lease, whose file was removed and made anew.

        Raises `RuntimeError` when APScheduler's own thread has ended: all begins anew then.
        """
        steps = ClockSteps(self._service.clock)
        turn = 0
        while True:
            if turn % HEARTBEAT_TURNS == 0:
                self._write_heartbeats(held)
            turn += 1
            if self._stopping.wait(POLL_SECONDS):
                return
            if not held.keep():
                _log.warning("another process schedules the backups now")
                return
            if not plan._thread.is_alive():
                raise RuntimeError("the thread that keeps the schedules has ended")
            if (step := steps.look()) is not None:
                _log.warning(
                    "the clock was set by %+.0f s, or this host slept: the jobs are planned anew",
                    step.total_seconds(),
                )
                for job in plan.get_jobs():
                    plan.reschedule_job(job.id, trigger=job.trigger)

    def _write_heartbeats(self, held: HeldRight) -> None:
        signs, service = self._supervisor.signs(), self._service
        if service.live.is_shared:
            cannot = cannot_begin(service.runs.failed_beginning)
            held.tell(dump_signs(signs, (*find_faults(service.directory.path), *cannot)))
        try:
            service.directory.heartbeats.write(signs)
        except OSError as error:
            if not self._silent:
                _log.warning("other processes cannot read how this one is: %s", error)
            self._silent = True
        else:
            self._silent = False


@contextmanager
def _working_each_second(job: LeaderJob, ended: threading.Event) -> Iterator[None]:
    """Call the work of a job every second, for what was missed or asked for."""

    def step() -> float:
        job.work()
        return POLL_SECONDS

    work = (last, job.name, step, ended)
    thread = threading.Thread(target=copy_context().run, args=work, name=job.name)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
