"""The run log: every attempt, with its outcome, in this host's records."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Any

from backups.errors import RunNotFound
from backups.host import totals
from backups.host.remembered.record import UNDO
from backups.host.totals import RunKind, StageTime, StageTotals
from backups.model import DayOfRuns, OperationName, Run, RunError, RunStatus
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database

_COLUMNS = (
    "id, operation, trigger, status, started_at, finished_at, set_id, stage,"
    " error_code, error_message, error_hint"
)
# Beyond each sequence.
_END = 2**62
# Where a run is in the log: `main` is its sequence, or that of the run before it, and `sub` is 0 in
# the log itself.
_PLACE_IN_LOG = (
    "SELECT sequence, 0 FROM runs WHERE id = ?"
    " UNION ALL SELECT sequence, number FROM second_runs WHERE id = ?"
)
_PAGE = f"""
    SELECT {_COLUMNS}, undo, place FROM (
        SELECT * FROM (
            SELECT {_COLUMNS}, EXISTS(SELECT 1 FROM facts WHERE name = '{UNDO}' || runs.id) AS undo,
            'first' AS place, sequence AS main, 0 AS sub
            FROM runs WHERE (sequence, 0) < (:main, :sub) ORDER BY sequence DESC LIMIT :most
        ) UNION ALL SELECT * FROM (
            SELECT {_COLUMNS}, 0, 'second', sequence, number
            FROM second_runs WHERE (sequence, number) < (:main, :sub)
            ORDER BY number DESC LIMIT :most
        )
    ) ORDER BY main DESC, sub DESC LIMIT :most
