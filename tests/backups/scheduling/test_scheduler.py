"""The scheduler inside the app: who schedules, when, what is made up, how it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from backups.config import BackupConfig
from backups.host.catalogues import open_catalogue
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.model import Source
from backups.scheduling.scheduler import (
    PATIENCE_AT_SHUTDOWN_SECONDS,
    BackupScheduler,
    CrontabTrigger,
)
from backups.service import BackupService
from backups.wiring import assemble
from shared.clock import Clock, SystemClock
from shared.crontab import Crontab
from shared.store.directory import DirectoryStore
from tests.support.app_process import AppProcess, free_port
from tests.support.clock import FixedClock
from tests.support.contract import check_status
from tests.support.faked_clock import FakedClock
from tests.support.fault_proxy import Answer, FaultProxy, Request, hang
from tests.support.installation import Installation, bot_secrets, spaces
from tests.support.marks import MARK_KEY
from tests.support.memory_notifier import MemoryNotifier
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually
from tests.support.warm_python import WarmPopen

pytestmark = pytest.mark.slow

BASE = "/admin/backups"
EVERY_MINUTE = "* * * * *"
SUNDAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation with both databases and the embedded store."""
    return Installation(tmp_path, bot_secrets()).make_databases()


def status_of(client: httpx2.Client) -> dict[str, Any]:
    """The status document."""
    return check_status(client.get(BASE).json())


def runs_of(client: httpx2.Client) -> list[dict[str, Any]]:
    """The run log, newest first."""
    runs: list[dict[str, Any]] = client.get(f"{BASE}/runs").json()["runs"]
    return runs


