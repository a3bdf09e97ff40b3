"""`Database`: private files, migrations, and transactions on the file that is there now."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shared.databases.sqlite import Database
from shared.databases.translation import translate
from shared.errors import (
    DatabaseCorrupt,
    DatabaseDiskFault,
    DatabaseEmpty,
    DatabaseError,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseNotSqlite,
    DatabaseSchemaMismatch,
    DatabaseUnreadable,
    DiskFull,
)
from shared.files import create_private_file

ROOT = Path(__file__).parents[3]
FIRST = "CREATE TABLE IF NOT EXISTS rows(name TEXT PRIMARY KEY)"
SECOND = "ALTER TABLE rows ADD COLUMN size INTEGER; CREATE INDEX by_size ON rows(size);"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "rows.db"


@contextmanager
def opened(path: Path, *migrations: str, busy_timeout: float = 5) -> Iterator[Database]:
    database = Database(path, migrations or (FIRST,), busy_timeout=busy_timeout)
    try:
        yield database
    finally:
        database.close()


def add(database: Database, name: str) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO rows(name) VALUES (?)", (name,))


def names_in(database: Database) -> list[str]:
    with database.reading() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM rows ORDER BY name")]


def plain_names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM rows ORDER BY name")]


def make_plain(path: Path, *names: str) -> None:
    """A database of the same tables, made by other code, in rollback-journal mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(FIRST)
        connection.executemany("INSERT INTO rows VALUES (?)", [(name,) for name in names])
        connection.commit()


def modes_below(directory: Path) -> dict[str, int]:
    return {found.name: stat.S_IMODE(found.stat().st_mode) for found in directory.iterdir()}


# --- files ------------------------------------------------------------------------------


def test_files_are_private_from_the_start(path: Path) -> None:
    """Database, WAL and shared memory are 0600 whatever the umask; new directories are 0700."""
    deep = path.parent / "deeper" / "rows.db"
    umask = os.umask(0)
    try:
        with opened(deep) as database:
            add(database, "a")
            modes = modes_below(deep.parent)
    finally:
        os.umask(umask)

    assert modes == {"rows.db": 0o600, "rows.db-wal": 0o600, "rows.db-shm": 0o600}
    assert stat.S_IMODE(deep.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    """A 0644 database of other code is 0600 after opening, and so is its WAL."""
    make_plain(path, "a")
    path.chmod(0o644)

    with opened(path) as database:
        add(database, "b")
        modes = modes_below(path.parent)

    assert set(modes.values()) == {0o600}


def test_the_mode_of_a_directory_that_is_there_is_kept(path: Path) -> None:
    """Only new directories are 0700: an existing one may be shared with others on purpose."""
    path.parent.mkdir(mode=0o755)

    with opened(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_the_database_is_in_wal_mode(path: Path) -> None:
    """Readers, such as a backup, and writers do not wait for one another."""
    with opened(path) as database, opened(path) as other, database.reading() as reader:
        assert reader.execute("SELECT count(*) FROM rows").fetchone() == (0,)
        add(other, "written meanwhile")
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_creating_a_file_leaves_one_that_is_there(path: Path) -> None:
    """`create_private_file` tells whether it made the file, and never empties one."""
    assert create_private_file(path) is True
    path.write_bytes(b"content")
    assert create_private_file(path) is False

    assert path.read_bytes() == b"content"
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_eight_threads_that_create_one_file_make_it_once(path: Path) -> None:
    """Racing creators agree on one file and leave nothing beside it."""
    start = threading.Barrier(8)

    def create(_: int) -> bool:
        start.wait()
        return create_private_file(path)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))

    assert made.count(True) == 1
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_place_that_cannot_be_written_is_unreadable(tmp_path: Path) -> None:
    """A path below a file raises `DatabaseUnreadable`."""
    (tmp_path / "file").touch()

    with pytest.raises(DatabaseUnreadable, match="cannot be created"):
        Database(tmp_path / "file" / "rows.db", (FIRST,))