"""  # noqa: S608 - constants


class RunLog:
    """Runs, newest first. Every method raises `DatabaseError` when the log cannot be used."""

    def __init__(self, records: Database) -> None:
        self._records = records

    def start(self, run: Run) -> None:
        """Record that a run begins."""
        with self._records.transaction() as connection:
            connection.execute(
                f"INSERT INTO runs({_COLUMNS}) VALUES ({', '.join('?' * 11)})",  # noqa: S608
                _row(run),
            )

    def prove_writable(self) -> None:
        """Write to the log, and leave it as it is; raises `DatabaseError`."""
        with self._records.transaction() as connection:
            connection.execute("INSERT INTO run_totals VALUES ('probe', '', '', 0)")
            connection.execute("DELETE FROM run_totals WHERE operation = 'probe'")

    def set_stage(self, run_id: str, stage: str, left: StageTime | None = None) -> None:
        """Record how far a run has come, and how long it was in the stage that it `left`."""
        with self._records.transaction() as connection:
            connection.execute("UPDATE runs SET stage = ? WHERE id = ?", (stage, run_id))
            if left is not None:
                totals.count_stage(connection, left)

    def finish(self, run: Run, left: StageTime | None = None) -> None:
        """Record how a run ended, and how long it was in the stage that it `left`.

        Also when its row was lost with the records that were made anew meanwhile.
        """
        with self._records.transaction() as connection:
            connection.execute(
                f"INSERT INTO runs({_COLUMNS}) VALUES ({', '.join('?' * 11)})"  # noqa: S608
                " ON CONFLICT(id) DO UPDATE SET status = excluded.status,"
                " finished_at = excluded.finished_at, set_id = excluded.set_id,"
                " stage = excluded.stage, error_code = excluded.error_code,"
                " error_message = excluded.error_message, error_hint = excluded.error_hint",
                _row(run),
            )
            totals.count_run(connection, RunKind(run.operation, run.trigger, run.status))
            if left is not None:
                totals.count_stage(connection, left)

    def mark_interrupted(self, at: datetime) -> list[str]:
        """Close the runs that still say `running`; call it only with the run lease held.

        Their process died: it would hold the lease otherwise. Returns their ids.
        """
        with self._records.transaction() as connection:
            rows = connection.execute(
                "SELECT id, operation, trigger FROM runs WHERE status = 'running'"
            ).fetchall()
            connection.execute(
                "UPDATE runs SET status = 'interrupted', finished_at = ?, error_code ="
                " 'interrupted', error_message = 'the process ended during the run', error_hint ="
                " CASE operation WHEN 'backup' THEN 'If its set was published, it is in the list:"
                " ./bot backups list. If not: ./bot backups run'"
                " ELSE 'Give its command again, if it is still needed.' END"
                " WHERE status = 'running'",
                (format_utc(at),),
            )
            for _, operation, trigger in rows:
                totals.count_run(connection, RunKind(operation, trigger, "interrupted"))
        return [str(row[0]) for row in rows]

    def get(self, run_id: str) -> Run:
        """One run; raises `RunNotFound`."""
        found = self._select("WHERE id = ?", (run_id,)) or self._elsewhere(
            "WHERE id = ?", (run_id,)
        )
        if not found:
            raise RunNotFound(f"there is no run {run_id!r}", "List them with: ./bot backups runs")
        return found[0]

    def note_elsewhere(self, run: Run) -> None:
        """Record a run that has ended, and whose set went to the second place."""
        with self._records.transaction() as connection:
            connection.execute(
                f"INSERT INTO second_runs(sequence, {_COLUMNS}) VALUES"  # noqa: S608
                f" ((SELECT coalesce(max(sequence), 0) FROM runs), {', '.join('?' * 11)})",
                _row(run),
            )

    def page(self, limit: int, before: str | None = None) -> list[Run]:
        """At most `limit` runs, newest first, older than the run `before`."""
        if before is not None:
            self.get(before)  # raises
        with self._records.reading() as connection:
            found = connection.execute(_PLACE_IN_LOG, (before, before)).fetchone() or (_END, 0)
            rows = connection.execute(_PAGE, {"main": found[0], "sub": found[1], "most": limit})
            return [_run(row) for row in rows]

    def last(self, operation: OperationName, *statuses: RunStatus) -> Run | None:
        """The newest run of an operation that has one of `statuses`."""
        marks = ", ".join("?" * len(statuses))
        found = self._select(
            f"WHERE operation = ? AND status IN ({marks}) ORDER BY sequence DESC LIMIT 1",
            (operation, *statuses),
        )
        return found[0] if found else None

    def backups_that_are_over(self, limit: int) -> list[Run]:
        """At most `limit` backup runs, newest first, without the one that goes on."""
        return self._select(
            "WHERE operation = 'backup' AND status <> 'running' ORDER BY sequence DESC LIMIT ?",
            (limit,),
        )

    def running(self) -> Run | None:
        """The run that says it is running, if any."""
        found = self._select("WHERE status = 'running' ORDER BY sequence DESC LIMIT 1", ())
        return found[0] if found else None

    def backups_since(self, instant: datetime, limit: int) -> list[Run]:
        """At most `limit` backups that succeeded since `instant` (to the second), newest first."""
        return self._select(
            "WHERE operation = 'backup' AND status = 'succeeded' AND"
            " substr(started_at, 1, 19) >= ? ORDER BY sequence DESC LIMIT ?",
            (format_utc(instant)[:19], limit),
        )

    def that_made_sets(self) -> Mapping[str, Run]:
        """The backups that succeeded, by the id of the set that each made."""
        found = self._select(
            "WHERE operation = 'backup' AND status = 'succeeded' AND set_id IS NOT NULL", ()
        )
        return {run.set_id: run for run in found if run.set_id is not None}

    def backups_by_day(self, since: date) -> list[DayOfRuns]:
        """How many backup runs of each day (UTC) since `since` ended in which way."""
        with self._records.reading() as connection:
            rows = connection.execute(
                "SELECT substr(started_at, 1, 10) AS day, status, count(*) FROM runs"
                " WHERE operation = 'backup' AND started_at >= ? GROUP BY day, status",
                (since.isoformat(),),
            ).fetchall()
        return [DayOfRuns(date.fromisoformat(day), status, count) for day, status, count in rows]

    def began_at(self) -> datetime | None:
        """When the first run began that this host remembers."""
        found = self._select("ORDER BY sequence LIMIT 1", ())
        return found[0].started_at if found else None

    def automatic_failures_since(self, instant: datetime) -> list[datetime]:
        """When the automatic backup runs since `instant` (to the second) failed, oldest first.

        Those that a success of such a run has followed are over.
        """
        # To the second: as texts, `01:00:00.005Z` comes before `01:00:00Z`.
        found = self._select(
            "WHERE operation = 'backup' AND trigger IN ('scheduled', 'catch-up')"
            " AND status = 'failed' AND substr(started_at, 1, 19) >= ? AND sequence > coalesce(("
            "SELECT max(sequence) FROM runs WHERE operation = 'backup' AND status = 'succeeded'"
            " AND trigger IN ('scheduled', 'catch-up')), 0) ORDER BY sequence",
            (format_utc(instant)[:19],),
        )
        return [run.finished_at for run in found if run.finished_at is not None]

    def totals(self) -> Mapping[RunKind, int]:
        """How many runs have ended, by kind; also those that are no longer in the log."""
        with self._records.reading() as connection:
            return totals.run_totals(connection)

    def stages(self) -> Mapping[str, StageTotals]:
        """How long runs were in each stage."""
        with self._records.reading() as connection:
            return totals.stage_totals(connection)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A read of this host's records, of which the log is a part."""
        return self._records.reading()

    def _elsewhere(self, rest: str, values: tuple[Any, ...]) -> list[Run]:
        with self._records.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, 0, 'second' FROM second_runs {rest}",  # noqa: S608
                values,
            )
            return [_run(row) for row in rows]

    def _select(self, rest: str, values: tuple[Any, ...]) -> list[Run]:
        with self._records.reading() as connection:
            return read_runs(connection, rest, values)


def read_runs(connection: sqlite3.Connection, rest: str, values: tuple[Any, ...]) -> list[Run]:
    """The runs that a statement finds which goes on with `rest`: WHERE, ORDER BY, LIMIT."""
    rows = connection.execute(
        f"SELECT {_COLUMNS}, EXISTS(SELECT 1 FROM facts WHERE name = ? || runs.id),"  # noqa: S608
        f" 'first' FROM runs {rest}",
        (UNDO, *values),
    )
    return [_run(row) for row in rows]


def _row(run: Run) -> tuple[str | None, ...]:
    error = run.error
    return (
        run.id,
        run.operation,
        run.trigger,
        run.status,
        format_utc(run.started_at),
        format_utc(run.finished_at) if run.finished_at else None,
        run.set_id,
        run.stage,
        error.code if error else None,
        error.message if error else None,
        error.hint if error else None,
    )


def _run(row: tuple[Any, ...]) -> Run:
    return Run(
        id=row[0],
        operation=row[1],
        trigger=row[2],
        status=row[3],
        started_at=parse_utc(row[4]),
        finished_at=parse_utc(row[5]) if row[5] else None,
        set_id=row[6],
        stage=row[7],
        error=RunError(row[8], row[9], row[10]) if row[8] else None,
        undo=bool(row[11]),
        place=row[12],
    )
