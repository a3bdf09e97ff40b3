"""What the scheduler logs after a run: `protected` only where it is so."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing

from backups.scheduling.due_runs import DueRuns
from tests.backups.conftest import LogLines
from tests.support.bench import Bench
from tests.support.clock import FixedClock


def test_a_suspect_set_is_not_announced_as_protection(
    bench: Bench, clock: FixedClock, log_lines: LogLines
) -> None:
    """After a run that stored damaged data the log says so, and why, and never `protected`."""
    runs = DueRuns(bench.service)
    runs.step()
    assert "protected: set " in log_lines.text(logging.INFO)

    with closing(sqlite3.connect(bench.tokens)) as connection, connection:
        connection.execute("DELETE FROM tokens")
    clock.advance(days=1)
    log_lines.records.clear()
    runs.wake("backup")
    runs.step()

    assert "not protected: set " in log_lines.text(logging.WARNING)
    assert "tokens is empty" in log_lines.text(logging.WARNING)
    assert ": protected: set " not in log_lines.text(logging.INFO)