def test_a_directory_in_place_of_the_file_is_unreadable(path: Path) -> None:
    """A path that names a directory is told as such an error, not as an empty database."""
    path.mkdir(parents=True)

    with pytest.raises(DatabaseError, match=str(path)):
        Database(path, (FIRST,))


# --- migrations -------------------------------------------------------------------------


def schema(database: Database) -> tuple[int, list[str]]:
    with database.reading() as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        columns = [row[1] for row in connection.execute("PRAGMA table_info(rows)")]
    return version, columns


def test_a_new_file_gets_every_migration(path: Path) -> None:
    """From nothing, all scripts run in order, and the version is their number."""
    with opened(path, FIRST, SECOND) as database:
        assert schema(database) == (2, ["name", "size"])


def test_an_older_file_gets_the_newer_migrations_only(path: Path) -> None:
    """A file at version 1 gets script 2, and keeps its rows; opening again changes nothing."""
    with opened(path, FIRST) as database:
        add(database, "kept")

    for _ in range(2):
        with opened(path, FIRST, SECOND) as database:
            assert schema(database) == (2, ["name", "size"])
            assert names_in(database) == ["kept"]


def test_a_database_of_other_code_is_taken_over(path: Path) -> None:
    """The same tables at version 0 are kept with their rows, and brought up to date."""
    make_plain(path, "a", "b")

    with opened(path, FIRST, SECOND) as database:
        assert schema(database) == (2, ["name", "size"])
        assert names_in(database) == ["a", "b"]


def test_a_newer_schema_is_refused(path: Path) -> None:
    """A file of a newer program is refused with both versions, and not touched."""
    with opened(path, FIRST, SECOND) as database:
        add(database, "kept")

    with pytest.raises(DatabaseSchemaMismatch, match="version 2, this program supports 1"):
        Database(path, (FIRST,))

    with opened(path, FIRST, SECOND) as database:
        assert names_in(database) == ["kept"]


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    """A script that breaks half-way is undone, with those before it in the same opening."""
    with opened(path, FIRST) as database:
        add(database, "kept")

    with pytest.raises(DatabaseError):
        Database(path, (FIRST, SECOND, "CREATE TABLE more(x); SELECT * FROM no_such_table"))

    with opened(path, FIRST) as database:
        assert schema(database) == (1, ["name"])
        assert names_in(database) == ["kept"]


def test_processes_that_open_a_new_file_at_once_agree(path: Path) -> None:
    """Six processes that create, migrate and write the same file lose no row."""
    program = (
        "import sys; from pathlib import Path; from shared.databases.sqlite import Database\n"
        f"database = Database(Path(sys.argv[1]), ({FIRST!r}, {SECOND!r}))\n"
        "for number in range(20):\n"
        "    with database.transaction() as connection:\n"
        "        name = f'{sys.argv[2]}-{number:02}'\n"
        "        connection.execute('INSERT INTO rows(name) VALUES (?)', (name,))\n"
        "database.close()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(who)], cwd=ROOT)
        for who in range(6)
    ]

    assert [process.wait(timeout=60) for process in processes] == [0] * 6
    assert plain_names(path) == [f"{who}-{number:02}" for who in range(6) for number in range(20)]


# --- transactions -----------------------------------------------------------------------


def test_a_transaction_commits_when_the_block_ends(path: Path) -> None:
    """What was written is there for another connection at once."""
    with opened(path) as database, opened(path) as other:
        add(database, "a")

        assert names_in(other) == ["a"]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_a_transaction_rolls_back_when_the_block_raises(path: Path, error: BaseException) -> None:
    """The exception comes out as it was, nothing is kept, and the next transaction works."""

    def write_and_raise(database: Database) -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO rows VALUES ('lost')")
            raise error

    with opened(path) as database:
        with pytest.raises(type(error)) as caught:
            write_and_raise(database)
        add(database, "kept")

        assert caught.value is error
        assert names_in(database) == ["kept"]