# --- when -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "day"),
    [("0", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5", 5), ("6", 6), ("7", 0)],
)
def test_weekdays_are_those_of_crontab(field: str, day: int) -> None:
    """In the trigger that APScheduler sees, 0 and 7 are Sunday, 1 is Monday, and so on."""
    trigger = CrontabTrigger(Crontab(f"0 1 * * {field}"))
    first = trigger.get_next_fire_time(None, SUNDAY - timedelta(days=1))
    assert first is not None
    assert first == datetime(2026, 11, 22, 1, tzinfo=UTC) + timedelta(days=day)
    assert first.utcoffset() == timedelta(0)


def test_the_trigger_goes_on_from_the_last_instant() -> None:
    """The next fire time follows the previous one: it is the next, or the last that was missed."""
    trigger = CrontabTrigger(Crontab("0 1 * * *"))
    previous = datetime(2026, 11, 22, 1, tzinfo=UTC)
    for now, days in ((previous, 1), (SUNDAY, 1), (SUNDAY + timedelta(days=9), 9)):
        found = trigger.get_next_fire_time(previous, now)
        assert found == previous + timedelta(days=days)


def test_a_clock_that_is_set_forward_by_years_makes_no_long_list() -> None:
    """Of all instants that a step leaves behind, APScheduler sees two: the first and the last."""
    scheduler = BackgroundScheduler(timezone=UTC)
    job = scheduler.add_job(print, CrontabTrigger(Crontab(EVERY_MINUTE)))
    scheduler.start(paused=True)
    try:
        later = job.next_run_time + timedelta(days=9000)
        assert job._get_run_times(later) == [job.next_run_time, later]
    finally:
        scheduler.shutdown()


def test_next_run_is_utc_in_any_time_zone(installation: Installation) -> None:
    """In Tokyo the default schedule's next run is still at 01:00Z."""
    default = {**installation.settings, "TZ": "Asia/Tokyo", "BACKUP_SCHEDULE": ""}
    tokyo = Installation(installation.folder, default)
    with AppProcess.start(tokyo) as app, app.client() as client:
        schedule = status_of(client)["schedule"]
        eventually(lambda: "this process schedules" in app.output(), "the scheduler's line")
    assert schedule["cron"] == "0 1 * * *"
    due = datetime.fromisoformat(schedule["next_run_at"])
    assert schedule["next_run_at"].endswith("T01:00:00Z")
    assert timedelta(0) < due - datetime.now(UTC) <= timedelta(days=1)
    assert f"next_run_at={schedule['next_run_at']}" in app.output()


# --- what is owed -----------------------------------------------------------------------


def test_the_first_start_backs_up_at_once_and_the_second_does_not(
    installation: Installation,
) -> None:
    """A start makes up what is owed, once; the log says where it is and when the next one is."""
    with AppProcess.start(installation) as app, app.client() as client:
        run = eventually(lambda: status_of(client)["last_success"], "the first backup")
        assert run["trigger"] == "catch-up"
        eventually(lambda: f"protected: set {run['set_id']}" in app.output(), "the log's word")
        assert "next backup at" in app.output()
        code, _ = app.terminate()
        assert code == -signal.SIGTERM
    with AppProcess.start(installation) as app, app.client() as client:
        eventually(lambda: "this process schedules" in app.output(), "the scheduler's line")
        assert client.post(f"{BASE}/run?wait=true").status_code == 200
        assert [run["trigger"] for run in runs_of(client)] == ["manual", "catch-up"]


def test_many_askers_get_one_set(installation: Installation) -> None:
    """Sixteen threads of two processes that ask for the same due instant make one set."""
    racers = [
        WarmPopen(
            [sys.executable, "-m", "tests.support.owed_race"],
            cwd=installation.folder,
            env=installation.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60)[0] for racer in racers]
    assert sorted(answers) == ['["succeeded"]\n', "[]\n"]
    assert len(installation.json("list")["sets"]) == 1
    assert len(installation.json("runs")["runs"]) == 1


@contextmanager
def service_at(folder: Path, clock: Clock, schedule: str) -> Iterator[BackupService]:
    """A service with both databases of the folder's installation and a clock of the test's."""
    directory = BackupDirectory(folder / "data" / "backups")
    store = DirectoryStore(folder / "data" / "spaces")
    with (
        closing(open_records(directory.path)) as records,
        closing(open_catalogue(directory.path, store, "backups/", records)) as known,
    ):
        plan = BackupConfig(
            sources=(
                Source("tokens", folder / "data" / "tokens.db"),
                Source("sessions", folder / "data" / "sessions.db", volatile=True),
            ),
            schedule=Crontab(schedule),
            prefix="backups/",
            local_copies=0,
            log_directory=None,
            busy_timeout=5,
            mark_keys=(MARK_KEY,),
        )
        yield assemble(
            plan, store, directory, records, known=known, clock=clock, notifier=MemoryNotifier()
        )


def test_failures_are_tried_again_more_and_more_rarely(installation: Installation) -> None:
    """While the store refuses, catch-ups come after 5, 15, 60 and 60 minutes, not every minute;

    when it takes objects again, one run makes it up, and no more follow.
    """
    blocked = installation.folder / "data" / "spaces"
    blocked.write_text("in the way")
    clock = FixedClock(SUNDAY)
    with service_at(installation.folder, clock, "0 1 * * *") as service:
        tried: list[int] = []
        for minute in range(4 * 60):
            foretold = service.own_sets.retry_at()
            run = service.backup.run_if_owed("catch-up")
            if run is not None:
                assert run.status == "failed"
                assert foretold == (clock.now() if tried else None)
                tried.append(minute)
            clock.advance(minutes=1)
        assert tried == [0, 5, 20, 80, 140, 200]
        blocked.unlink()
        made = [
            service.backup.run_if_owed("catch-up") for _ in range(60) if clock.advance(minutes=1)
        ]
        assert [run.status for run in made if run is not None] == ["succeeded"]
        assert service.own_sets.retry_at() is None


def test_the_schedule_tries_whatever_failed_before(installation: Installation) -> None:
    """A due instant is tried even right after failures: the delays are for catching up."""
    blocked = installation.folder / "data" / "spaces"
    blocked.write_text("in the way")
    clock = FixedClock(SUNDAY)
    with service_at(installation.folder, clock, "0 1 * * *") as service:
        for _ in range(3):
            run = service.backup.run_if_owed("scheduled")
            assert run is not None
            assert run.status == "failed"
        assert service.backup.run_if_owed("catch-up") is None
        blocked.unlink()
        run = service.backup.run_if_owed("scheduled")
        assert run is not None
        assert run.status == "succeeded"
        assert service.backup.run_if_owed("scheduled") is None


# --- who --------------------------------------------------------------------------------


def test_another_process_takes_over(installation: Installation) -> None:
    """Of two apps on one host one schedules; when it is killed, the other does within 15 s."""
    with AppProcess.start(installation) as first, first.client() as client:
        eventually(lambda: status_of(client)["last_success"], "the first backup")
        with AppProcess.start(installation) as second, second.client() as other:
            for one in (client, other):
                assert status_of(one)["schedule"]["owner"]["pid"] == first.pid
            first.kill()
            eventually(
                lambda: (status_of(other)["schedule"]["owner"] or {}).get("pid") == second.pid,
                "the other process schedules",
                seconds=15,
            )
            assert [run["trigger"] for run in runs_of(other)] == ["catch-up"]


def test_one_set_a_minute_whoever_schedules(installation: Installation, tmp_path: Path) -> None:
    """On `* * * * *`, four workers make one set a minute, also when the scheduling one dies.

    Two apps meet the same minute. In one, the scheduling worker is killed in the last seconds
    before it: the minute, which it would have served, still gets its set, and only one. Their clock
    is set to the minute's end when both have begun, so that nobody waits for it.
    """
    clock = FakedClock(tmp_path / "offset")
    clock.to_second(0)
    steady = installation.with_settings(BACKUP_SCHEDULE=EVERY_MINUTE)
    bereft = Installation(tmp_path / "bereft", steady.settings).make_databases()

    def started(installation: Installation, workers: int) -> AppProcess:
        port = free_port()
        options = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(workers))
        command = [*clock.command, sys.executable, "-m", "uvicorn", "app:app", *options]
        return AppProcess.start(installation, port=port, command=command)

    def sets_by_minute(client: httpx2.Client) -> Counter[str]:
        return Counter(found["id"][:13] for found in client.get(f"{BASE}/sets").json()["sets"])

    def wait_for_a_backup(client: httpx2.Client) -> None:
        eventually(lambda: status_of(client)["last_success"], "the first backup")

    def wait_for_the_set_of(minute: str, client: httpx2.Client) -> None:
        eventually(lambda: sets_by_minute(client)[minute], f"a set in {minute}", seconds=25)

    def whole(client: httpx2.Client) -> Counter[str]:
        """Sets by minute, between two runs, when each run has succeeded and made one of them."""

        def found() -> Counter[str] | None:
            ended = [run["status"] for run in runs_of(client)]
            sets = sets_by_minute(client)
            return sets if ended == ["succeeded"] * sets.total() else None

        return eventually(found, "a set of each run")

    def end_of_a_minute() -> datetime | None:
        now = clock.now()
        return now if now.second >= 57 else None

    with (
        started(steady, workers=4) as app,
        started(bereft, workers=2) as other,
        app.client() as client,
    ):
        with other.client() as before:
            for one in (client, before):
                wait_for_a_backup(one)
            clock.to_second(50)  # the schedule is planned anew, before the minute's end
            end = eventually(end_of_a_minute, "the minute's end", seconds=65)
            owner = status_of(before)["schedule"]["owner"]["pid"]
        assert owner != other.pid
        os.kill(owner, signal.SIGKILL)
        coming = (end + timedelta(minutes=1)).strftime("%Y%m%dT%H%M")
        with other.client() as after:
            for one in (client, after):
                wait_for_the_set_of(coming, one)
                found = whole(one)
                assert set(found.values()) == {1}
                assert len(found) >= 2
            heir = eventually(lambda: status_of(after)["schedule"]["owner"], "a scheduler")
            assert heir["pid"] != owner
        assert runs_of(client)[0]["trigger"] == "scheduled"


