"""Tests of `backups.sources.snapshot`."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import pytest

from backups.errors import LinkDangling, RunInterrupted, SnapshotDiffers
from backups.model import Progress, SnapshotFile, Snapshots, Source
from backups.sources import snapshot
from backups.sources.change_watch import ChangeWatch
from backups.sources.checking.inspection import read_facts
from backups.sources.snapshot import take_snapshots
from shared.clock import SystemClock
from shared.errors import (
    AppError,
    DatabaseCorrupt,
    DatabaseEmpty,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseNotSqlite,
    DatabaseUnreadable,
)
from tests.support.clock import FixedClock
from tests.support.databases import connect, count_rows, make_database, make_sources
from tests.support.live_writer import LiveWriter, newest_step
from tests.support.records import INSTANT
from tests.support.snapshot_process import NOBODY, snapshot_in_process
from tests.support.waiting import eventually


def ignore(_: Progress) -> None:
    pass


def take(
    sources: tuple[Source, ...],
    into: Path,
    progress: Callable[[Progress], None] = ignore,
    *,
    busy_timeout: float = 5,
) -> Snapshots:
    """Snapshots in the folder `into`, which is made."""
    into.mkdir()
    clock = SystemClock()
    return take_snapshots(sources, into, clock, progress, busy_timeout=busy_timeout, checked=True)


def one(path: Path, into: Path, *, busy_timeout: float = 5) -> SnapshotFile:
    """The snapshot of one database."""
    (file,) = take((Source(path.stem, path),), into, busy_timeout=busy_timeout).files
    return file


def reading(path: Path) -> sqlite3.Connection:
    """A plain read-only connection, as anybody would open a copy."""
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def damage(path: Path, at: int, length: int = 64) -> None:
    """Overwrite bytes of a database that nobody has open."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * length)


# --- one instant ------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [200, 0], ids=["200 a second", "as fast as it can"])
def test_the_copies_belong_to_one_instant_and_lack_nothing(tmp_path: Path, rate: int) -> None:
    """While another process writes to both in turn, no copy is a step ahead of the other."""
    tokens, sessions = make_sources(tmp_path / "data", rows=2_000, padding=1_000)
    with (
        closing(reading(tokens.path)) as live_tokens,
        closing(reading(sessions.path)) as live_sessions,
        LiveWriter(tokens.path, sessions.path, rate=rate),
    ):
        seen: set[int] = set()
        number = 0
        while number < 30 or len(seen) < 25:
            number += 1
            before = newest_step(live_tokens, "tokens"), newest_step(live_sessions, "sessions")
            taken = take((tokens, sessions), tmp_path / f"copies-{number}")
            steps = []
            for file, table, committed in zip(
                taken.files, ("tokens", "sessions"), before, strict=True
            ):
                with closing(reading(file.path)) as copy:
                    step = newest_step(copy, table)
                assert step >= committed, "a row committed before the call is missing"
                assert file.facts.rows == {table: step}, "a row in the middle is missing"
                assert file.same_instant
                steps.append(step)
            assert steps[0] - steps[1] in (0, 1), "the copies are of two instants"
            seen.add(steps[0])


def test_a_row_committed_a_moment_ago_is_in_the_copy(tmp_path: Path) -> None:
    """Rows that are only in the `-wal` are copied: what a plain `cp` of the file loses."""
    path = tmp_path / "tokens.db"
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE tokens(key TEXT PRIMARY KEY)")
        connection.executemany("INSERT INTO tokens VALUES (?)", [(str(n),) for n in range(100)])
        assert path.stat().st_size <= 4096  # nothing of it is in the main file yet

        file = one(path, tmp_path / "copies")

    assert file.facts.rows == {"tokens": 100}
    assert count_rows(file.path) == 100


def test_what_is_not_committed_is_not_in_the_copy(tmp_path: Path) -> None:
    """A reader's copy never shows half a transaction: the open one is waited for."""
    path = make_database(tmp_path / "tokens.db", rows=3)
    with closing(connect(path)) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO tokens VALUES ('half', 'value', 0)")
        taking = pool.submit(one, path, tmp_path / "copies", busy_timeout=20)
        writer.execute("INSERT INTO tokens VALUES ('whole', 'value', 0)")
        assert not taking.done()
        writer.execute("COMMIT")

        assert taking.result().facts.rows == {"tokens": 5}


