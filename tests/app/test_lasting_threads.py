"""The threads of the app that have to live: whatever is raised in them, they go on."""

from __future__ import annotations

import io
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from backups.alerts.dispatch import Alerts
from backups.format import naming
from backups.model import Source
from backups.scheduling.scheduler import BackupScheduler
from shared.clock import SystemClock
from shared.merchants.inbox import Event, Inbox, open_inbox
from shared.merchants.inbox_worker import InboxWorker
from shared.process import lasting_work
from shared.process.lasting_work import Supervisor
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.databases import make_sources
from tests.support.records import a_manifest, a_set
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits after a fault are short."""
    monkeypatch.setattr(lasting_work, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service that follows changes, over a folder."""
    with open_bench(
        tmp_path,
        DirectoryStore(tmp_path / "store"),
        clock=SystemClock(),
        change_delay=timedelta(seconds=0.05),
    ) as bench:
        yield bench


def failing_once(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, fault: Exception
) -> threading.Event:
    """Make the first call of a method raise; the event says that it did."""
    inner: Callable[..., object] = getattr(owner, name)
    raised = threading.Event()

    def replacement(*args: object, **named: object) -> object:
        if not raised.is_set():
            raised.set()
            raise fault
        return inner(*args, **named)

    monkeypatch.setattr(owner, name, replacement)
    return raised


def protected_by(bench: Bench, scheduler: BackupScheduler) -> None:
    """The scheduler makes the set that is owed, and its thread ends when it is told to."""
    try:
        eventually(lambda: bench.service.own_sets.latest() is not None, "a set is made")
        assert scheduler._thread.is_alive()
    finally:
        scheduler.stop()
    assert not scheduler._thread.is_alive()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("backups.scheduling.scheduler.BackgroundScheduler", "start"),  # "can't start new thread"
        ("backups.scheduling.scheduler.ChangeFollower", "step"),
        ("backups.scheduling.scheduler.ChangeFollower", "__init__"),
        ("backups.host.lease.Lease", "announce"),
        ("backups.operations.own_sets.OwnSets", "refresh"),
        ("backups.operations.backup.Backup", "run_if_owed"),
        ("backups.alerts.dispatch.Alerts", "send_alerts"),
    ],
)
def test_the_scheduler_goes_on_after_any_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, owner: str, name: str
) -> None:
    """A fault that is none of ours, wherever it is raised, costs no backup and no thread."""
    module, _, attribute = owner.rpartition(".")
    target = getattr(__import__(module, fromlist=[attribute]), attribute)
    if name in ("run_if_owed", "send_alerts"):
        monkeypatch.setattr("backups.scheduling.due_runs.CATCH_UP_SECONDS", 1)
        monkeypatch.setattr("backups.scheduling.scheduler.ALERT_SECONDS", 1)
    fault = RuntimeError("can't start new thread")
    raised = failing_once(monkeypatch, target, name, fault)
    scheduler = BackupScheduler(bench.service)
    scheduler.start()

    try:
        eventually(raised.is_set, "the fault is met")
    except BaseException:
        scheduler.stop()
        raise
    protected_by(bench, scheduler)


