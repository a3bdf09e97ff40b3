"""The status of an installation: it is read, and since when backups are due."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backups.model import Source
from backups.scheduling.scheduler import BackupScheduler
from backups.wiring import open_service
from shared.store.directory import DirectoryStore
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.clock import FixedClock
from tests.support.installation import Installation, installation_in, settings_of
from tests.support.waiting import eventually


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A new installation that has records, in which nothing has happened yet."""
    installation = installation_in(tmp_path).make_databases()
    with open_service(settings_of(installation)) as service:
        assert service.catalogue.count() == 0  # the first read brings the catalogue up to date
    return installation


@contextmanager
def nothing_written(path: Path) -> Iterator[None]:
    """Fail when the block ends and a database holds other rows, or was committed to."""

    def state(connection: sqlite3.Connection) -> tuple[int, list[str]]:
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        return int(version), list(connection.iterdump())

    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        before = state(connection)
        yield
        assert state(connection) == before


def test_status_on_the_command_line_writes_nothing(installation: Installation) -> None:
    """Not a row of this host's records changes by `status`, whether for a person or a script."""
    records = installation.folder / "data" / "backups" / "runs.db"
    with nothing_written(records):
        assert installation.json("status", exit_code=3)["healthy"] is False
        assert installation.cli("status").returncode == 3


@pytest.mark.slow
def test_status_over_http_writes_nothing(installation: Installation) -> None:
    """Not a row changes by what an app that does not schedule answers, to a person or a monitor."""
    records = installation.folder / "data" / "backups" / "runs.db"
    held = installation.backup_dir.scheduler_lease.try_acquire()
    assert held is not None
    try:
        with AppProcess.start(installation) as app, app.client() as client:
            for path in ("/admin/backups", "/admin/backups/status", "/metrics"):
                with nothing_written(records):
                    assert client.get(path).status_code == 200
    finally:
        held.release()


def test_backups_are_due_since_a_scheduler_began(tmp_path: Path) -> None:
    """The process that schedules notes when it began; a later one does not move that."""
    clock = FixedClock()
    store = DirectoryStore(tmp_path / "store")
    # A source that is not there: no run makes a set.
    sources = [Source("tokens", tmp_path / "tokens.db")]
    with open_bench(tmp_path, store, clock=clock, sources=sources) as bench:
        for _ in range(2):
            scheduler = BackupScheduler(bench.service)
            scheduler.start()
            try:
                eventually(bench.facts.begun_at, "the scheduler has begun")
            finally:
                scheduler.stop()
            clock.advance(days=1)
        assert bench.facts.begun_at() == clock.now() - timedelta(days=2)
        clock.advance(days=1)
        assert "overdue" in bench.problems()


def test_backups_are_due_since_the_first_run_where_none_schedules(tmp_path: Path) -> None:
    """On a host with cron alone a first run that fails is the beginning; before it there is none.

    A scheduler that begins later does not put that off.
    """
    clock = FixedClock()
    store = DirectoryStore(tmp_path / "store")
    sources = [Source("tokens", tmp_path / "tokens.db")]
    with open_bench(tmp_path, store, clock=clock, sources=sources) as bench:
        assert bench.problems() == ["no_restore_point"]
        clock.advance(days=9)
        assert bench.problems() == ["no_restore_point"]
        assert bench.run().status == "failed"
        assert "overdue" not in bench.problems()
        clock.advance(days=2)
        assert "overdue" in bench.problems()
        bench.facts.note_begun(clock.now())
        assert "overdue" in bench.problems()