def test_the_instant_is_that_of_the_common_read(tmp_path: Path) -> None:
    """The instant is read while all writers stand still, not at the beginning or end."""
    sources = make_sources(tmp_path / "data")
    clock = FixedClock(INSTANT)

    class WatchedClock(FixedClock):
        """A clock that looks whether a writer could write while it is read."""

        could_write: list[bool]

        def now(self) -> datetime:
            self.could_write = [can_write(source.path) for source in sources]
            return clock.now()

    watched = WatchedClock()
    (tmp_path / "copies").mkdir()

    taken = take_snapshots(sources, tmp_path / "copies", watched, ignore)

    assert taken.instant == INSTANT
    assert watched.could_write == [False, False]
    assert all(can_write(source.path) for source in sources)


def can_write(path: Path) -> bool:
    """Whether a writer that does not wait gets the write lock."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def test_writers_go_on_during_the_copying(tmp_path: Path) -> None:
    """From the first copied page on nobody waits, and what is written then is not copied."""
    sources = make_sources(tmp_path / "data", rows=10)
    wrote: list[str] = []

    def write(progress: Progress) -> None:
        if not wrote:
            for source in sources:
                with closing(sqlite3.connect(source.path, timeout=0, isolation_level=None)) as own:
                    own.execute(f"INSERT INTO {source.name} VALUES ('later', 'value', 0)")
                wrote.append(source.name)

    taken = take(sources, tmp_path / "copies", write)

    assert wrote == ["tokens", "sessions"]
    assert [dict(file.facts.rows) for file in taken.files] == [{"tokens": 10}, {"sessions": 10}]
    assert [count_rows(source.path) for source in sources] == [11, 11]


def test_a_busy_database_holds_up_no_other(tmp_path: Path) -> None:
    """While the gate waits for one database, writers of the other commit as they like."""
    tokens, sessions = make_sources(tmp_path / "data", rows=3)
    waits = threading.Event()
    with (
        closing(connect(sessions.path)) as busy,
        closing(connect(tokens.path)) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        busy.execute("BEGIN IMMEDIATE")
        taking = pool.submit(
            take,
            (tokens, sessions),
            tmp_path / "copies",
            lambda _: waits.set(),
            busy_timeout=60,
        )
        assert waits.wait(20)
        for number in range(300):
            writer.execute("INSERT INTO tokens VALUES (?, 'value', 0)", (f"meanwhile-{number}",))
        assert not taking.done()
        busy.execute("ROLLBACK")

        rows = [dict(file.facts.rows) for file in taking.result().files]
    assert rows == [{"tokens": 303}, {"sessions": 3}]


def test_the_gate_does_not_starve_under_constant_writing(tmp_path: Path) -> None:
    """Two writers that never pause, one on each database, do not keep a snapshot from it."""
    sources = make_sources(tmp_path / "data")
    stop = threading.Event()

    def write(source: Source) -> int:
        with closing(sqlite3.connect(source.path, timeout=30, isolation_level=None)) as own:
            own.execute("PRAGMA synchronous=OFF")
            number = 0
            while not stop.is_set():
                number += 1
                own.execute(f"INSERT INTO {source.name} VALUES (?, 'value', 0)", (f"w-{number}",))
            return number

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, source) for source in sources]
        try:
            taken = take(sources, tmp_path / "copies", busy_timeout=30)
        finally:
            stop.set()
        assert all(writer.result() > 0 for writer in writers)
    assert all(file.same_instant for file in taken.files)


# --- the copy ---------------------------------------------------------------------------


def test_a_copy_is_one_self_contained_private_file(tmp_path: Path) -> None:
    """A copy is out of WAL mode and 0600, and opening it leaves nothing beside it."""
    taken = take(make_sources(tmp_path / "data"), tmp_path / "copies")

    for file in taken.files:
        assert file.path.read_bytes()[18:20] == b"\x01\x01"
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
        for connection in (reading(file.path), connect(file.path)):
            with closing(connection):
                assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == [
        "sessions.db",
        "tokens.db",
    ]


def test_a_copy_is_described_as_it_is(tmp_path: Path) -> None:
    """Size, hash, pages, version and row counts are those of the copy and of the source."""
    path = make_database(tmp_path / "tokens.db", rows=500)
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA user_version=7")
        connection.execute('CREATE TABLE "odd ""name"" ü"(a)')
        connection.execute('INSERT INTO "odd ""name"" ü" VALUES (1), (2)')
        connection.execute("CREATE TABLE empty(a) ")
        connection.execute("CREATE TABLE keyed(a PRIMARY KEY) WITHOUT ROWID")
        connection.execute("INSERT INTO keyed VALUES (1)")
        connection.execute("CREATE TABLE counted(a INTEGER PRIMARY KEY AUTOINCREMENT)")
        connection.execute("CREATE VIEW shown AS SELECT * FROM tokens")
        connection.execute("ANALYZE")
        live = read_facts(connection)

    file = one(path, tmp_path / "copies")

    assert file.facts == live
    assert file.facts.rows == {
        "tokens": 500,
        'odd "name" ü': 2,
        "empty": 0,
        "keyed": 1,
        "counted": 0,
    }
    assert file.facts.user_version == 7
    assert (file.source, file.journal_mode, file.same_instant) == ("tokens", "wal", True)
    content = file.path.read_bytes()
    assert file.bytes == len(content) == file.facts.page_size * file.facts.page_count
    assert file.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("page_size", [512, 65536])
def test_a_copy_keeps_the_page_size(tmp_path: Path, page_size: int) -> None:
    """The smallest and the largest page size of SQLite come through."""
    path = make_database(tmp_path / "tokens.db", rows=50, journal_mode="delete")
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL")

    file = one(path, tmp_path / "copies")

    assert file.facts.page_size == page_size
    assert count_rows(file.path) == 50


def test_a_virtual_table_is_copied_and_counted_by_what_it_stores(tmp_path: Path) -> None:
    """A full-text index comes through, whether or not its module can be asked."""
    path = make_database(tmp_path / "tokens.db")
    with closing(connect(path)) as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        connection.execute("INSERT INTO words VALUES ('hello')")

    file = one(path, tmp_path / "copies")

    assert "words" not in file.facts.rows
    assert file.facts.rows["words_content"] == 1
    with closing(reading(file.path)) as copy:
        assert copy.execute("SELECT word FROM words WHERE words MATCH 'hello'").fetchall() == [
            ("hello",)
        ]


def test_the_source_is_left_as_it_was(tmp_path: Path) -> None:
    """Taking a snapshot writes nothing to the database and leaves it in WAL mode."""
    path = make_database(tmp_path / "tokens.db", rows=20)
    before = path.read_bytes()

    one(path, tmp_path / "copies")

    assert path.read_bytes() == before
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_copy_that_is_not_what_was_read_is_refused(tmp_path: Path) -> None:
    """A disk that does not keep what was written to it is found out by comparing the facts."""
    path = make_database(tmp_path / "tokens.db")

    def spoil(progress: Progress) -> None:
        assert progress.done == progress.total
        with (tmp_path / "copies" / "tokens.db").open("r+b") as file:
            file.seek(24)
            file.write(b"\1\2\3\4")  # the change counter: what was cached counts no more
            file.seek(60)
            file.write(b"\0\0\0\7")  # user_version

    with pytest.raises(SnapshotDiffers, match="source tokens"):
        take((Source("tokens", path),), tmp_path / "copies", spoil)


def test_progress_is_told_in_bytes_up_to_the_end(tmp_path: Path) -> None:
    """A copy of several steps reports growing bytes, and last of all the whole file."""
    path = make_database(tmp_path / "tokens.db", rows=12_000, padding=1_000)
    told: list[Progress] = []

    (file,) = take((Source("tokens", path),), tmp_path / "copies", told.append).files

    assert len(told) > 2
    assert {(each.stage, each.source, each.total) for each in told} == {
        ("snapshot", "tokens", file.bytes)
    }
    assert [each.done for each in told] == sorted({each.done for each in told})
    assert told[-1].done == file.bytes


def test_a_progress_that_raises_stops_the_copying_and_holds_nothing(tmp_path: Path) -> None:
    """To stop a run its progress raises: that comes out, and a writer can write at once."""
    path = make_database(tmp_path / "tokens.db", rows=12_000, padding=1_000)
    calls = []

    def stop(progress: Progress) -> None:
        calls.append(progress)
        raise RunInterrupted("stop")

    with pytest.raises(RunInterrupted, match="stop"):
        take((Source("tokens", path),), tmp_path / "copies", stop)

    assert len(calls) == 1
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as writer:
        writer.execute("INSERT INTO tokens VALUES ('after', 'value', 0)")
        # Nothing is pinned any more, so that the -wal can be emptied.
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_fifty_snapshots_leave_no_file_open(tmp_path: Path) -> None:
    """Good ones and bad ones close all that they opened."""
    sources = make_sources(tmp_path / "data")
    with closing(connect(make_database(tmp_path / "busy.db"))) as busy:
        busy.execute("BEGIN IMMEDIATE")
        locked = (*sources, Source("busy", tmp_path / "busy.db"))
        for number in range(25):
            if number == 1:
                opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
            take(sources, tmp_path / f"good-{number}")
            with pytest.raises(DatabaseLocked):
                take(locked, tmp_path / f"bad-{number}", busy_timeout=0)

        assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208


# --- sources that cannot be used --------------------------------------------------------


def zero_bytes(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("This is not a database. " * 100)


def short_text(path: Path) -> None:
    path.write_text("no")


def directory(path: Path) -> None:
    path.mkdir()


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.db"))


def damaged_header(path: Path) -> None:
    make_database(path)
    damage(path, 0)


def damaged_page(path: Path) -> None:
    """A page of the table; of an index it would not keep the source out."""
    make_database(path, rows=2_000)
    with closing(connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT max(pageno) FROM dbstat WHERE pagetype = 'leaf'"
            " AND name = (SELECT name FROM sqlite_schema WHERE type = 'table')"
        ).fetchone()
    damage(path, 4096 * (page - 1))


def cut_in_half(path: Path) -> None:
    make_database(path, rows=2_000)
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def missing(path: Path) -> None:
    pass


def missing_folder(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("make", "kind", "code"),
    [
        (missing, DatabaseMissing, "database_missing"),
        (missing_folder, DatabaseMissing, "database_missing"),
        (dangling_link, LinkDangling, "link_dangling"),
        (zero_bytes, DatabaseEmpty, "database_empty"),
        (text, DatabaseNotSqlite, "database_not_sqlite"),
        (short_text, DatabaseNotSqlite, "database_not_sqlite"),
        (damaged_header, DatabaseNotSqlite, "database_not_sqlite"),
        (directory, DatabaseUnreadable, "database_unreadable"),
        (damaged_page, DatabaseCorrupt, "database_corrupt"),
        (cut_in_half, DatabaseCorrupt, "database_corrupt"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_source_that_cannot_be_used_is_an_error_by_name(
    tmp_path: Path, make: Callable[[Path], None], kind: type[AppError], code: str
) -> None:
    """Each way in which a source is bad has its own code, and the message names the source."""
    good = Source("tokens", make_database(tmp_path / "good" / "tokens.db"))
    (tmp_path / "bad").mkdir()
    bad = Source("orders", tmp_path / "bad" / "orders.db")
    make(bad.path)

    with pytest.raises(AppError) as caught:
        take((good, bad), tmp_path / "copies")

    assert type(caught.value) is kind
    assert caught.value.code == code
    assert "source orders" in caught.value.message
    assert str(bad.path) in caught.value.message
    assert caught.value.hint
    assert can_write(good.path)


def test_an_unusable_source_is_not_made_anew(tmp_path: Path) -> None:
    """A missing source stays missing: no empty database appears in its place."""
    with pytest.raises(DatabaseMissing):
        one(tmp_path / "tokens.db", tmp_path / "copies")

    assert [path.name for path in tmp_path.iterdir()] == ["copies"]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_source_locked_for_longer_than_the_timeout_is_named(tmp_path: Path, mode: str) -> None:
    """After the busy timeout the run gives up and lets go of the other databases."""
    tokens, sessions = make_sources(tmp_path / "data")
    held = make_database(tmp_path / "orders.db", journal_mode=mode)
    with closing(connect(held)) as holder:
        holder.execute("BEGIN EXCLUSIVE")

        with pytest.raises(DatabaseLocked, match="source orders"):
            take((tokens, sessions, Source("orders", held)), tmp_path / "copies", busy_timeout=0.1)

        assert can_write(tokens.path)
        assert can_write(sessions.path)


def test_a_wait_for_a_lock_can_be_stopped(tmp_path: Path) -> None:
    """While the gate waits, progress is told: what that raises comes out, and nothing is held."""
    tokens, sessions = make_sources(tmp_path / "data")
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        raise RunInterrupted("stop")

    with closing(connect(sessions.path)) as holder:
        holder.execute("BEGIN IMMEDIATE")

        with pytest.raises(RunInterrupted):
            take((tokens, sessions), tmp_path / "copies", stop, busy_timeout=60)

        assert [(each.stage, each.source) for each in told] == [("snapshot", "sessions")]
        assert can_write(tokens.path)


def test_a_source_in_exclusive_locking_mode_is_named(tmp_path: Path) -> None:
    """A program that keeps the whole database for itself is reported as a lock."""
    path = make_database(tmp_path / "tokens.db")
    with closing(connect(path)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("INSERT INTO tokens VALUES ('mine', 'value', 0)")

        with pytest.raises(DatabaseLocked, match="source tokens"):
            one(path, tmp_path / "copies", busy_timeout=0.1)


def test_a_lock_that_is_let_go_of_in_time_is_waited_for(tmp_path: Path) -> None:
    """Within the busy timeout a lock only delays the snapshot, in either journal mode."""
    paths = [
        make_database(tmp_path / "tokens.db"),
        make_database(tmp_path / "b.db", journal_mode="delete"),
    ]
    sources = tuple(Source(path.stem, path) for path in paths)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        holders = [stack.enter_context(closing(connect(path))) for path in paths]
        for holder in holders:
            holder.execute("BEGIN EXCLUSIVE")
        taking = pool.submit(take, sources, tmp_path / "copies", busy_timeout=30)
        eventually((tmp_path / "copies").is_dir, "the snapshot has begun")
        for holder in holders:
            holder.execute("ROLLBACK")

        assert len(taking.result().files) == 2


# --- sources that cannot take part in the common instant ---------------------------------


def test_a_source_that_is_not_in_wal_mode_is_copied_and_marked(tmp_path: Path) -> None:
    """It is pinned only for its copy, is not of the same instant, and says which mode it has."""
    tokens, sessions = make_sources(tmp_path / "data")
    orders = Source("orders", make_database(tmp_path / "orders.db", 7, journal_mode="delete"))
    writable: dict[str, bool] = {}

    def look(progress: Progress) -> None:
        writable.setdefault(progress.source, can_commit(orders.path))

    taken = take((tokens, orders, sessions), tmp_path / "copies", look)

    told = {file.source: (file.same_instant, file.journal_mode) for file in taken.files}
    assert told == {"tokens": (True, "wal"), "orders": (False, "delete"), "sessions": (True, "wal")}
    assert taken.files[1].facts.rows == {"orders": 7}
    assert taken.files[1].path.read_bytes()[18:20] == b"\x01\x01"
    # Its writers wait while it is copied, and not while the others are.
    assert writable == {"tokens": True, "orders": False, "sessions": True}


def can_commit(path: Path) -> bool:
    """Whether a writer that does not wait can commit."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA user_version=1")
        except sqlite3.OperationalError:
            return False
        return True


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can look into, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="snapshot-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def for_nobody(folder: Path) -> Path:
    """A new folder for the process that is not root."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


def read_only(path: Path) -> Path:
    """Leave other users only the right to read a database and its folder."""
    for file in path.parent.iterdir():
        file.chmod(0o444)
    path.parent.chmod(0o555)
    return path


def test_a_source_that_may_only_be_read_is_copied_and_marked(open_folder: Path) -> None:
    """It goes without the gate and is marked, whatever its journal mode, with its newest rows."""
    wal = make_database(open_folder / "wal" / "tokens.db", 3)
    rollback = make_database(open_folder / "rollback" / "sessions.db", 4, journal_mode="delete")
    with closing(connect(wal)) as app:  # which has it open, as the running bot has
        app.execute("INSERT INTO tokens VALUES ('in the wal', 'value', 0)")
        sources = {"tokens": read_only(wal), "sessions": read_only(rollback)}

        said = snapshot_in_process(sources, for_nobody(open_folder / "copies"), as_nobody=True)

    assert said["error"] is None
    assert said["files"] == [
        {"source": "tokens", "same_instant": False, "journal_mode": "wal", "rows": {"tokens": 4}},
        {
            "source": "sessions",
            "same_instant": False,
            "journal_mode": "delete",
            "rows": {"sessions": 4},
        },
    ]


def test_behind_a_link_the_wal_beside_the_file_is_read(open_folder: Path) -> None:
    """A link in a read-only folder leads to all committed rows, those in the `-wal` included."""
    real = make_database(open_folder / "real" / "tokens.db", 3)
    linked = open_folder / "linked"
    linked.mkdir()
    (linked / "tokens.db").symlink_to(real)
    linked.chmod(0o555)
    with closing(connect(real)) as app:
        app.executemany(
            "INSERT INTO tokens VALUES (?, 'value', 0)", [(f"in the wal {n}",) for n in range(50)]
        )
        read_only(real)

        said = snapshot_in_process(
            {"tokens": linked / "tokens.db"}, for_nobody(open_folder / "copies"), as_nobody=True
        )

    assert said["error"] is None
    assert said["files"][0]["rows"] == {"tokens": 53}


def test_a_wal_database_that_nobody_has_open_may_only_be_read(open_folder: Path) -> None:
    """No `-wal` is there and none can be made: it is read as a file that does not change."""
    path = read_only(make_database(open_folder / "data" / "tokens.db", 3))

    said = snapshot_in_process({"tokens": path}, for_nobody(open_folder / "copies"), as_nobody=True)

    assert said["error"] is None
    assert said["files"][0] == {
        "source": "tokens",
        "same_instant": False,
        "journal_mode": "wal",
        "rows": {"tokens": 3},
    }


def test_reading_leaves_nothing_beside_a_database_of_somebody_else(open_folder: Path) -> None:
    """A `-shm` of the reader would lock the owner out: the folder is as it was, in any case."""
    path = make_database(open_folder / "data" / "tokens.db", 3)
    path.chmod(0o444)
    path.parent.chmod(0o777)  # the reader may make files there
    before = sorted(path.parent.iterdir())

    said = snapshot_in_process({"tokens": path}, for_nobody(open_folder / "copies"), as_nobody=True)

    assert said["error"] is None
    assert said["files"][0]["rows"] == {"tokens": 3}
    assert sorted(path.parent.iterdir()) == before


def test_a_wal_that_was_left_behind_is_not_opened_by_who_may_only_read(open_folder: Path) -> None:
    """After a crash the owner has to open it first: the reader refuses, and leaves nothing."""
    path = make_database(open_folder / "data" / "tokens.db", 3)
    crash = f"""