def test_alerts_are_looked_for_by_each_process_whoever_leads(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not schedule sends what the one that does cannot, as it hangs."""
    monkeypatch.setattr("backups.scheduling.scheduler.ALERT_SECONDS", 0.01)
    looked = threading.Semaphore(0)
    monkeypatch.setattr(Alerts, "send_alerts", lambda _: looked.release())
    held = bench.directory.scheduler_lease.try_acquire()
    assert held is not None
    supervisor = Supervisor()
    scheduler = BackupScheduler(bench.service, supervisor=supervisor)
    scheduler.start()
    try:
        assert all(looked.acquire(timeout=20) for _ in range(3))
        assert [sign.name for sign in supervisor.signs()] == ["alerts"]
    finally:
        scheduler.stop()
        held.release()
    assert supervisor.signs() == ()


def test_a_schedule_whose_thread_ends_is_planned_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """APScheduler's thread is not one of ours; when it ends, leading begins from the beginning."""
    real = BackgroundScheduler._main_loop
    begun: list[object] = []

    def ends_at_first(self: object) -> None:
        begun.append(self)
        if len(begun) > 1:
            real(self)

    monkeypatch.setattr(BackgroundScheduler, "_main_loop", ends_at_first)
    scheduler = BackupScheduler(bench.service)
    scheduler.start()
    try:
        eventually(lambda: len(begun) > 1, "another one")
    except BaseException:
        scheduler.stop()
        raise
    protected_by(bench, scheduler)


def test_a_source_that_may_not_be_looked_at_is_named_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`PermissionError` for an extra source: the run fails by name, the scheduler goes on."""
    closed = Source("extra", tmp_path / "closed" / "extra.db")
    real_stat = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> object:
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return real_stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr("backups.scheduling.due_runs.CATCH_UP_SECONDS", 1)
    sources = (*make_sources(tmp_path / "data"), closed)
    with (
        open_bench(
            tmp_path,
            DirectoryStore(tmp_path / "store"),
            clock=SystemClock(),
            sources=sources,
            change_delay=timedelta(seconds=0.05),
        ) as bench,
        caplog.at_level(logging.INFO),
    ):
        scheduler = BackupScheduler(bench.service)
        scheduler.start()
        try:
            eventually(lambda: bench.service.run_log.last("backup", "failed"), "a run fails")
            run = bench.service.run_log.last("backup", "failed")
            assert run is not None
            assert run.error is not None
            assert (run.error.code, "source extra" in run.error.message) == (
                "database_unreadable",
                True,
            )
            assert scheduler._thread.is_alive()
        finally:
            scheduler.stop()


def test_a_set_dated_on_the_last_day_of_the_calendar_breaks_nothing(bench: Bench) -> None:
    """Status is answered and runs go on beside a set of 9999-12-31, of this host or another."""
    for instance in ("another", bench.directory.instance()):
        at = datetime(9999, 12, 31, 23, 59, 59 - (instance == "another"), tzinfo=UTC)
        planted = a_set(at, instance=instance)
        key = naming.manifest_key(PREFIX, planted.id)
        bench.store.put(key, io.BytesIO(a_manifest(planted)), {})
    assert bench.service.own_sets.refresh() is None

    assert bench.service.status().restore_points == 2
    bench.service.own_sets.plan_prune()
    bench.service.alerts.send_alerts()
    bench.service.backup.run_if_owed("catch-up")
    assert bench.run().status == "succeeded"


# --- the inbox --------------------------------------------------------------------------


class Recording:
    """A platform that only remembers what it was handed."""

    provider = "facebook"

    def __init__(self) -> None:
        self.handled: list[str] = []

    def lane(self, event: Event) -> str:
        return event.topic

    def handle(self, account: str, events: list[object]) -> None:
        self.handled += [one.event.event_id for one in events]  # type: ignore[attr-defined]


@pytest.fixture
def inbox_path(tmp_path: Path) -> Path:
    return tmp_path / "inbox.db"


@pytest.fixture
def inbox(inbox_path: Path) -> Iterator[Inbox]:
    with closing(open_inbox(inbox_path)) as database:
        yield Inbox(database, SystemClock())


def some(number: int) -> Event:
    return Event("facebook", f"m_{number}", "1001", "message", "{}", SystemClock().now())


@pytest.mark.parametrize(
    "damage",
    [
        "sent_at = 'yesterday'",
        "sent_at = CAST(x'ff' AS TEXT)",
        "body = CAST(x'c328' AS TEXT)",
        "body = NULL",
        "attempts = 'many'",
    ],
)
def test_a_row_that_cannot_be_read_back_is_set_aside(
    inbox: Inbox, inbox_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """It is named once and kept; what stands before and behind it is done, also after a restart."""
    inbox.add([some(1), some(2), some(3)])
    with closing(sqlite3.connect(inbox_path)) as connection:
        connection.execute(f"UPDATE events SET {damage} WHERE event_id = 'm_2'")
        connection.commit()
    for _ in range(2):
        platform = Recording()
        worker = InboxWorker(
            inbox,
            {"facebook": platform},  # type: ignore[dict-item]
            SystemClock(),
            workers=2,
        )
        with worker.running():
            eventually(lambda: inbox.is_done("facebook", "message", "m_3"), "the rest is done")
    assert [r.getMessage() for r in caplog.records if "set aside" in r.getMessage()] != []
    assert sum("set aside" in r.getMessage() for r in caplog.records) == 1
    assert inbox.is_done("facebook", "message", "m_2") is False
    inbox.purge()
    with closing(sqlite3.connect(inbox_path)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM events WHERE event_id = 'm_2'"
        ).fetchone() == (1,)


@pytest.mark.parametrize("name", ["due_accounts", "waiting", "purge", "finish"])
def test_the_inbox_goes_on_after_any_fault(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A fault in the thread itself is logged with its traceback, and the events are worked off."""
    inbox.add([some(1)])
    raised = failing_once(monkeypatch, Inbox, name, ValueError("odd"))
    worker = InboxWorker(
        inbox,
        {"facebook": Recording()},  # type: ignore[dict-item]
        SystemClock(),
        workers=2,
    )

    with worker.running():
        eventually(raised.is_set, "the fault is met")
        inbox.add([some(2)])
        eventually(
            lambda: all(inbox.is_done("facebook", "message", f"m_{n}") for n in (1, 2)),
            "all is worked off",
        )

    assert any(record.exc_info for record in caplog.records)