# --- how it stops -----------------------------------------------------------------------


def test_shutting_down_during_a_run(
    installation: Installation, s3_server: S3Server, bucket: str
) -> None:
    """SIGTERM stops a run on a slow store within 20 s: interrupted, nothing left, then made up."""

    def slow(proxy: FaultProxy, request: Request) -> Answer:
        proxy.released.wait(PATIENCE_AT_SHUTDOWN_SECONDS + 1)
        return proxy.forward(request)

    with FaultProxy(s3_server.endpoint) as proxy:
        settings = spaces(proxy.settings(s3_server.settings(bucket)))
        remote = installation.with_settings(**settings)
        proxy.on(slow, method="GET", key="tokens_")
        with AppProcess.start(remote) as app, app.client() as client:
            running = eventually(
                lambda: (
                    (found := status_of(client)["running"]) and found["stage"] == "proof" and found
                ),
                "the run reads back what it stored",
            )
            code, seconds = app.terminate(patience=20)
            assert code == -signal.SIGTERM
            assert "Application shutdown complete." in app.output()
            assert "Traceback" not in app.output()
            assert seconds > PATIENCE_AT_SHUTDOWN_SECONDS
        proxy.lift()
        left = s3_server.client().list_objects(Bucket=bucket).get("Contents", [])
        assert [found["Key"] for found in left if "/instances/" not in found["Key"]] == []
        told = remote.json("runs", running["id"])
        assert (told["status"], told["error"]["code"]) == ("interrupted", "interrupted")
        with AppProcess.start(remote) as app, app.client() as client:
            run = eventually(lambda: status_of(client)["last_success"], "the run that makes it up")
            assert run["trigger"] == "catch-up"
            assert [found["status"] for found in runs_of(client)] == ["succeeded", "interrupted"]