def test_reading_writes_nothing(path: Path) -> None:
    """A write inside `reading` is not kept, and a reader ends its transaction also by raising."""

    def read_and_raise(database: Database) -> None:
        with database.reading() as connection:
            connection.execute("INSERT INTO rows VALUES ('lost')")
            raise KeyError

    with opened(path) as database:
        with pytest.raises(KeyError):
            read_and_raise(database)
        with database.reading() as connection:
            connection.execute("INSERT INTO rows VALUES ('lost')")

        assert names_in(database) == []


def test_many_threads_lose_nothing(path: Path) -> None:
    """Eight threads over one `Database`, some of them rolling back, keep what was committed."""

    def work(number: int, database: Database) -> None:
        try:
            with database.transaction() as connection:
                connection.execute("INSERT INTO rows VALUES (?)", (f"{number:03}",))
                if number % 10 == 9:
                    raise KeyError
        except KeyError:
            pass
        assert f"{number:03}" in names_in(database) or number % 10 == 9

    with opened(path) as database:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: work(number, database), range(200)))

        assert names_in(database) == [f"{n:03}" for n in range(200) if n % 10 != 9]


def test_closing_twice_is_allowed_and_ends_the_use(path: Path) -> None:
    """After `close`, a transaction is a `DatabaseError` and not a silent reopening."""
    with opened(path) as database:
        database.close()

        with pytest.raises(DatabaseError):
            add(database, "a")


# --- the file under the path changes ----------------------------------------------------


def replace_with(path: Path, *names: str) -> None:
    """What a restore does: a new file beside, no old WAL left to be applied to it, a rename."""
    beside = path.with_suffix(".new")
    make_plain(beside, *names)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    beside.replace(path)


def test_a_replaced_file_is_noticed_at_the_next_transaction(path: Path) -> None:
    """After a rename over the file, reads and writes go to the new one, as with no restart."""
    with opened(path) as database:
        add(database, "old")
        replace_with(path, "restored")

        assert names_in(database) == ["restored"]
        add(database, "new")
        assert names_in(database) == ["new", "restored"]

    assert plain_names(path) == ["new", "restored"]


def test_a_replaced_file_is_noticed_by_a_write_too(path: Path) -> None:
    """A write that comes first after the rename lands in the new file."""
    with opened(path) as database:
        add(database, "old")
        replace_with(path)
        add(database, "new")

    assert plain_names(path) == ["new"]


