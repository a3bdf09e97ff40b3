"""Databases that may be lost: they are made anew, and what was damaged is kept beside them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from backups.host.records import open_records
from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.renewal import moved_aside, one_process_at_a_time
from shared.databases.sessions import SessionStorage
from shared.databases.sqlite import Database
from shared.databases.tokens import TokenStorage
from shared.errors import (
    DatabaseCorrupt,
    DatabaseEmpty,
    DatabaseError,
    DatabaseMissing,
    DatabaseNotSqlite,
    DatabaseSchemaMismatch,
    DatabaseUnreadable,
)
from tests.support.installation import TOKEN_ENCRYPTION_KEY

ROOT = Path(__file__).parents[3]
ROWS = "CREATE TABLE rows(name TEXT)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "rows.db"


class Renewals(list[tuple[type[DatabaseError], Path | None]]):
    """What a database said each time that it was made anew."""

    def note(self, error: DatabaseError, aside: Path | None) -> None:
        """Keep what was said."""
        self.append((type(error), aside))


@contextmanager
def opened(path: Path, renewals: Renewals | None = None) -> Iterator[Database]:
    renewals = Renewals() if renewals is None else renewals
    with closing(Database(path, (ROWS,), renewed=renewals.note)) as database:
        yield database


def add(database: Database, name: str) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO rows VALUES (?)", (name,))


def names_in(database: Database) -> list[str]:
    with database.reading() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM rows ORDER BY name")]


def fill(path: Path) -> None:
    """Several pages of rows, all in the main file."""
    with opened(path) as database, database.transaction() as connection:
        connection.executemany(
            "INSERT INTO rows VALUES (?)", [(f"row {number}" * 20,) for number in range(500)]
        )


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x99" * (len(content) - 4096)
    path.write_bytes(content)


SPOILED: list[tuple[Callable[[Path], object], type[DatabaseError]]] = [
    (lambda path: os.truncate(path, 0), DatabaseEmpty),
    (lambda path: path.write_bytes(b"no database" * 1000), DatabaseNotSqlite),
    (damage_pages, DatabaseCorrupt),
]


@pytest.mark.parametrize("what", ["", "-wal", "-shm", "all"])
def test_a_file_that_disappears_is_made_anew_under_the_running_program(
    path: Path, what: str
) -> None:
    """The next transaction has an empty database, whichever of its files are gone with it."""
    renewals = Renewals()
    with opened(path, renewals) as database:
        add(database, "former")
        for suffix in ("-wal", "-shm", ""):
            if what in ("all", suffix) or not suffix:
                path.with_name(path.name + suffix).unlink()

        assert names_in(database) == []
        add(database, "new")
        assert names_in(database) == ["new"]

    assert [kind for kind, _ in renewals] == [DatabaseMissing]
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("SELECT name FROM rows").fetchall() == [("new",)]


def test_a_wal_without_its_file_is_not_applied_to_the_new_one(path: Path) -> None:
    """Rows of the former database do not come up in the new one, and are kept beside it."""
    with opened(path) as database:
        add(database, "former")
        kept = path.with_name("rows.db-wal").read_bytes()
        assert kept
        path.unlink()
        with opened(path) as other:
            assert names_in(other) == []

        (wal,) = (found for found in moved_aside(path) if found.name.endswith("-wal"))
        assert wal.read_bytes() == kept


@pytest.mark.parametrize(("spoil", "expected"), SPOILED)
def test_a_damaged_file_is_moved_aside_at_the_start(
    path: Path, spoil: Callable[[Path], object], expected: type[DatabaseError]
) -> None:
    """Its bytes are kept as they are; the program works on a new file and reports it once."""
    fill(path)
    spoil(path)
    spoiled = path.read_bytes()
    renewals = Renewals()

    with opened(path, renewals) as database:
        try:
            names_in(database)
        except DatabaseCorrupt:
            assert expected is DatabaseCorrupt  # it is found by who reads it, and only then
        assert names_in(database) == []
        add(database, "new")

    with opened(path, renewals) as database:
        assert names_in(database) == ["new"]
    ((kind, aside),) = renewals
    assert kind is expected
    assert aside is not None
    assert aside.read_bytes() == spoiled
    assert aside in moved_aside(path)


@pytest.mark.parametrize("spoil", [spoil for spoil, _ in SPOILED])
def test_a_file_that_is_damaged_under_the_running_program_is_moved_aside(
    path: Path, spoil: Callable[[Path], object]
) -> None:
    """At the latest the second use after the damage is on a new file."""
    fill(path)
    renewals = Renewals()
    with opened(path, renewals) as database:
        spoil(path)
        with suppress(DatabaseCorrupt, DatabaseNotSqlite):
            names_in(database)

        assert names_in(database) == []
        add(database, "new")
        assert names_in(database) == ["new"]
    assert len(renewals) == 1
    assert moved_aside(path)


def test_another_process_goes_on_with_the_new_file(path: Path) -> None:
    """Of two that have the lost file open, one makes it anew, and both write to that one."""
    first, second = Renewals(), Renewals()
    with opened(path, first) as one, opened(path, second) as other:
        add(one, "former")
        path.unlink()

        add(one, "of the first")
        add(other, "of the second")

        assert names_in(one) == names_in(other) == ["of the first", "of the second"]
    assert len([*first, *second]) == 1
    with opened(path) as database:
        assert names_in(database) == ["of the first", "of the second"]


def test_processes_that_find_a_damaged_file_at_once_agree(path: Path) -> None:
    """Each of four has its row in the one new file, and there is one damaged file."""
    fill(path)
    path.write_bytes(b"no database" * 1000)
    script = (
        "import sys; from pathlib import Path; from shared.databases.sqlite import Database\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"database = Database(Path(sys.argv[1]), ({ROWS!r},), renewed=lambda *_: None)\n"
        "with database.transaction() as connection:\n"
        "    connection.execute('INSERT INTO rows VALUES (?)', (sys.argv[2],))\n"
        "database.close()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0

    with opened(path) as database:
        assert names_in(database) == ["0", "1", "2", "3"]
    assert len(moved_aside(path)) == 1


def test_a_file_that_is_moved_aside_while_it_is_opened_is_opened_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that finds the damage first takes the file away between two looks at it."""
    fill(path)
    connect = sqlite3.connect

    def connect_to_what_is_moved(*given: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*given, **named)
        monkeypatch.setattr(sqlite3, "connect", connect)
        path.rename(path.with_name("aside.db"))
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_what_is_moved)
    with opened(path) as database:
        assert names_in(database) == []


