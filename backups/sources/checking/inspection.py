"""Reading a database file that is not live: its facts, its integrity, its hash."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Literal

from backups.model import DatabaseFacts
from shared.databases.translation import primary_code

Check = Literal["quick_check", "integrity_check"]


def read_facts(connection: sqlite3.Connection) -> DatabaseFacts:
    """Page size and count, `user_version`, and the rows of every table that can be counted here.

    Call it inside a transaction when the database is live. Virtual tables are left out (their
    rows are in their shadow tables), and so are SQLite's own.
    """
    connection.text_factory = _lenient  # a comment in a schema may be no UTF-8
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        " ORDER BY name"
    ).fetchall()
    rows = {}
    for (name,) in names:
        quoted = str(name).replace('"', '""')
        count = f'SELECT count(*) FROM "{quoted}"'  # noqa: S608
        try:
            counted = connection.execute(count).fetchone()
        except sqlite3.DatabaseError as error:
            if primary_code(error) == sqlite3.SQLITE_CORRUPT:  # an index may be, and its table not
                counted = connection.execute(f"{count} NOT INDEXED").fetchone()
            elif primary_code(error) == sqlite3.SQLITE_ERROR:
                continue  # it needs a collation that only its owner's program has
            else:
                raise
        rows[str(name)] = int(counted[0])
    return DatabaseFacts(
        page_size=_pragma(connection, "page_size"),
        page_count=_pragma(connection, "page_count"),
        user_version=_pragma(connection, "user_version"),
        rows=rows,
        schema=schema_fingerprint(connection),
    )


def fault_of(connection: sqlite3.Connection, check: Check) -> str | None:
    """The first fault that SQLite's check finds, or None when the database is sound."""
    found = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if found and found[0] == "ok":
        return None
    return " ".join(str(found[0]).split()) if found else "no answer"  # it may have several lines


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex. Never call it on a live database."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def schema_fingerprint(connection: sqlite3.Connection) -> str:
    """The same for every database with the same tables, indexes, views and triggers."""
    statements = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name"
    ).fetchall()
    return hashlib.sha256(repr(statements).encode()).hexdigest()[:16]


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
