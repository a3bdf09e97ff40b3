"""A month in which nothing is wrong: nobody is told anything, and the log stays short."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from backups.scheduling.change_follower import ChangeFollower
from backups.scheduling.due_runs import DueRuns
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.process.lasting_work import Sign
from tests.backups.conftest import LogLines
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.records import INSTANT

DAYS = 31
MOST_LINES_A_DAY = 25
# What the log of a quiet month has from INFO on: logger and text, without what differs.
KINDS = {
    ("backups.run", "%s begins"),
    ("backups.run", "%s succeeded"),
    ("backups.run", "dropped"),  # by the prune that follows
    ("backups.tokens", "snapshot"),
    ("backups.tokens", "stored"),
    ("backups.tokens", "proven"),
    ("backups.sessions", "snapshot"),
    ("backups.sessions", "stored"),
    ("backups.sessions", "proven"),
    (
        "backups.scheduling.due_runs",
        "protected: set %s is in %s; next backup at %s; see: ./bot backups status",
    ),
}
# Status has nothing that begins and ends within less: what is not known has ten minutes.
MINUTES_BETWEEN_ALERTS = 5
HOUR_OF_A_WRITE = 15


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_quiet_month_sends_no_alert_and_logs_little(tmp_path: Path, log_lines: LogLines) -> None:
    """31 days by the minute, with a new merchant each day: no alert, and 25 lines a day at most.

    The day of the start is not counted: it has a set more, the first one.
    """
    clock = FixedClock(INSTANT - timedelta(minutes=30))
    a_day: Counter[date] = Counter()
    with _led(tmp_path, clock) as bench:
        runs = DueRuns(bench.service)
        with closing(ChangeFollower(bench.service, bench.service.config.change_delay)) as follower:
            for minute in range(DAYS * 24 * 60):
                _pass_a_minute(bench, clock, runs)
                now = clock.now()
                if (now.hour, now.minute) == (HOUR_OF_A_WRITE, 0):
                    _connect_a_merchant(bench, minute)
                follower.step()
                if minute % MINUTES_BETWEEN_ALERTS == 0:
                    bench.service.alerts.step()
                a_day[now.date()] += len(log_lines.records)
                assert {_kind(line) for line in log_lines.records} <= KINDS, log_lines.text()
                log_lines.records.clear()
        made = Counter(run.trigger for run in bench.service.run_log.page(1000))
        titles = bench.notes.titles()
    a_day.pop(min(a_day))
    print(f"\n{DAYS} days: lines a day {sorted(a_day.values())}; runs {dict(made)}")

    assert titles == []
    assert max(a_day.values()) <= MOST_LINES_A_DAY
    assert (made["change"], made["scheduled"] >= DAYS) == (DAYS, True)


@contextmanager
def _led(folder: Path, clock: FixedClock) -> Iterator[Bench]:
    """A service of an app, whose leader this process is, with its schedule at 01:00."""
    settings = {"BACKUP_SCHEDULE": "0 1 * * *"}
    with open_bench(folder, settings=settings, clock=clock, run_by="app") as bench:
        bench.write("genesis")
        lease = bench.directory.scheduler_lease
        held = lease.try_acquire()
        assert held is not None
        lease.announce()
        try:
            yield bench
        finally:
            held.release()


def _pass_a_minute(bench: Bench, clock: FixedClock, runs: DueRuns) -> None:
    """Move on, say that all threads live, wake the scheduler if something is due, and step it."""
    before, now = clock.now(), clock.advance(minutes=1)
    config = bench.service.config
    if config.schedule.next_after(before) <= now:
        runs.wake("backup")
    if config.drill_schedule and config.drill_schedule.next_after(before) <= now:
        runs.wake("drill")
    signs = [Sign(name, 0, 180) for name in ("scheduler", "follower", "alerts")]
    bench.directory.heartbeats.write(signs)
    runs.step()


def _connect_a_merchant(bench: Bench, number: int) -> None:
    with closing(TokenStorage(bench.tokens, TokenCipher((TOKEN_ENCRYPTION_KEY,)))) as tokens:
        tokens.put(f"merchant-{number:06d}", "a secret")


def _kind(line: logging.LogRecord) -> tuple[str, str]:
    return line.name, str(line.msg)
