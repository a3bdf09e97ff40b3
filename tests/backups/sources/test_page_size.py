"""A restore into a database whose pages have another size: the rows stay what they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backups.errors import PageSizeDiffers
from backups.model import Source
from backups.runs.run import Recorder
from backups.sources import install
from shared.databases import untrusted
from tests.support.bench import open_bench
from tests.support.generations import connect

SIZES = [(4096, 1024), (1024, 65536)]

_SCHEMA = """
CREATE TABLE plain(name TEXT);
CREATE TABLE hidden(rowid TEXT, name TEXT);
CREATE TABLE taken(rowid TEXT, oid TEXT, _rowid_ TEXT);
CREATE TABLE texts(name TEXT PRIMARY KEY, size INTEGER);
CREATE TABLE "odd ""name"(x, made AS (x * 2));
CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
CREATE TABLE emptied(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
CREATE TABLE keyed(name TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID;
CREATE TABLE referring(plain_rowid INTEGER);
"""
_QUERIES = (
    "SELECT rowid, name FROM plain ORDER BY rowid",
    "SELECT oid, rowid, name FROM hidden ORDER BY oid",
    "SELECT * FROM taken ORDER BY 1",
    "SELECT rowid, * FROM texts ORDER BY rowid",
    'SELECT rowid, * FROM "odd ""name" ORDER BY rowid',
    "SELECT * FROM counted ORDER BY id",
    "SELECT * FROM keyed ORDER BY name",
    "SELECT name, seq FROM sqlite_sequence ORDER BY name",
    "SELECT name FROM plain JOIN referring ON plain.rowid = plain_rowid ORDER BY name",
    "PRAGMA user_version",
    "PRAGMA application_id",
    "PRAGMA encoding",
)


def make(path: Path, size: int) -> Path:
    """A database of every kind of table, with gaps between the rowids."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA encoding='UTF-16le'")
        connection.execute(f"PRAGMA page_size={size}")
        connection.execute("PRAGMA user_version=7")
        connection.execute("PRAGMA application_id=99")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        for number in range(1, 400):
            name = f"{number:04d}"
            connection.execute("INSERT INTO plain VALUES (?)", (name,))
            connection.execute("INSERT INTO hidden VALUES (?, ?)", (name, name))
            connection.execute("INSERT INTO taken VALUES (?, ?, ?)", (name, name, name))
            connection.execute("INSERT INTO texts VALUES (?, ?)", (name, number))
            connection.execute('INSERT INTO "odd ""name"(x) VALUES (?)', (number,))
            connection.execute("INSERT INTO counted(name) VALUES (?)", (name,))
            connection.execute("INSERT INTO emptied(name) VALUES (?)", (name,))
            connection.execute("INSERT INTO keyed VALUES (?, ?)", (name, number))
            connection.execute("INSERT INTO referring VALUES (?)", (number,))
        connection.execute("INSERT INTO plain(rowid, name) VALUES (-5, 'below')")
        connection.execute("INSERT INTO plain(rowid, name) VALUES (?, 'above')", (2**62,))
        for table in ("plain", "texts", "counted", "keyed"):
            connection.execute(f"DELETE FROM {table} WHERE name < '0100'")
            connection.execute(f"DELETE FROM {table} WHERE name > '0390' AND name < 'a'")
        connection.execute("DELETE FROM hidden WHERE name < '0100'")
        connection.execute('DELETE FROM "odd ""name" WHERE x < 100')
        connection.execute("DELETE FROM emptied")
        connection.execute("COMMIT")
    return path


def content(path: Path) -> list[list[tuple[object, ...]]]:
    """What every query finds in a sound database."""
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [connection.execute(query).fetchall() for query in _QUERIES]


def replace(staged: Path, live: Path) -> None:
    """Replace the content of a live database."""
    install.replace_content(staged, Source("t", live), 5.0, lambda: None, lambda done, total: None)


@pytest.mark.parametrize(("staged_size", "live_size"), SIZES)
def test_rowids_and_sequences_stay(tmp_path: Path, staged_size: int, live_size: int) -> None:
    """Rowids, AUTOINCREMENT's next numbers and all rows are those of the set in any page size."""
    staged, live = make(tmp_path / "staged.db", staged_size), tmp_path / "live.db"
    expected = content(staged)
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA encoding='UTF-16le'")
        connection.execute(f"PRAGMA page_size={live_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript("CREATE TABLE old(x); INSERT INTO old VALUES (1), (2)")
    replace(staged, live)
    assert content(live) == expected
    with closing(connect(live)) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (live_size,)
        connection.execute("INSERT INTO emptied(name) VALUES ('next')")
        assert connection.execute("SELECT id FROM emptied").fetchall() == [(400,)]
    assert not list(tmp_path.glob("staged.db?*"))


def test_renumbered_rows_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should SQLite renumber rows, the live database is not touched."""
    staged, live = make(tmp_path / "staged.db", 4096), tmp_path / "live.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.executescript("PRAGMA page_size=1024; CREATE TABLE old(x)")
    before, unchanged = live.read_bytes(), staged.read_bytes()
    monkeypatch.setattr(untrusted, "sqlite3", _Renumbering(sqlite3))
    with pytest.raises(PageSizeDiffers, match="other rowids"):
        replace(staged, live)
    assert live.read_bytes() == before
    assert staged.read_bytes() == unchanged


class _Renumbering:
    """The module `sqlite3`, whose connections do with `VACUUM INTO` what `VACUUM` does."""

    def __init__(self, module: object) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)

    def connect(self, path: Path, **options: object) -> sqlite3.Connection:
        return sqlite3.connect(path, factory=_RenumberingConnection, **options)  # type: ignore[call-overload, no-any-return]


class _RenumberingConnection(sqlite3.Connection):
    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        done = super().execute(statement, *values)  # type: ignore[arg-type]
        if statement.startswith("VACUUM INTO"):
            path = values[0][0]  # type: ignore[index]
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("VACUUM")
        return done


def bytes_in_order(left: str, right: str) -> int:
    """A collation that only one program has."""
    return (left > right) - (left < right)


@pytest.fixture
def own_collation(tmp_path: Path) -> Path:
    """A copy that SQLite alone cannot rewrite."""
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_collation("own", bytes_in_order)
        connection.execute("CREATE TABLE tokens(key TEXT COLLATE own, value)")
        connection.execute("CREATE INDEX by_key ON tokens(key)")
        connection.execute("INSERT INTO tokens(rowid, key) VALUES (7, 'a')")
    return path


def test_a_copy_that_cannot_be_rewritten_is_installed_as_it_is(
    tmp_path: Path, own_collation: Path
) -> None:
    """The live files are moved aside for it, with all their rows, and an undo brings them back."""
    copied = own_collation.read_bytes()
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genlive")
        with closing(connect(bench.tokens)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA page_size=1024")
            connection.execute("VACUUM")
        replacer = bench.service.restore.replacer

        def work(recorder: Recorder, staging: Path) -> str:
            recorder.stage("install")
            (tokens,) = replacer.replaceable(["tokens"])
            replacer.begin(recorder, "set").install(tokens, own_collation)
            return "set"

        run = bench.service.restore.starter.begin("restore", "manual", work).execute()
        assert run.status == "succeeded", run.error
        assert bench.tokens.read_bytes() == copied
        bench.undo()
        assert bench.generations() == {"tokens": "genlive", "sessions": "genlive"}
