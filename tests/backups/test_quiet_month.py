"""A month in which nothing is wrong: nobody is told anything, and the log stays short."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import closing
from datetime import timedelta
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

DAYS = 2
MOST_LINES_A_DAY = 25
# Each line that a quiet app may log, by its text without what differs.
KINDS: set[str] = set()
# When a merchant connects: an hour after the run of the day, and in the afternoon.
HOURS_OF_WRITES = (2, 15)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_quiet_month_sends_no_alert_and_logs_little(
    tmp_path: Path, log_lines: LogLines
) -> None:
    """31 days, minute by minute: no message, never red, and at most 25 lines a day from INFO on."""
    clock = FixedClock(INSTANT - timedelta(hours=3))
    settings = {"BACKUP_SCHEDULE": "0 1 * * *"}
    a_day: Counter[str] = Counter()
    with open_bench(tmp_path, settings=settings, clock=clock, run_by="app") as bench:
        bench.write("genesis")
        held = bench.directory.scheduler_lease.try_acquire()
        assert held is not None
        bench.directory.scheduler_lease.announce()
        with (
            closing(ChangeFollower(bench.service, bench.service.config.change_delay)) as follower,
        ):
            runs = DueRuns(bench.service)
            for minute in range(DAYS * 24 * 60):
                _pass_a_minute(bench, clock, runs)
                if clock.now().hour in HOURS_OF_WRITES and clock.now().minute == 0:
                    _connect_a_merchant(bench, minute)
                follower.step()
                bench.service.alerts.step()
                for record in log_lines.records:
                    a_day[clock.now().date().isoformat()] += 1
                    print(record.levelname, record.name, record.msg)
                log_lines.records.clear()
    print(a_day)
    print(bench.notes.titles())
    assert 0


def _pass_a_minute(bench: Bench, clock: FixedClock, runs: DueRuns) -> None:
    """Move on, wake the scheduler where it would be woken, and let all threads be alive."""
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
