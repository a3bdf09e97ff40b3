"""Comparing a file with what our migrations make, version by version."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared.databases.schema import KnownSchema, admit, refuse_foreign_schema
from shared.databases.sqlite import Database
from shared.errors import DatabaseSchemaMismatch

FIRST = "CREATE TABLE IF NOT EXISTS rows(name TEXT PRIMARY KEY, size INTEGER)"
SECOND = (
    "ALTER TABLE rows ADD COLUMN note TEXT DEFAULT 'none';"
    "CREATE INDEX large ON rows(size) WHERE size > 100;"
    "CREATE TABLE more(id INTEGER PRIMARY KEY, name TEXT)"
)
SCRIPTS = (FIRST, SECOND)
KNOWN = KnownSchema(SCRIPTS, lambda path: Database(path, SCRIPTS).close())


def nobody() -> None:
    """Ask for nothing."""


def make(path: Path, *scripts: str, version: int = 2) -> Path:
    """A self-contained file that these scripts make."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for script in scripts:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version={version}")
    return path


def dump(path: Path) -> list[str]:
    """Its schema and its rows."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return list(connection.iterdump())


def refused(path: Path) -> str:
    """Why a file is refused, and left as it is."""
    before = path.read_bytes()
    with pytest.raises(DatabaseSchemaMismatch) as by_verify:
        refuse_foreign_schema(path, "rows", KNOWN, nobody)
    with pytest.raises(DatabaseSchemaMismatch) as error:
        admit(path, "rows", KNOWN, nobody)
    assert error.value.message == by_verify.value.message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    return error.value.message


def test_each_version_is_compared_with_what_its_scripts_make(tmp_path: Path) -> None:
    """A file of the newest version stays byte for byte; an older one is migrated."""
    newest = make(tmp_path / "newest.db", *SCRIPTS, "INSERT INTO more(name) VALUES ('one')")
    before = newest.read_bytes()
    assert admit(newest, "rows", KNOWN, nobody)
    assert newest.read_bytes() == before

    older = make(tmp_path / "older.db", FIRST, "INSERT INTO rows VALUES ('one', 1)", version=1)
    assert admit(older, "rows", KNOWN, nobody)
    assert "INSERT INTO \"rows\" VALUES('one',1,'none');" in dump(older)


def test_a_table_of_a_later_version_is_one_too_many(tmp_path: Path) -> None:
    """What a script of a later version makes is refused before, and missed from then on."""
    assert "has the table more" in refused(make(tmp_path / "a.db", *SCRIPTS, version=1))
    (tmp_path / "a.db").unlink()
    assert "lacks the table more" in refused(make(tmp_path / "b.db", FIRST, version=2))


def test_the_expression_of_an_index_of_ours_is_compared(tmp_path: Path) -> None:
    """The same columns under another condition: the rows are copied, and the index is ours."""
    other = SECOND.replace("size > 100", "length(hex(name)) > 100")
    rows = "INSERT INTO rows VALUES ('one', 1, NULL), ('two', 200, 'x')"
    path = make(tmp_path / "a.db", FIRST, other, rows)
    assert not admit(path, "rows", KNOWN, nobody)
    assert dump(path) == dump(make(tmp_path / "b.db", *SCRIPTS, rows))


def test_an_index_of_ours_that_is_missing_is_named(tmp_path: Path) -> None:
    """An index, or its condition, cannot be left out."""
    path = make(tmp_path / "a.db", *SCRIPTS, "DROP INDEX large")
    assert "lacks an index of rows" in refused(path)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_rows_are_copied_in_the_encoding_that_they_have(tmp_path: Path, encoding: str) -> None:
    """The text encoding of a file is no reason to refuse it."""
    path = make(
        tmp_path / "a.db",
        f"PRAGMA encoding='{encoding}'",
        FIRST.replace("rows(", "rows ("),
        "INSERT INTO rows VALUES ('ä', 1)",
        version=1,
    )
    assert not admit(path, "rows", KNOWN, nobody)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name, note FROM rows").fetchall() == [("ä", "none")]
        assert connection.execute("PRAGMA encoding").fetchone() == (encoding,)


@pytest.mark.parametrize("version", [-1, -(2**31)])
def test_a_version_below_zero_is_not_believed(tmp_path: Path, version: int) -> None:
    """The rows come into a file of the first version."""
    path = make(tmp_path / "a.db", FIRST, "INSERT INTO rows VALUES ('one', 1)", version=version)
    assert not admit(path, "rows", KNOWN, nobody)
    assert "INSERT INTO \"rows\" VALUES('one',1,'none');" in dump(path)