def test_a_replacement_is_brought_up_to_date(path: Path) -> None:
    """A restored file of an older schema is migrated when it is reopened, and made private."""
    with opened(path, FIRST, SECOND) as database:
        replace_with(path, "restored")
        path.chmod(0o644)

        assert schema(database) == (2, ["name", "size"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_replaced_between_asking_and_beginning_is_noticed(path: Path) -> None:
    """A rename while a transaction waits for its lock: the row lands in the new file."""
    make_plain(path)
    with opened(path) as database:
        asked = threading.Event()
        database._connection.set_trace_callback(lambda sql: asked.set())
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(1) as pool:
                outcome = pool.submit(add, database, "new")
                assert asked.wait(timeout=10)
                replace_with(path, "restored")
                holder.execute("ROLLBACK")
                outcome.result(timeout=10)

        assert names_in(database) == ["new", "restored"]


def test_a_file_that_vanished_is_an_error_and_is_not_made_anew(path: Path) -> None:
    """Without its file a transaction raises `DatabaseMissing`; no empty database takes over."""
    with opened(path) as database:
        add(database, "a")
        kept = path.with_suffix(".kept")
        path.rename(kept)

        with pytest.raises(DatabaseMissing, match="no longer exists"):
            add(database, "b")
        with pytest.raises(DatabaseMissing, match="no longer exists"):
            names_in(database)
        assert not path.exists()

        kept.rename(path)
        add(database, "c")
        assert names_in(database) == ["a", "c"]


def test_a_file_that_vanishes_while_it_is_reopened_is_not_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone between the look and the opening: an error again, and still no empty file."""
    with opened(path) as database:
        replace_with(path, "restored")
        connect = sqlite3.connect

        def connect_too_late(*args: object, **kwargs: object) -> sqlite3.Connection:
            path.unlink()
            return connect(*args, **kwargs)  # type: ignore[call-overload, no-any-return]

        monkeypatch.setattr(sqlite3, "connect", connect_too_late)
        with pytest.raises(DatabaseError):
            add(database, "lost")
        monkeypatch.undo()

        assert not path.exists()
        make_plain(path, "restored")
        assert names_in(database) == ["restored"]


def test_a_bad_replacement_does_not_stick(path: Path) -> None:
    """When the wrong file was put in place and the right one comes back, work goes on."""
    with opened(path) as database:
        add(database, "a")
        kept = path.parent.with_name("kept")
        path.parent.rename(kept)
        path.parent.mkdir()
        path.write_bytes(b"this is no database" * 100)

        with pytest.raises(DatabaseNotSqlite):
            add(database, "b")

        path.unlink()
        path.parent.rmdir()
        kept.rename(path.parent)
        add(database, "c")
        assert names_in(database) == ["a", "c"]


def test_two_hundred_reopenings_leak_no_descriptor(path: Path) -> None:
    """After 200 replacements, the process has as many files open as before."""
    with opened(path) as database:
        replace_with(path)
        add(database, "a")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(200):
            replace_with(path)
            add(database, f"{number}")

        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert names_in(database) == ["199"]


# --- errors -----------------------------------------------------------------------------

PRIMARY_CODES = sorted(
    {
        value & 0xFF
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_") and isinstance(value, int) and name not in ("SQLITE_OK",)
    }
    & set(range(1, 27))
)
EXPECTED = {
    sqlite3.SQLITE_BUSY: DatabaseLocked,
    sqlite3.SQLITE_LOCKED: DatabaseLocked,
    sqlite3.SQLITE_NOTADB: DatabaseNotSqlite,
    sqlite3.SQLITE_CORRUPT: DatabaseCorrupt,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnreadable,
    sqlite3.SQLITE_PERM: DatabaseUnreadable,
    sqlite3.SQLITE_READONLY: DatabaseUnreadable,
    sqlite3.SQLITE_FULL: DiskFull,
}


def test_the_primary_codes_are_all_looked_at() -> None:
    """The list that the next test runs over has the 26 primary codes of errors."""
    assert len(PRIMARY_CODES) == 26


@pytest.mark.parametrize("code", PRIMARY_CODES)
@pytest.mark.parametrize("extended", [0, 1, 2])
def test_every_result_code_is_translated(code: int, extended: int) -> None:
    """Each primary code, and its extended ones, becomes a `DatabaseError` that names the file."""
    error = sqlite3.OperationalError("text of SQLite")
    error.sqlite_errorcode = code | extended << 8
    error.sqlite_errorname = f"SQLITE_{code}"

    found = translate(error, "source rows (./rows.db)")

    is_read = code == sqlite3.SQLITE_IOERR and extended in (1, 2)
    expected = DatabaseDiskFault if is_read else EXPECTED.get(code, DatabaseError)
    assert type(found) is expected
    assert found.message.startswith("source rows (./rows.db)")
    assert found.hint


@pytest.mark.parametrize(
    "kind",
    [
        sqlite3.Error,
        sqlite3.DatabaseError,
        sqlite3.IntegrityError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
    ],
)
def test_an_error_without_a_code_is_translated(kind: type[sqlite3.Error]) -> None:
    """Errors that Python's module raises itself have no code, and become `DatabaseError`."""
    found = translate(kind("text"), "rows.db")

    assert type(found) is DatabaseError
    assert kind.__name__ in found.message


def test_an_error_inside_a_transaction_is_translated(path: Path) -> None:
    """A statement that SQLite refuses raises `DatabaseError` from the original, and rolls back."""

    def add_twice(database: Database) -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO rows VALUES ('a')")
            connection.execute("INSERT INTO rows VALUES ('a')")

    with opened(path) as database:
        with pytest.raises(DatabaseError, match="SQLITE_CONSTRAINT") as caught:
            add_twice(database)

        assert caught.value.__cause__ is None  # SQLite's own text may quote a row
        assert names_in(database) == []


def test_a_lock_held_too_long_is_a_named_error(path: Path) -> None:
    """Locked for longer than the busy timeout raises `DatabaseLocked`; later it works again."""
    with opened(path, busy_timeout=0.05) as database, opened(path) as other:
        with other.transaction(), pytest.raises(DatabaseLocked, match="locked"):
            add(database, "a")
        add(database, "b")

        assert names_in(database) == ["b"]


def test_a_lock_held_for_less_is_waited_for(path: Path) -> None:
    """Within the busy timeout a writer waits, and nobody hears of it."""
    with opened(path) as database, closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        asked = threading.Event()
        database._connection.set_trace_callback(lambda sql: asked.set())
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(add, database, "a")
            assert asked.wait(timeout=10)
            holder.execute("ROLLBACK")
            outcome.result(timeout=10)

        assert names_in(database) == ["a"]


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda path: path.write_bytes(b"not a database" * 1000), DatabaseNotSqlite),
        (damage_pages, DatabaseCorrupt),
    ],
)
def test_a_spoiled_file_is_a_named_error(
    path: Path, spoil: Callable[[Path], None], expected: type[DatabaseError]
) -> None:
    """Foreign bytes and a damaged body each raise their own error, and are left as they are."""
    with opened(path) as database:
        for number in range(500):
            add(database, f"a rather long name, so that there are several pages {number}")
    spoil(path)
    spoiled = path.read_bytes()

    with pytest.raises(expected), opened(path) as database:
        names_in(database)

    assert path.read_bytes() == spoiled