import os, sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("INSERT INTO tokens VALUES ('in the wal', 'value', 0)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", crash], check=True)
    path.with_name("tokens.db-shm").unlink()
    for file in path.parent.iterdir():
        file.chmod(0o444)
    path.parent.chmod(0o777)
    before = sorted(path.parent.iterdir())

    said = snapshot_in_process({"tokens": path}, for_nobody(open_folder / "copies"), as_nobody=True)

    assert "was left with a -wal" in said["error"]["message"]
    assert sorted(path.parent.iterdir()) == before


def test_what_a_hot_journal_would_take_back_is_not_stored(open_folder: Path) -> None:
    """A transaction that died half way left its pages in the file: who cannot undo it, refuses."""
    path = make_database(open_folder / "data" / "tokens.db", 500, journal_mode="delete", padding=99)
    half_way = f"""
import os, sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("PRAGMA cache_size=5")
connection.execute("BEGIN")
connection.execute("UPDATE tokens SET value = 'never committed'")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", half_way], check=True)
    assert b"never committed" in path.read_bytes()
    read_only(path)

    said = snapshot_in_process({"tokens": path}, for_nobody(open_folder / "copies"), as_nobody=True)

    assert said["files"] == []
    assert "source tokens" in said["error"]["message"]


@pytest.mark.parametrize("write", ["content", "content and time"])
def test_a_file_that_changes_while_it_is_read_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """Size, time and the file's change counter are compared before and after: no torn copy."""
    path = make_database(tmp_path / "data" / "tokens.db", 3_000, padding=500)
    before = path.stat()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode == os.R_OK)
    written: list[Progress] = []

    def progress(told: Progress) -> None:
        if told.done and not written:
            written.append(told)
            with closing(connect(path)) as writer:
                writer.execute("PRAGMA journal_mode=DELETE")
                writer.execute("UPDATE tokens SET value = value")
                writer.execute("PRAGMA journal_mode=WAL")
            if write == "content":
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(DatabaseUnreadable, match="was written while it was copied"):
        take((Source("tokens", path),), tmp_path / "copies", progress)

    assert written


