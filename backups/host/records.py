"""`BACKUP_DIR/runs.db`: this host's records: run log, totals, facts, messages.

The tables sets, verdicts, dated_objects, points and doomed are those of earlier versions, which
go on reading them; `host/catalogues.py` has what is known of a store now.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from backups.model import Finding
from shared.databases.renewal import moved_aside
from shared.databases.sqlite import Database
from shared.errors import AppError, DatabaseError

# Less than this is full: one run writes some hundred kilobytes to its records.
FULL_BELOW_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)

MIGRATIONS = (
    """
    CREATE TABLE runs(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        operation TEXT NOT NULL,
        trigger TEXT NOT NULL,
        status TEXT NOT NULL,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        set_id TEXT,
        stage TEXT,
        error_code TEXT,
        error_message TEXT,
        error_hint TEXT
    );
    CREATE INDEX runs_by_status ON runs(operation, status);
    CREATE TABLE sets(id TEXT PRIMARY KEY, manifest BLOB NOT NULL);
    CREATE TABLE verdicts(
        set_id TEXT NOT NULL, name TEXT NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (set_id, name)
    );
    CREATE TABLE dated_objects(
        key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified_at TEXT NOT NULL,
        legacy INTEGER NOT NULL
    );
    CREATE TABLE doomed(key TEXT PRIMARY KEY, set_id TEXT NOT NULL);
    CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL)
    """,
    """
    CREATE TABLE run_totals(
        operation TEXT NOT NULL, trigger TEXT NOT NULL, status TEXT NOT NULL,
        total INTEGER NOT NULL, PRIMARY KEY (operation, trigger, status)
    );
    INSERT INTO run_totals SELECT operation, trigger, status, count(*) FROM runs
        WHERE status <> 'running' GROUP BY operation, trigger, status;
    CREATE TABLE stage_totals(
        stage TEXT NOT NULL, up_to REAL NOT NULL, total INTEGER NOT NULL, seconds REAL NOT NULL,
        PRIMARY KEY (stage, up_to)
    );
    CREATE TABLE notification_totals(result TEXT PRIMARY KEY, total INTEGER NOT NULL)
    """,
    # `created_at` in microseconds since 1970; what cannot be read has its id and place only.
    """
    ALTER TABLE dated_objects ADD COLUMN day TEXT;
    CREATE INDEX dated_objects_by_day ON dated_objects(day);
    CREATE TABLE points(
        id TEXT PRIMARY KEY, place TEXT NOT NULL, readable INTEGER NOT NULL, kind TEXT,
        created_at INTEGER, trigger TEXT, instance TEXT, protects INTEGER NOT NULL DEFAULT 0,
        usable_legacy INTEGER NOT NULL DEFAULT 0, bytes INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX points_by_place ON points(place, id);
    CREATE INDEX points_that_protect ON points(place, id, instance) WHERE protects;
    CREATE INDEX legacy_points ON points(place, id) WHERE usable_legacy
    """,
)

# Tables that older versions do not know and go on without; they leave `user_version` alone.
# `second_runs` are those whose sets went to the second place: each comes after that one of `runs`
# with its `sequence`, and is no answer to what the first place owes.
ADDITIONS = """
    CREATE TABLE IF NOT EXISTS messages(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, receiver TEXT NOT NULL,
        title TEXT NOT NULL, codes TEXT NOT NULL, result TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS receivers(id TEXT PRIMARY KEY, state TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS second_runs(
        number INTEGER PRIMARY KEY AUTOINCREMENT, sequence INTEGER NOT NULL,
        id TEXT NOT NULL UNIQUE, operation TEXT NOT NULL, trigger TEXT NOT NULL,
        status TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT, set_id TEXT, stage TEXT,
        error_code TEXT, error_message TEXT, error_hint TEXT
    )
    """


_REMEDY = (
    "Move it aside, with its -wal and -shm: the program then makes a new one, and reads from the "
    "store again what is there. Then: ./bot backups list"
)


def open_records(directory: Path) -> Database:
    """The records of this host; made when they are not there, and rebuilt from the store.

    What has disappeared is made anew, also under a running program; what is damaged is moved
    aside first. Raises `DatabaseSchemaMismatch` alone: what cannot be opened now is tried again
    by each transaction.
    """
    return Database(
        directory / "runs.db",
        MIGRATIONS,
        additions=ADDITIONS,
        remedy=_REMEDY,
        renewed=_report_renewal,
    )


def _report_renewal(error: DatabaseError, aside: Path | None) -> None:
    _log.warning(
        "this host's records were made anew, because %s%s. Gone with them: the run log, and what "
        "restore --undo needs",
        error.message,
        f" (moved to {aside})" if aside else "",
    )


def records_unusable(error: AppError) -> Finding:
    """The problem that the records cannot be read, or cannot be written."""
    return Finding(
        "records_unusable",
        f"this host's records of backups cannot be used: {error.message}",
        error.hint,
    )


def find_faults(directory: Path) -> tuple[Finding, ...]:
    """Why the next run could not be recorded in `directory`, by a look; nothing is written.

    SQLite begins a transaction on a full disk, and fails as it ends: so the room is looked at.
    """
    path = directory / "runs.db"
    try:
        disk = os.statvfs(directory)
    except FileNotFoundError:
        return ()  # the next run makes it
    except OSError as error:
        reason = f"{directory} cannot be reached: {error.strerror}"
        return (_unusable(reason, "Check the owner and mode of BACKUP_DIR, and its disk."),)
    # A file system that does not count its blocks or files says 0 of 0.
    no_blocks = disk.f_blocks > 0 and disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES
    no_files = disk.f_files > 0 and disk.f_favail == 0
    if no_blocks or no_files:
        return (
            _unusable(
                f"the disk of BACKUP_DIR ({directory}) is full",
                "Make room on that disk, or set BACKUP_DIR to a larger one.",
            ),
        )
    for needed in (directory, path):
        if needed.exists() and not os.access(needed, os.R_OK | os.W_OK):
            return (
                _unusable(
                    f"{needed} cannot be written by this user, or its disk is read-only",
                    "Check its owner and mode, and whether the disk is mounted read-only.",
                ),
            )
    return ()


def find_damaged(directory: Path) -> tuple[Finding, ...]:
    """A warning for as long as a damaged file lies beside the records."""
    found = moved_aside(directory / "runs.db")
    if not found:
        return ()
    return (
        Finding(
            "records_damaged",
            f"this host's records of backups were damaged, and were made anew: {found[-1]} has "
            "what was left of the run log and of what restore --undo needs",
            f"When you do not need it any more: rm {directory / 'runs.db'}.damaged-*",
        ),
    )


def _unusable(reason: str, hint: str) -> Finding:
    return records_unusable(AppError(reason, hint))
