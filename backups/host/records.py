"""`BACKUP_DIR/runs.db`: this host's records, shared by the run log and the catalogue."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from shared.databases.sqlite import Database

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
ADDITIONS = """
    CREATE TABLE IF NOT EXISTS missing_points(
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, created_at TEXT NOT NULL,
        noticed_at TEXT NOT NULL, accepted_at TEXT, keys TEXT NOT NULL DEFAULT '[]'
    );
    CREATE TABLE IF NOT EXISTS messages(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, receiver TEXT NOT NULL,
        title TEXT NOT NULL, codes TEXT NOT NULL, result TEXT NOT NULL
    )
    """


def open_records(directory: Path) -> Database:
    """The records of this host; made when they are not there, and rebuilt from the store.

    A file with zero bytes and no `-wal` beside it holds nothing, and is made anew.
    """
    path = directory / "runs.db"
    with suppress(OSError):
        if path.stat().st_size == 0 and not path.with_name("runs.db-wal").exists():
            path.unlink()
    return Database(path, MIGRATIONS, additions=ADDITIONS)