def test_who_makes_it_anew_does_so_alone(path: Path) -> None:
    """While one process makes it anew, another that found the same damage waits for it."""
    fill(path)
    path.write_bytes(b"no database" * 1000)

    def open_and_close() -> None:
        with opened(path):
            pass

    with ThreadPoolExecutor(1) as pool:
        with one_process_at_a_time(path.parent):
            waiting = pool.submit(open_and_close)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert moved_aside(path) == []
        waiting.result(timeout=30)

    assert len(moved_aside(path)) == 1


def test_two_damaged_files_are_both_kept(path: Path) -> None:
    """A file that was moved aside is never overwritten by the next, also in the same second."""
    for number in range(3):
        fill(path)
        path.write_bytes(f"no database {number}".encode() * 100)
        with opened(path) as database:
            assert names_in(database) == []

    kept = {found.read_bytes()[:13] for found in moved_aside(path)}
    assert kept == {f"no database {number}".encode() for number in range(3)}


def test_what_cannot_be_opened_for_now_is_used_once_it_can(path: Path) -> None:
    """Until then each transaction raises the reason; no restart is needed."""
    path.parent.write_text("a file in the way")
    with opened(path) as database:
        for _ in range(2):
            with pytest.raises(DatabaseUnreadable, match="rows"):
                names_in(database)

        path.parent.unlink()

        assert names_in(database) == []