def test_an_emptied_database_keeps_the_rows_in_its_wal(tmp_path: Path) -> None:
    """SQLite would unlink the `-wal` as it opens the empty file: it is refused, and not opened."""
    path = make_database(tmp_path / "data" / "tokens.db")
    wal = path.with_name("tokens.db-wal")
    with closing(connect(path)) as app:
        app.execute("INSERT INTO tokens VALUES ('in the wal', 'value', 0)")
        kept = wal.read_bytes()
        os.truncate(path, 0)

        with pytest.raises(DatabaseEmpty, match="source tokens"):
            one(path, tmp_path / "copies")
        with closing(ChangeWatch([Source("tokens", path)])) as watch:
            watch.poll()

        assert wal.read_bytes() == kept


def test_a_database_that_is_just_being_created_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite makes the file before its first page: in the first second nothing is damaged."""
    made = make_database(tmp_path / "made" / "tokens.db")
    path = tmp_path / "data" / "tokens.db"
    path.parent.mkdir()
    path.touch()
    waits = []

    def fill(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            path.write_bytes(made.read_bytes())

    monkeypatch.setattr(time, "sleep", fill)

    assert one(path, tmp_path / "copies").facts.rows == {"tokens": 3}
    assert len(waits) == 3


@pytest.mark.parametrize("age", [0, 3600])
def test_a_database_that_stays_empty_is_named_and_the_hint_is_for_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int
) -> None:
    """One that is older than some seconds is not waited for, and a young one not for ever."""
    monkeypatch.setattr(snapshot, "_SECONDS_TO_BE_FILLED", 0.1)
    path = tmp_path / "data" / "tokens.db"
    path.parent.mkdir()
    path.touch()
    made_at = path.stat().st_mtime - age
    os.utime(path, (made_at, made_at))
    waits: list[float] = []
    sleep = time.sleep

    def wait(seconds: float) -> None:
        waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", wait)

    with pytest.raises(DatabaseEmpty, match="truncated, or never filled") as caught:
        one(path, tmp_path / "copies")

    assert bool(waits) is (age == 0)
    assert "restore --only tokens --in-place --yes" in caught.value.hint


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_source_that_may_not_be_read_is_an_error_by_name(open_folder: Path, closed: str) -> None:
    """A file or folder that is closed to this user is told apart from one that is not there."""
    path = make_database(open_folder / "data" / "tokens.db")
    (path if closed == "file" else path.parent).chmod(0o000)

    said = snapshot_in_process({"tokens": path}, for_nobody(open_folder / "copies"), as_nobody=True)

    assert said["error"]["code"] == "database_unreadable"
    assert "source tokens" in said["error"]["message"]
    assert said["error"]["hint"]


# --- the disk of the copies -------------------------------------------------------------


def test_a_disk_that_is_too_small_is_refused_before_a_byte_is_copied(tmp_path: Path) -> None:
    """The staging folder, what is free and what is needed are named."""
    path = make_database(tmp_path / "tokens.db", rows=3_000, padding=1_000)
    (tmp_path / "copies").mkdir()

    said = snapshot_in_process({"tokens": path}, tmp_path / "copies", disk_megabytes=4)

    assert said["error"]["code"] == "disk_full"
    assert f"{tmp_path / 'copies'} has " in said["error"]["message"]
    assert "BACKUP_DIR" in said["error"]["hint"]


def test_a_disk_that_fills_up_during_the_copying_is_named(tmp_path: Path) -> None:
    """It is the disk of the copies that is full, not that of the source."""
    path = make_database(tmp_path / "tokens.db", rows=12_000, padding=1_000)
    (tmp_path / "copies").mkdir()

    said = snapshot_in_process(
        {"tokens": path}, tmp_path / "copies", disk_megabytes=40, fill_disk=True
    )

    assert said["error"]["code"] == "disk_full"
    assert str(tmp_path / "copies") in said["error"]["message"]
    assert said["error"]["hint"]


def test_two_hard_links_of_one_file_are_named_at_once(tmp_path: Path) -> None:
    """The run does not wait for its own lock: both names are in the message; one is copied."""
    tokens = Source("tokens", make_database(tmp_path / "tokens.db"))
    twin = Source("twin", tmp_path / "twin.db")
    twin.path.hardlink_to(tokens.path)
    failures: dict[str, AppError] = {}
    (tmp_path / "copies").mkdir()

    taken = take_snapshots(
        (tokens, twin), tmp_path / "copies", SystemClock(), ignore, failures=failures
    )

    assert [file.source for file in taken.files] == ["tokens"]
    assert list(failures) == ["twin"]
    assert "source twin" in failures["twin"].message
    assert "source tokens" in failures["twin"].message
    with pytest.raises(DatabaseUnreadable, match="same file"):
        take((tokens, twin), tmp_path / "more")
