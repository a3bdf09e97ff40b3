"""What comes in place of the live databases has exactly the schema of the application, or nothing.

Each set here is complete, proven, unsuspected and marked; its manifest says what is in it.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backups.errors import RestoreBlocked
from backups.model import Run
from shared.databases.schema import KnownSchema
from shared.databases.sqlite import Database
from shared.errors import DatabaseMissing
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.generations import SOURCES, bring_into, connect, generation_of
from tests.support.planting import plant, script

# What no restore in place takes, and how it is named.
FOREIGN = {
    "trigger": (
        "CREATE TRIGGER steal AFTER INSERT ON sessions BEGIN"
        " UPDATE sessions SET uuid = 'mine' WHERE session_id = new.session_id; END",
        "has the trigger steal",
    ),
    "view": ("CREATE VIEW seen AS SELECT * FROM sessions", "has the view seen"),
    "table": ("CREATE TABLE stolen(session_id, uuid)", "has the table stolen"),
    "virtual table": (
        "CREATE VIRTUAL TABLE found USING fts5(body)",
        "has the table found",
    ),
    "column": ("ALTER TABLE sessions ADD COLUMN note TEXT", "has the column sessions.note"),
    "generated column": (
        "ALTER TABLE sessions ADD COLUMN made AS (upper(uuid))",
        "has the column sessions.made",
    ),
    "no column": (
        "ALTER TABLE sessions DROP COLUMN created_at",
        "lacks the column sessions.created_at",
    ),
    "another column": (
        "DROP TABLE sessions; CREATE TABLE sessions"
        "(session_id TEXT PRIMARY KEY, uuid TEXT, created_at INTEGER NOT NULL)",
        "declares the column sessions.uuid in another way",
    ),
    "a collation": (
        "DROP TABLE sessions; CREATE TABLE sessions(session_id TEXT COLLATE NOCASE PRIMARY KEY,"
        " uuid TEXT NOT NULL, created_at INTEGER NOT NULL)",
        "lacks an index of sessions, or has it in another way",
    ),
    "no table": ("DROP TABLE sessions", "lacks the table sessions"),
    "a view in its place": (
        "ALTER TABLE sessions RENAME TO kept; CREATE VIEW sessions AS SELECT * FROM kept",
        "lacks the table sessions",
    ),
    "escape sequences": ('CREATE TABLE "\x1b[2Jgone"(x)', "has the table ?[2Jgone"),
}

# What has the right columns, in other words: its rows are taken.
COPIED = {
    "other spaces": (
        "(session_id  TEXT PRIMARY KEY, uuid TEXT NOT NULL,\n  created_at INTEGER NOT NULL)"
    ),
    "names in quotes": (
        '("session_id" TEXT PRIMARY KEY, "uuid" TEXT NOT NULL, "created_at" INTEGER NOT NULL)'
    ),
    "a check": (
        "(session_id TEXT PRIMARY KEY, uuid TEXT NOT NULL CHECK (length(hex(uuid)) > 0),"
        " created_at INTEGER NOT NULL)"
    ),
    "on conflict": (
        "(session_id TEXT PRIMARY KEY ON CONFLICT REPLACE, uuid TEXT NOT NULL ON CONFLICT IGNORE,"
        " created_at INTEGER NOT NULL)"
    ),
}
OURS = (
    "CREATE TABLE {0}(session_id TEXT PRIMARY KEY, uuid TEXT NOT NULL, created_at INTEGER NOT NULL)"
)
INDEXES = (
    "CREATE INDEX by_user ON sessions(uuid)",
    "CREATE INDEX some ON sessions(created_at) WHERE length(hex(uuid)) > 1",
    "CREATE UNIQUE INDEX words ON sessions(upper(session_id))",
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset`, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        yield bench


def planted(bench: Bench, text: str) -> str:
    """The id of the set, whose `sessions` has what a script makes of it."""
    set_id = bench.service.catalogue.latest(bench.service.own_sets.ours())
    assert set_id is not None
    plant(bench, set_id.id, "sessions", script(text))
    return set_id.id


def remade(definition: str) -> str:
    """A script that brings the rows of `sessions` into a table of another definition."""
    return (
        "ALTER TABLE sessions RENAME TO former; "
        f"CREATE TABLE sessions{definition}; "
        "INSERT INTO sessions SELECT * FROM former; DROP TABLE former"
    )


def statements(path: Path) -> list[str]:
    """All that the schema of a database has a text for."""
    with closing(connect(path)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return [row[0] for row in found]


def refused(run: Run, named: str) -> None:
    """The run failed before anything live was touched, and says why."""
    assert run.status == "failed"
    assert run.error is not None
    assert (run.error.code, named in run.error.message) == ("schema_differs", True), run.error
    assert "--to DIR" in run.error.hint


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_schema_is_named_and_nothing_live_is_touched(bench: Bench, kind: str) -> None:
    """In place, by id and as the latest, each foreign part is refused by its name."""
    text, named = FOREIGN[kind]
    set_id = planted(bench, text)
    refused(bench.restore(), named)
    refused(bench.restore(set_id), named)
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")
    bench.restored(only="tokens")
    assert bench.generations() == {"tokens": "genset", "sessions": "genlive"}


@pytest.mark.parametrize("kind", ["trigger", "no table"])
def test_a_folder_takes_any_schema(bench: Bench, tmp_path: Path, kind: str) -> None:
    """`--to DIR` writes the file as it is."""
    set_id = planted(bench, FOREIGN[kind][0])
    bench.restored(set_id, to=tmp_path / "target")
    stored = bench.folder / "planted-sessions.db"
    assert statements(tmp_path / "target" / "sessions.db") == statements(stored)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_drill_does_not_pass_what_a_restore_refuses(bench: Bench, kind: str) -> None:
    """The drill of a set that no restore in place takes fails with the same words."""
    text, named = FOREIGN[kind]
    planted(bench, text)
    refused(bench.service.drill.begin().execute(), named)


@pytest.mark.parametrize("kind", FOREIGN)
def test_verify_does_not_prove_what_a_restore_refuses(bench: Bench, kind: str) -> None:
    """Verify names the part, and from then on the set protects nothing."""
    text, named = FOREIGN[kind]
    set_id = planted(bench, text)
    run = bench.verify(set_id)
    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert named in run.error.message
    assert not bench.service.catalogue.get(set_id).protects


@pytest.mark.parametrize("kind", ["trigger", "no table", "column"])
def test_a_start_does_not_install_a_foreign_schema(bench: Bench, kind: str) -> None:
    """Restore-on-empty stops by name, and leaves the place empty."""
    planted(bench, FOREIGN[kind][0])
    bring_into("missing", bench.sessions)
    with pytest.raises(DatabaseMissing, match=FOREIGN[kind][1]):
        bench.service.restore_on_empty.restore_missing()
    assert not bench.sessions.exists()


@pytest.mark.parametrize("kind", ["trigger", "no table", "column"])
def test_a_foreign_schema_in_an_object_of_the_old_scripts_is_refused(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    """No manifest describes it; its file is looked at before anything live is touched."""
    legacy(bench, tmp_path, FOREIGN[kind][0])
    bench.write("genlive")
    refused(bench.restore("legacy-2025-07-04", accept_unsigned=True), FOREIGN[kind][1])
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_an_object_of_the_old_scripts_is_welcome(bench: Bench, tmp_path: Path, mode: str) -> None:
    """A database of the time before versions were counted comes back with all its rows."""
    text = f"{remade(COPIED['other spaces'])}; PRAGMA user_version=0; PRAGMA journal_mode={mode}"
    bench.write("genold")
    legacy(bench, tmp_path, text)
    bench.write("genlive")
    bench.restored("legacy-2025-07-04", accept_unsigned=True)
    assert bench.generations() == {"tokens": "genlive", "sessions": "genold"}
    assert statements(bench.sessions) == [OURS.format("sessions")]


def legacy(bench: Bench, tmp_path: Path, text: str) -> None:
    """Store the live `sessions`, changed by a script, as the old scripts did."""
    path = tmp_path / "legacy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        with closing(connect(bench.sessions)) as live:
            live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        copy.executescript(text)
    bench.store.put(f"{PREFIX}sessions_2025-07-04.db", io.BytesIO(path.read_bytes()), {})


@pytest.mark.parametrize("kind", COPIED)
def test_the_rows_of_a_schema_in_other_words_come_into_one_of_ours(bench: Bench, kind: str) -> None:
    """What other code has made with the same columns is welcome; only its rows are taken."""
    set_id = planted(bench, remade(COPIED[kind]))
    assert bench.service.drill.begin().execute().status == "succeeded"
    assert bench.verify(set_id).status == "succeeded"
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    assert statements(bench.sessions) == [OURS.format("sessions")]


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_too_many_does_not_come_along(bench: Bench, index: str) -> None:
    """It holds no data, and its expressions never run in the application."""
    planted(bench, index)
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    assert statements(bench.sessions) == [OURS.format("sessions")]


def test_every_value_is_copied_as_it_is_stored(bench: Bench) -> None:
    """Types, texts that are no UTF-8, and the order of the rows stay; so does the version."""
    values = (
        "DELETE FROM sessions;"
        "INSERT INTO sessions VALUES ('genset-z', x'00ff', 1), (x'ff00', 'a' || char(0) || 'b', 2),"
        " ('genset-a', CAST(x'fffe41' AS TEXT), 9223372036854775807), (NULL, 'ä', 1.5)"
    )
    planted(bench, f"{remade(COPIED['other spaces'])}; {values}")
    bench.restored()
    assert values_of(bench.sessions) == values_of(bench.folder / "planted-sessions.db")
    with closing(connect(bench.sessions)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def values_of(path: Path) -> list[tuple[object, ...]]:
    """The values of all rows of `sessions`, in the order of their rowids, with their types."""
    with closing(connect(path)) as connection:
        return connection.execute(
            "SELECT typeof(session_id), hex(session_id), typeof(uuid), hex(uuid),"
            " typeof(created_at), hex(created_at) FROM sessions ORDER BY rowid"
        ).fetchall()


def test_a_row_that_is_too_large_is_refused(bench: Bench) -> None:
    """Rows are copied up to a megabyte, which no session and no token has."""
    large = "UPDATE sessions SET uuid = printf('%.*c', 1100000, 'x')"
    planted(bench, f"{remade(COPIED['other spaces'])}; {large}")
    refused(bench.restore(), "has a row of more than 1,048,576 bytes")
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_row_that_is_large_is_copied(bench: Bench) -> None:
    """Up to the limit, rows of other code are welcome."""
    large = "UPDATE sessions SET uuid = printf('%.*c', 1040000, 'x') WHERE session_id LIKE '%1'"
    planted(bench, f"{remade(COPIED['other spaces'])}; {large}")
    bench.restored()
    assert values_of(bench.sessions) == values_of(bench.folder / "planted-sessions.db")


def test_a_set_of_ours_is_installed_as_it_is(bench: Bench) -> None:
    """The statistics of ANALYZE make no difference, and stay."""
    planted(bench, "ANALYZE")
    bench.restored()
    with closing(connect(bench.sessions)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (12,)


def test_what_only_calls_itself_as_sqlite_does_is_not_taken(bench: Bench) -> None:
    """A table `sqlite_stat1` with an expression, which SQLite reads at each opening, is dropped."""
    planted(
        bench,
        "ANALYZE; PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql ="
        " 'CREATE TABLE sqlite_stat1(tbl,idx,stat,more AS (upper(tbl)))'"
        " WHERE name = 'sqlite_stat1'",
    )
    bench.restored()
    assert generation_of(bench.sessions) == "genset"
    assert statements(bench.sessions) == [OURS.format("sessions")]


def test_a_local_copy_is_looked_at_too(bench: Bench) -> None:
    """What a host kept of a set is compared as what the store has is."""
    set_id = planted(bench, FOREIGN["trigger"][0])
    copy = bench.directory.copy_of(set_id, "sessions")
    copy.parent.mkdir(parents=True)
    shutil.copyfile(bench.folder / "planted-sessions.db", copy)
    bench.watched.calls.clear()
    refused(bench.restore(only="sessions"), "has the trigger steal")
    assert not any("sessions" in key for key in bench.watched.keys("get"))


def test_an_undo_brings_back_exactly_what_was_there(bench: Bench) -> None:
    """Its copies are this host's own: an undo does not ask what schema they have."""
    trigger = FOREIGN["trigger"][0]
    with closing(connect(bench.sessions)) as connection:
        connection.execute(trigger)
    bench.restored()
    assert statements(bench.sessions) == [OURS.format("sessions")]
    bench.undo()
    assert statements(bench.sessions) == [OURS.format("sessions"), trigger]