def test_a_file_of_zero_bytes_is_not_opened(path: Path) -> None:
    """What was committed to the `-wal` beside an emptied file stays there."""
    with opened(path) as database:
        add(database, "committed")
        wal = path.with_name(f"{path.name}-wal")
        kept = wal.read_bytes()
        assert kept
        os.truncate(path, 0)

        with pytest.raises(DatabaseEmpty, match="zero bytes"):
            Database(path, (FIRST,))

        assert wal.read_bytes() == kept


def test_a_new_database_is_never_seen_empty(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its name when it is whole, so that zero bytes always mean damage."""
    sizes = []
    link = os.link

    def watched(source: Path, target: Path) -> None:
        sizes.append(Path(source).stat().st_size)
        assert not path.exists()
        link(source, target)

    monkeypatch.setattr(os, "link", watched)
    with opened(path):
        pass

    assert [size > 0 for size in sizes if size] == [True]
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("begin", ["reading", "transaction"])
def test_content_of_another_version_is_migrated_before_it_is_used(path: Path, begin: str) -> None:
    """What a restore puts into the open file is brought up to date, or refused by name."""
    older = path.with_name("older.db")
    with opened(older, FIRST) as database:
        add(database, "restored")
    with opened(path, FIRST, SECOND) as database:
        put_into(path, older)
        with getattr(database, begin)() as connection:
            assert connection.execute("SELECT name, size FROM rows").fetchall() == [
                ("restored", None)
            ]
        assert schema(database) == (2, ["name", "size"])

        newer = path.with_name("newer.db")
        Database(newer, (FIRST, SECOND, "CREATE TABLE more(x)")).close()
        put_into(path, newer)
        with (
            pytest.raises(DatabaseSchemaMismatch, match="version 3, this program supports 2"),
            getattr(database, begin)(),
        ):
            pass
        put_into(path, older)
        assert names_in(database) == ["restored"]


def put_into(path: Path, other: Path) -> None:
    """Replace the content of a database, whose file stays, by that of another."""
    with closing(sqlite3.connect(other)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