def test_a_newer_schema_is_refused_and_kept(path: Path) -> None:
    """What a newer program wrote is not damage: the start stops, and the file stays."""
    with closing(Database(path, (ROWS, "CREATE TABLE more(x)"))):
        pass

    with pytest.raises(DatabaseSchemaMismatch), opened(path):
        pass

    assert moved_aside(path) == []


def of_tokens(path: Path) -> None:
    with closing(TokenStorage(path, TokenCipher((TOKEN_ENCRYPTION_KEY,)))) as storage:
        storage.keys()


def of_sessions(path: Path) -> None:
    with closing(SessionStorage(path, SystemClock())) as storage:
        storage.count()


@pytest.mark.parametrize(
    ("use", "hint"),
    [
        (of_tokens, "restore --only tokens --in-place --yes"),
        (of_sessions, "restore --only sessions --in-place --yes"),
    ],
)
@pytest.mark.parametrize(("spoil", "expected"), SPOILED[:2])
def test_the_hint_is_for_the_database_that_is_damaged(
    tmp_path: Path,
    use: Callable[[Path], None],
    hint: str,
    spoil: Callable[[Path], object],
    expected: type[DatabaseError],
) -> None:
    """No hint replaces other data than what is damaged, and it stays where it is."""
    path = tmp_path / "live.db"
    use(path)
    spoil(path)

    with pytest.raises(expected) as caught:
        use(path)

    assert hint in caught.value.hint
    assert ("restore" in caught.value.hint) is ("restore" in hint)
    assert moved_aside(path) == []


def test_the_hint_for_a_file_that_disappeared_is_for_that_file(tmp_path: Path) -> None:
    """The tokens are restored alone: the live sessions are sound."""
    path = tmp_path / "tokens.db"
    with closing(TokenStorage(path, TokenCipher((TOKEN_ENCRYPTION_KEY,)))) as storage:
        path.unlink()
        with pytest.raises(DatabaseMissing) as caught:
            storage.keys()

    assert "restore --only tokens --in-place --yes" in caught.value.hint


def test_no_hint_about_the_records_names_a_restore(tmp_path: Path) -> None:
    """`runs.db` has no backup: a restore would replace live data that is sound."""
    path = tmp_path / "runs.db"
    with closing(open_records(tmp_path)) as records, records.transaction() as connection:
        connection.executemany(
            "INSERT INTO facts VALUES (?, ?)", [(f"{number}", "x" * 500) for number in range(500)]
        )
    damage_pages(path)

    with closing(open_records(tmp_path)) as records:
        with pytest.raises(DatabaseCorrupt) as caught, records.reading() as connection:
            connection.execute("SELECT * FROM facts").fetchall()
        with records.reading() as connection:
            assert connection.execute("SELECT * FROM facts").fetchall() == []

    assert "restore" not in caught.value.hint
    assert "Move it aside" in caught.value.hint


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_what_is_left_of_a_missing_database_is_not_applied_to_a_new_one(
    path: Path, end: str
) -> None:
    """Also a database that must not be lost begins without the rows of a former one."""
    fill(path)
    left = path.with_name(path.name + end)
    with closing(sqlite3.connect(path, isolation_level=None)) as former:
        former.execute(f"PRAGMA journal_mode={'wal' if end == '-wal' else 'delete'}")
        former.execute("PRAGMA cache_size=1")
        former.execute("BEGIN")
        former.execute("CREATE TABLE stale(x)")
        former.execute("UPDATE rows SET name = 'stale'")
        if end == "-wal":
            former.execute("COMMIT")
        kept = left.read_bytes()
    path.unlink()
    left.write_bytes(kept)

    with closing(Database(path, (ROWS,))) as database:
        assert names_in(database) == []
        with database.reading() as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("rows",)]
    (aside,) = moved_aside(path)
    assert aside.name.endswith(end)
    assert aside.read_bytes() == kept