def test_a_backup_of_a_foreign_schema_is_suspect(bench: Bench) -> None:
    """It is stored, and does not count as protection, because no restore in place takes it."""
    with closing(connect(bench.sessions)) as connection:
        connection.execute(FOREIGN["trigger"][0])
    made = bench.made()
    assert made.suspect is not None
    assert "sessions has the trigger steal" in made.suspect[0]
    assert not made.protects
    refused(bench.restore(made.id), "has the trigger steal")


def test_the_last_schema_of_an_extra_source_is_compared(tmp_path: Path) -> None:
    """The plan names an extra source whose schema is not that of the last other set."""
    extra = tmp_path / "orders.db"
    with closing(sqlite3.connect(extra, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE orders(number)")
    settings = {"BACKUP_EXTRA_SOURCES": f"orders={extra}"}
    with open_bench(tmp_path, settings=settings) as bench:
        bench.write("genset")
        first = bench.made().id
        bench.service.clock.advance(days=1)  # type: ignore[attr-defined]
        second = bench.made().id
        assert bench.service.restore.plan(second).warnings == ()
        plant(bench, second, "orders", script("CREATE TABLE more(x)"))
        (warning,) = bench.service.restore.plan(second).warnings
        assert warning.code == "schema_changed"
        assert warning.message.endswith(f"than in the last other set, {first}")
        assert f"restore {second} --only orders --to DIR" in warning.hint


def test_a_newer_version_is_named_as_that(bench: Bench) -> None:
    """A set of a newer version is refused as that, before its schema is compared."""
    set_id = planted(bench, "CREATE TABLE newer(x); PRAGMA user_version=9")
    with pytest.raises(RestoreBlocked) as blocked:
        bench.restore(set_id)
    assert blocked.value.code == "schema_newer"


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_application_cannot_open_is_not_installed(
    bench: Bench, tmp_path: Path, source: str
) -> None:
    """A set of an older version whose migration fails is refused before anything is touched."""
    known = dict(bench.service.config.schemas)[source]
    scripts = (*known.migrations, "SELECT * FROM no_such_table")
    later = KnownSchema(scripts, lambda path: Database(path, scripts).close())
    with open_bench(tmp_path, settings={}, schemas=((source, later),)) as newer:
        run = newer.restore()
        assert run.error is not None
        assert "no_such_table" in run.error.message
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_set_of_an_older_version_is_migrated_before_it_is_installed(
    bench: Bench, tmp_path: Path
) -> None:
    """What the application would do with it at once is done where it can still be refused."""
    known = dict(bench.service.config.schemas)["sessions"]
    scripts = (*known.migrations, "ALTER TABLE sessions ADD COLUMN note TEXT")
    later = KnownSchema(scripts, lambda path: Database(path, scripts).close())
    with open_bench(
        tmp_path, settings={}, schemas=(("sessions", later),), schema_versions=()
    ) as newer:
        newer.restored()
        newer.restored()  # what is a set of the old version still
        with closing(connect(newer.sessions)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (2,)
            assert connection.execute("SELECT count(note) FROM sessions").fetchone() == (0,)
