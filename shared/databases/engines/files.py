"""Between the tables of PostgreSQL and the files of SQLite: out of the one, into the other.

    copy_out   all sources as of one instant, as the files that SQLite's own storages make
    stage      the rows of a file beside the live tables, as `<table>_coming_<run>`
    swap       in one transaction: live to `<table>_before_<run>`, and what was staged to live
    swap_back  the same the other way, from `<table>_before_<run>`

Whoever has a transaction open when tables are swapped ends it with those that it began with.

One file, because each direction has to name the columns that the other one reads.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from shared.databases.engines.connections import SCHEMA, Connections, Raw, connect
from shared.databases.engines.faults import translated
from shared.databases.engines.postgres import lock_of
from shared.databases.engines.tables import TABLES
from shared.databases.requests import MIGRATION as REQUESTS
from shared.databases.sessions import MIGRATIONS as SESSIONS
from shared.databases.tokens import MIGRATIONS as TOKENS
from shared.databases.translation import translated as translated_sqlite
from shared.errors import DatabaseMissing, DatabaseSchemaMismatch
from shared.files import create_private_file

# The run of a migration, in the names of tables.
MIGRATION = "migration"
_ROWS_AT_ONCE = 2000
# A copy takes as long as it takes; what hangs, the deadline of the run ends.
_PATIENT = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=10min"
_RUN = re.compile(r"[0-9A-Za-z-]{1,40}")
# Columns that a statement of SQLite does not show, and that are part of a row.
_HIDDEN = {"tokens": ("rowid",)}
_NUMBERED = {"tokens": "rowid", "events": "sequence", "first_syncs": "sequence"}


@dataclass(frozen=True)
class FileShape:
    """How a file of a source is made: its numbered scripts, and one for what may be added."""

    migrations: tuple[str, ...]
    additions: str = ""


SHAPES: Mapping[str, FileShape] = {
    "tokens": FileShape(TOKENS),
    "sessions": FileShape(SESSIONS),
}


def copy_out(
    connections: Connections,
    files: Mapping[str, Path],
    shapes: Mapping[str, FileShape] = SHAPES,
    at_instant: Callable[[], object] = lambda: None,
) -> None:
    """Write a new file, 0600, for each of these sources, all as of one instant.

    `at_instant` is called at that instant. Equal rows make equal files. Raises `DatabaseError`.
    """
    with _patiently(connections) as raw:
        raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Before the first SELECT, which takes the snapshot: no swap comes between.
        tables = [table for source in files for table in TABLES[source]]
        raw.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE".encode())
        versions = dict(raw.execute("SELECT source, version FROM versions").fetchall())
        at_instant()
        for source, path in files.items():
            create_private_file(path)
            with (
                translated_sqlite(str(path)),
                closing(sqlite3.connect(path, isolation_level=None)) as made,
            ):
                _fill(made, raw, source, versions[source], shapes[source])


def stage(connections: Connections, run: str, source: str, path: Path) -> int:
    """Bring the rows of a file beside the live tables of its source; how many rows those are.

    What an earlier call for this run has staged is replaced. Raises `DatabaseError`, among them
    `DatabaseSchemaMismatch` for a value that PostgreSQL cannot store.
    """
    count = 0
    with (
        _patiently(connections) as raw,
        translated_sqlite(str(path)),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file,
    ):
        raw.execute("BEGIN")
        version = int(file.execute("PRAGMA user_version").fetchone()[0])
        for table in TABLES[source]:
            coming = _name(table, "coming", run)
            raw.execute(f"DROP TABLE IF EXISTS {coming}".encode())
            raw.execute(f"CREATE TABLE {coming} (LIKE {table} INCLUDING ALL)".encode())
            columns = _columns(file, table)
            if columns:
                count += _copy_in(raw, coming, table, columns, file)
        _note_version(raw, _version_name(source, "coming", run), version)
        raw.execute("COMMIT")
    return count


def swap(connections: Connections, run: str, sources: Iterable[str]) -> None:
    """Let what was staged for this run be live, all in one transaction; nothing, if it is already.

    Requests that only the tables before have are carried over. Raises `DatabaseMissing` when
    nothing was staged; `DatabaseLocked` when the tables cannot be had within some seconds.
    """
    _exchange(connections, list(sources), ("coming", run), run)


def swap_back(connections: Connections, run: str, undoing: str, sources: Iterable[str]) -> None:
    """Let what a run has replaced be live again; what is live becomes that of the run `undoing`.

    Raises as `swap`.
    """
    _exchange(connections, list(sources), ("before", run), undoing)


def forget(connections: Connections, run: str) -> None:
    """Drop what was staged for a run, and what it has replaced."""
    with connections.begin("BEGIN") as (raw, _):
        for source, tables in TABLES.items():
            for part in ("coming", "before"):
                for table in tables:
                    raw.execute(f"DROP TABLE IF EXISTS {_name(table, part, run)}".encode())
                name = _version_name(source, part, run)
                raw.execute("DELETE FROM versions WHERE source = %s", (name,))
        raw.execute("COMMIT")


def kept_runs(connections: Connections) -> list[str]:
    """The runs of which what they have replaced is still there, in order."""
    query = "SELECT DISTINCT substr(source, strpos(source, '_before_') + 8) FROM versions"
    with connections.begin("BEGIN READ ONLY") as (raw, _):
        found = raw.execute(f"{query} WHERE source LIKE '%%\\_before\\_%%'".encode(), ()).fetchall()
    return sorted(str(row[0]) for row in found)


def is_unfinished(connections: Connections) -> bool:
    """Whether a migration has brought rows here, and was ended before it had compared them."""
    return MIGRATION in kept_runs(connections)


def changes(connections: Connections, source: str) -> tuple[int, int]:
    """Two numbers of which one differs after a change of a source, within about a second."""
    tables = ", ".join(f"'{table}'" for table in TABLES[source])
    query = (
        "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::BIGINT,"  # noqa: S608
        f" (SELECT swaps FROM versions WHERE source = '{source}')"
        f" FROM pg_stat_user_tables WHERE schemaname = '{SCHEMA}' AND relname IN ({tables})"
    )
    with connections.begin(f"BEGIN READ ONLY; {query}") as (_, row):
        return int(row[0]), int(row[1])


def is_empty(connections: Connections, source: str) -> bool:
    """Whether no table of a source has a row."""
    parts = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in TABLES[source])  # noqa: S608
    with connections.begin(f"BEGIN READ ONLY; SELECT {parts}") as (_, row):
        return not row[0]


def counts(connections: Connections, source: str) -> dict[str, int]:
    """How many rows each table of a source has."""
    with connections.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as (raw, _):
        return {
            table: int(raw.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()[0][0])  # noqa: S608
            for table in TABLES[source]
        }


def _exchange(
    connections: Connections, sources: list[str], coming: tuple[str, str], run: str
) -> None:
    locks = "; ".join(lock_of(source) for source in sorted(sources, key=list(TABLES).index))
    with connections.begin(f"BEGIN; {locks}") as (raw, _):
        for source in sources:
            version = _noted_version(raw, _version_name(source, *coming))
            if version is None:
                if _noted_version(raw, _version_name(source, "before", run)) is not None:
                    continue  # done before
                raise DatabaseMissing(
                    f"{connections.what} has nothing of {source} that run {coming[1]} has left",
                    "Restore a set by its id: ./bot backups list",
                )
            _exchange_source(raw, source, coming, run, version)
        raw.execute("COMMIT")


def _exchange_source(
    raw: Raw, source: str, coming: tuple[str, str], run: str, version: int
) -> None:
    for table in TABLES[source]:
        raw.execute(f"ALTER TABLE {table} RENAME TO {_name(table, 'before', run)}".encode())
        raw.execute(f"ALTER TABLE {_name(table, *coming)} RENAME TO {table}".encode())
    if source == "tokens":
        former = _name("requests", "before", run)
        raw.execute(
            "INSERT INTO requests(provider, request_id, account, topic, sent_at)"  # noqa: S608
            f" SELECT provider, request_id, account, topic, sent_at FROM {former}"
            " ON CONFLICT DO NOTHING".encode()
        )
    before = _noted_version(raw, source)
    raw.execute("DELETE FROM versions WHERE source = %s", (_version_name(source, *coming),))
    _note_version(raw, _version_name(source, "before", run), before or 0)
    raw.execute(
        "UPDATE versions SET version = %s, swaps = swaps + 1 WHERE source = %s", (version, source)
    )


def _fill(made: sqlite3.Connection, raw: Raw, source: str, version: int, shape: FileShape) -> None:
    made.execute("PRAGMA journal_mode=OFF")
    made.execute("PRAGMA synchronous=OFF")
    made.execute("BEGIN")
    scripts = [*shape.migrations[:version], shape.additions]
    if source == "tokens" and _has_rows(raw, "requests"):
        scripts.append(REQUESTS)  # a file of an older version has it from its first request on
    for script in scripts:
        for statement in script.split(";"):
            made.execute(statement)
    made.execute(f"PRAGMA user_version={version}")
    for table in TABLES[source]:
        columns = _columns(made, table)
        if columns:
            _copy_table(made, raw, table, columns)
    made.execute("COMMIT")


def _copy_table(made: sqlite3.Connection, raw: Raw, table: str, columns: Sequence[str]) -> None:
    names = ", ".join(columns)
    first = _NUMBERED.get(table, columns[0])
    order = ", ".join([first, *(name for name in columns[:2] if name != first)])
    marks = ", ".join("?" * len(columns))
    with raw.cursor(name="rows") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(f"SELECT {names} FROM {table} ORDER BY {order}".encode())  # noqa: S608
        made.executemany(f"INSERT INTO {table}({names}) VALUES ({marks})", cursor)  # noqa: S608


def _copy_in(
    raw: Raw, coming: str, table: str, columns: Sequence[str], file: sqlite3.Connection
) -> int:
    names, count = ", ".join(columns), 0
    rows = file.execute(f"SELECT {names} FROM {table}")  # noqa: S608 - names of ours
    try:
        with raw.cursor().copy(f"COPY {coming} ({names}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)
                count += 1
    except (psycopg.DataError, psycopg.IntegrityError, UnicodeError) as error:
        raise DatabaseSchemaMismatch(
            f"row {count + 1} of {table} has a value that PostgreSQL cannot store "
            f"({type(error).__name__})",
            "Restore a set without it, or on a host with SQLite.",
        ) from None
    if (numbered := _NUMBERED.get(table)) is not None:
        raw.execute(
            f"SELECT setval(pg_get_serial_sequence('{SCHEMA}.{coming}', '{numbered}'),"  # noqa: S608
            f" (SELECT greatest(max({numbered}), 0) + 1 FROM {coming}), false)".encode()
        )
    return count


def _columns(file: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table of ours in a file, in order; empty if it has no such table."""
    found = [str(row[1]) for row in file.execute(f"PRAGMA table_info({table})")]
    return [*_HIDDEN.get(table, ()), *found] if found else []