def test_a_store_that_hangs_does_not_hold_up_the_end(
    installation: Installation, s3_server: S3Server, bucket: str
) -> None:
    """SIGTERM ends the app within 15 s, with a run and a request that wait for a silent store."""
    with FaultProxy(s3_server.endpoint) as proxy, ThreadPoolExecutor(1) as pool:
        settings = spaces(proxy.settings(s3_server.settings(bucket)))
        with AppProcess.start(installation.with_settings(**settings)) as app:
            with app.client() as client:
                made = eventually(lambda: status_of(client)["last_success"], "the first backup")
                proxy.on(hang())
                running = client.post(f"{BASE}/run").json()
                proxy.wait_until_met(1)
                asked = pool.submit(client.post, f"{BASE}/sets/{made['set_id']}/verify")
                proxy.wait_until_met(2)
                code, _ = app.terminate(patience=15)
                assert code == -signal.SIGTERM
                assert asked.result(timeout=5).json()["code"] == "store_unreachable"
            assert "Traceback" not in app.output()
            proxy.lift()
        told = installation.json("runs", running["id"])
        assert (told["status"], told["error"]["code"]) == ("interrupted", "interrupted")


def test_a_quick_run_is_waited_for(installation: Installation) -> None:
    """SIGTERM lets a scheduled run that ends within seconds come to its good end."""
    with installation.locked_tokens():
        app = AppProcess.start(installation)
        with app.client() as client:
            eventually(lambda: status_of(client)["running"], "a run that waits for the lock")
        os.kill(app.pid, signal.SIGTERM)
        eventually(lambda: "Waiting for application shutdown" in app.output(), "the shutdown")
    assert app.wait_until_it_ends() == -signal.SIGTERM
    assert installation.json("status")["last_run"]["status"] == "succeeded"


def test_shutting_down_while_a_source_is_locked(installation: Installation) -> None:
    """SIGTERM ends a run, here one that was asked for, that waits for a source's lock."""
    with AppProcess.start(installation) as app, app.client() as client:
        eventually(lambda: status_of(client)["last_success"], "the first backup")
        with installation.locked_tokens():
            started = client.post(f"{BASE}/run").json()
            code, seconds = app.terminate()
        assert code == -signal.SIGTERM
        assert seconds < PATIENCE_AT_SHUTDOWN_SECONDS
    assert installation.json("runs", started["id"])["status"] == "interrupted"


def test_a_killed_run_is_made_up(installation: Installation) -> None:
    """After SIGKILL in the middle of a run, the next start marks it interrupted and runs again."""
    with installation.locked_tokens(), AppProcess.start(installation) as app:
        with app.client() as client:
            killed = eventually(lambda: status_of(client)["running"], "a run")
        app.kill()
    with AppProcess.start(installation) as app, app.client() as client:
        run = eventually(lambda: status_of(client)["last_success"], "the run that makes it up")
        assert run["trigger"] == "catch-up"
        assert [(found["id"], found["status"]) for found in runs_of(client)] == [
            (run["id"], "succeeded"),
            (killed["id"], "interrupted"),
        ]
    assert not list(installation.folder.glob("data/backups/staging/*"))


def test_start_and_stop_in_one_process(installation: Installation) -> None:
    """A scheduler that is stopped has ended its threads and freed its lease; stop is prompt."""
    with service_at(installation.folder, SystemClock(), "0 1 * * *") as service:
        scheduler = BackupScheduler(service)
        scheduler.start()
        lease = service.directory.scheduler_lease
        eventually(lease.holder, "the lease is taken")
        assert lease.holder() == (os.uname().nodename, os.getpid())
        scheduler.stop()
        assert lease.is_free()
        assert service.run_log.running() is None
