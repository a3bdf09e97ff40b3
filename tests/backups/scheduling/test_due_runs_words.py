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


def sets_of(bench: Bench) -> list[str]:
    """The ids of the sets that count, oldest first."""
    return [
        one.id
        for one in reversed(list(bench.service.catalogue.sets()))
        if one.kind == "set" and one.set_aside is None
    ]


def test_a_restore_is_followed_by_a_point_at_once(bench: Bench, clock: FixedClock) -> None:
    """The cure itself makes the point that turns status green, and only one."""
    first = bench.made()
    runs = DueRuns(bench.service)
    runs.step()
    clock.advance(hours=1)
    with closing(sqlite3.connect(bench.tokens)) as connection, connection:
        connection.execute("DELETE FROM tokens")
    bench.restored(first.id)
    assert sets_of(bench) == [first.id]

    clock.advance(seconds=1)
    runs.step()
    assert len(sets_of(bench)) == 2
    clock.advance(seconds=1)
    runs.step()
    assert len(sets_of(bench)) == 2


def test_a_start_with_another_key_while_status_is_red_makes_a_point(
    bench: Bench, clock: FixedClock
) -> None:
    """Who put a key back sees at once that all is well; the same keys make no point."""
    bench.made()
    with closing(sqlite3.connect(bench.tokens)) as connection, connection:
        connection.execute("DELETE FROM tokens")
    clock.advance(seconds=2)
    assert bench.made().suspect  # status is red
    bench.facts.exchange_leader_keys(" ".join(bench.service.config.token_keys))
    clock.advance(seconds=2)
    DueRuns(bench.service).step()
    assert len(sets_of(bench)) == 2

    bench.facts.exchange_leader_keys("other-key")
    clock.advance(seconds=2)
    DueRuns(bench.service).step()
    assert len(sets_of(bench)) == 3
    clock.advance(seconds=2)
    DueRuns(bench.service).step()
    assert len(sets_of(bench)) == 3