def _has_rows(raw: Raw, table: str) -> bool:
    query = f"SELECT EXISTS (SELECT 1 FROM {table})"  # noqa: S608 - a name of ours
    return bool(raw.execute(query.encode()).fetchall()[0][0])


def _note_version(raw: Raw, name: str, version: int) -> None:
    raw.execute(
        "INSERT INTO versions(source, version) VALUES (%s, %s)"
        " ON CONFLICT(source) DO UPDATE SET version = excluded.version",
        (name, version),
    )


def _noted_version(raw: Raw, name: str) -> int | None:
    row = raw.execute("SELECT version FROM versions WHERE source = %s", (name,)).fetchone()
    return None if row is None else int(row[0])


def _version_name(source: str, part: str, run: str) -> str:
    return f"{source}_{part}_{run}"


def _name(table: str, part: str, run: str) -> str:
    if not _RUN.fullmatch(run):
        raise ValueError(f"{run!a} is no id of a run")
    return f'"{table}_{part}_{run}"'


@contextmanager
def _patiently(connections: Connections) -> Iterator[Raw]:
    """A connection of its own that may take its time; what it has begun ends with it."""
    with translated(connections.what):
        raw = connect(connections.address, "sales-bot copy", _PATIENT)
        try:
            yield raw
        finally:
            with suppress(psycopg.Error):
                raw.close()
