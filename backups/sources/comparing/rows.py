"""Comparing the rows of a live database with those of a copy, by key, without showing a value.

Of each row of the copy a scratch file, which has no name, keeps two keyed hashes: one of its key,
one of all its values. The rows of the live database are looked up there, one at a time, so that
memory stays the same at any size. Values are compared as bytes, with their type.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backups.errors import BackupError
from backups.model import Source
from backups.sources.live import connect
from backups.sources.pins import what
from backups.vocabulary.comparison import TableDifference
from shared.databases.cipher import encrypted_at
from shared.databases.translation import translated
from shared.databases.untrusted import with_untrusted
from shared.words import counted

_CACHE_KIBIBYTES = 16_384
_TIME_COLUMNS = ("updated_at", "modified_at", "received_at", "created_at", "since")
# Where a table has none of them, and its values are encrypted: those say when that was done.
_ENCRYPTED_COLUMN = "value"
# Seconds since 1970 of a time that a row can have: from 2001 to 2100.
_FIRST, _LAST = 1_000_000_000, 4_102_444_800
_TABLES = (
    "SELECT name FROM sqlite_schema WHERE type = 'table'"
    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
)


class _Text(bytes):
    """A value of type TEXT, which is not the BLOB with the same bytes."""


@dataclass(frozen=True)
class _Table:
    """How the rows of a table are read: its columns, by name, and those that tell a row apart."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def compare_rows(
    copy: Path, source: Source, busy_timeout: float, most: int
) -> tuple[TableDifference, ...]:
    """What tells a live database from the file `copy`, by table; changes neither.

    Raises `DatabaseError` where either cannot be read, and `BackupError` where a table has more
    than `most` rows.
    """

    def work(stored: sqlite3.Connection) -> tuple[TableDifference, ...]:
        # Opened in the same thread; the copy is read inside of one transaction of the live one.
        with translated(what(source)), closing(connect(source.path, busy_timeout)) as live:
            live.execute("PRAGMA query_only=ON")
            live.execute("BEGIN")
            stored.text_factory = live.text_factory = _Text
            return tuple(_compare_tables(stored, live, most))

    return with_untrusted(copy, f"the copy of {source.name}", work, lambda: None)


def _compare_tables(
    stored: sqlite3.Connection, live: sqlite3.Connection, most: int
) -> Iterator[TableDifference]:
    of_stored, of_live = _tables(stored), _tables(live)
    for name in sorted({*of_stored, *of_live}):
        then, now = of_stored.get(name), of_live.get(name)
        if then is not None and now is not None:
            yield _compare(stored, live, _shared(then, now), most)
        elif now is not None:
            count = _count(live, name)
            newest = _newest(live, now) if count <= most else None
            yield TableDifference(name, count, 0, 0, newest)
        else:
            yield TableDifference(name, 0, _count(stored, name), 0)


def _tables(connection: sqlite3.Connection) -> dict[str, _Table]:
    names = [str(row[0], "utf-8", "replace") for row in connection.execute(_TABLES)]
    return {name: _described(connection, name) for name in names}


def _described(connection: sqlite3.Connection, name: str) -> _Table:
    found = connection.execute(f"PRAGMA table_info({_quoted(name)})").fetchall()
    columns = tuple(str(row[1], "utf-8", "replace") for row in found)
    keys = sorted((row[5], column) for row, column in zip(found, columns, strict=True) if row[5])
    free = [one for one in ("rowid", "_rowid_", "oid") if one not in map(str.lower, columns)]
    return _Table(name, columns, tuple(column for _, column in keys) or tuple(free[:1]))


def _shared(then: _Table, now: _Table) -> _Table:
    """The columns that both have; where they tell rows apart otherwise, a row is all its values."""
    columns = tuple(one for one in now.columns if one in then.columns)
    return _Table(now.name, columns, now.key if now.key == then.key else columns)


def _compare(
    stored: sqlite3.Connection, live: sqlite3.Connection, table: _Table, most: int
) -> TableDifference:
    salt = secrets.token_bytes(32)
    dated = _dated(table)
    at = len(table.key) + table.columns.index(dated) if dated else None
    only_live = changed = found = count = 0
    newest: datetime | None = None
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("PRAGMA journal_mode=OFF")
        scratch.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
        scratch.execute("CREATE TABLE known (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        scratch.execute("BEGIN")
        for row in _rows(stored, table, most):
            # A copy whose rows share a key is damaged; they count as one.
            count += scratch.execute(
                "INSERT OR IGNORE INTO known VALUES (?, ?)", _hashes(row, table, salt)
            ).rowcount
        for row in _rows(live, table, most):
            key, value = _hashes(row, table, salt)
            known = scratch.execute("SELECT value FROM known WHERE key = ?", (key,)).fetchone()
            if known is not None:
                found += 1
                if known[0] == value:
                    continue
                changed += 1
            else:
                only_live += 1
            if at is not None and (time := _time(row[at], dated)) is not None:
                newest = max(time, newest or time)
    return TableDifference(table.name, only_live, max(0, count - found), changed, newest)


def _newest(connection: sqlite3.Connection, table: _Table) -> datetime | None:
    """The newest time in a table."""
    if (dated := _dated(table)) is None:
        return None
    query = f"SELECT {_quoted(dated)} FROM {_quoted(table.name)}"  # noqa: S608
    times = (_time(row[0], dated) for row in connection.execute(query))
    return max((one for one in times if one is not None), default=None)


def _dated(table: _Table) -> str | None:
    """The column that says when a row was written."""
    columns = (*_TIME_COLUMNS, _ENCRYPTED_COLUMN)
    return next((one for one in columns if one in table.columns), None)


def _rows(connection: sqlite3.Connection, table: _Table, most: int) -> Iterator[tuple[Any, ...]]:
    names = ", ".join(_quoted(one) for one in (*table.key, *table.columns))
    query = f"SELECT {names} FROM {_quoted(table.name)}"  # noqa: S608
    for number, row in enumerate(connection.execute(query)):
        if number >= most:
            raise BackupError(f"table {table.name} has more than {counted(most, 'row')}", "")
        yield row


def _hashes(row: Sequence[Any], table: _Table, salt: bytes) -> tuple[bytes, bytes]:
    keys = len(table.key)
    return _hash(row[:keys], salt), _hash(row[keys:], salt)


def _hash(values: Sequence[Any], salt: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16, key=salt)
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(data)} ".encode())
        digest.update(data)
    return digest.digest()


def _time(value: object, column: str | None) -> datetime | None:
    """A number of seconds since 1970, a text of ISO 8601, or in its column the time of an encrypted
    value, as a time; anything else is none."""
    if column == _ENCRYPTED_COLUMN:
        value = encrypted_at(value) if isinstance(value, _Text) else None
    if isinstance(value, int | float) and _FIRST <= value <= _LAST:
        return datetime.fromtimestamp(int(value), UTC)
    if isinstance(value, _Text) and len(value) < 40:
        try:
            found = datetime.fromisoformat(value.decode())
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _count(connection: sqlite3.Connection, name: str) -> int:
    query = f"SELECT count(*) FROM {_quoted(name)}"  # noqa: S608
    return int(connection.execute(query).fetchone()[0])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
