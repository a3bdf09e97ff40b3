"""Installing a checked file: in every state of the live database, and under full load."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backups.errors import OwnerDiffers, RunInterrupted
from backups.model import Source
from backups.sources import install
from backups.sources.live import connect as connect_live
from backups.sources.quarantine import moves
from benchmarks.measured import traffic_of
from shared.errors import DatabaseLocked, DatabaseNotSqlite, DiskFull
from tests.support.generations import bring_into, connect, leave_wal_behind, side_files
from tests.support.installation import REPOSITORY

NOBODY = 65534


def make(path: Path, name: str, *, rows: int = 50, page_size: int = 4096, wal: bool = True) -> Path:
    """A database with a table called `t` whose rows all say `name`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute(f"PRAGMA journal_mode={'wal' if wal else 'delete'}")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, padding TEXT)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?)", ((n, name, "x" * 400) for n in range(rows))
        )
        connection.execute("COMMIT")
    return path


def names_in(path: Path) -> set[str]:
    """The names in a sound database."""
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT DISTINCT name FROM t")}


def pragma(path: Path, name: str) -> object:
    """The value of a pragma."""
    with closing(connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def replace(staged: Path, live: Path, *, busy_timeout: float = 5.0) -> list[str]:
    """Replace the content; what `keep_old` saw."""
    seen: list[str] = []
    install.replace_content(
        staged,
        Source("t", live),
        busy_timeout,
        lambda: seen.extend(sorted(names_in(live))),
        lambda done, total: None,
    )
    return seen


@pytest.mark.parametrize("live_wal", [True, False])
@pytest.mark.parametrize(
    ("staged_size", "live_size"),
    [(4096, 4096), (1024, 4096), (4096, 1024), (512, 65536), (65536, 512)],
)
def test_any_page_size_goes_into_any(
    tmp_path: Path, staged_size: int, live_size: int, live_wal: bool
) -> None:
    """A staged copy of any page size replaces the content of a live database of any other."""
    staged = make(tmp_path / "staged.db", "new", page_size=staged_size, wal=False)
    live = make(tmp_path / "live" / "t.db", "old", page_size=live_size, wal=live_wal)

    assert replace(staged, live) == ["old"]

    assert names_in(live) == {"new"}
    assert pragma(live, "page_size") == live_size
    assert pragma(live, "journal_mode") == ("wal" if live_wal else "delete")


@pytest.mark.parametrize("live_wal", [True, False])
def test_databases_of_one_page(tmp_path: Path, live_wal: bool) -> None:
    """A database of a single page is kept before it is replaced, and can replace another."""
    for name in ("staged.db", "t.db"):
        with closing(sqlite3.connect(tmp_path / name, isolation_level=None)) as connection:
            wal = live_wal and name == "t.db"
            connection.execute(f"PRAGMA journal_mode={'wal' if wal else 'delete'}")
            connection.execute(f"PRAGMA user_version={7 if name == 'staged.db' else 3}")
        assert pragma(tmp_path / name, "page_count") == 1
    live, seen = tmp_path / "t.db", []
    install.replace_content(
        tmp_path / "staged.db",
        Source("t", live),
        5.0,
        lambda: seen.append(pragma(live, "user_version")),
        lambda done, total: None,
    )
    assert seen == [3]
    assert pragma(live, "user_version") == 7
    assert pragma(live, "integrity_check") == "ok"


@pytest.mark.parametrize("live_wal", [True, False])
def test_large_databases_in_either_journal_mode(tmp_path: Path, live_wal: bool) -> None:
    """Also a live database outside WAL mode can be read for the safety copy, whatever its size."""
    staged = make(tmp_path / "staged.db", "new", rows=40_000, wal=False)
    live = make(tmp_path / "live" / "t.db", "old", rows=40_000, wal=live_wal)
    assert replace(staged, live, busy_timeout=1.0) == ["old"]
    assert names_in(live) == {"new"}


def test_a_smaller_and_a_larger_copy(tmp_path: Path) -> None:
    """The live database shrinks and grows with what is put into it."""
    live = make(tmp_path / "live" / "t.db", "old", rows=5_000)
    replace(make(tmp_path / "small.db", "small", rows=3, wal=False), live)
    assert names_in(live) == {"small"}
    replace(make(tmp_path / "large.db", "large", rows=9_000, wal=False), live)
    assert names_in(live) == {"large"}


def test_an_open_reader_keeps_its_view(tmp_path: Path) -> None:
    """A read that began before the switch sees the old rows to its end, and the new after."""
    staged = make(tmp_path / "staged.db", "new", wal=False)
    live = make(tmp_path / "live" / "t.db", "old")
    with closing(connect(live)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT DISTINCT name FROM t").fetchall() == [("old",)]
        replace(staged, live)
        assert reader.execute("SELECT DISTINCT name FROM t").fetchall() == [("old",)]
        reader.execute("COMMIT")
        assert reader.execute("SELECT DISTINCT name FROM t").fetchall() == [("new",)]


def test_the_safety_copy_is_taken_under_the_write_lock(tmp_path: Path) -> None:
    """While what is there is kept, no other connection can write to the live database."""
    staged = make(tmp_path / "staged.db", "new", wal=False)
    live = make(tmp_path / "live" / "t.db", "old")
    refusals: list[str] = []

    def keep_old() -> None:
        with closing(sqlite3.connect(live, isolation_level=None, timeout=0)) as writer:
            with pytest.raises(sqlite3.OperationalError) as refused:
                writer.execute("INSERT INTO t VALUES (-1, 'lost', '')")
            refusals.append(refused.value.sqlite_errorname)

    install.replace_content(staged, Source("t", live), 5.0, keep_old, lambda done, total: None)
    assert refusals == ["SQLITE_BUSY"]


def test_the_next_commit_writes_no_more_than_it_has(tmp_path: Path) -> None:
    """The log, which has the whole content, is in the database by then: else who commits next would
    bring it there, and wait for that."""
    staged = make(tmp_path / "staged.db", "new", rows=20_000, wal=False)
    live = make(tmp_path / "live" / "t.db", "old", rows=20_000)
    assert staged.stat().st_size > 4_000_000  # a thousand pages, at which SQLite does that
    with closing(connect(live)) as bot:
        assert bot.execute("SELECT count(*) FROM t").fetchone() == (20_000,)
        replace(staged, live)
        before = traffic_of(os.getpid())
        bot.execute("INSERT INTO t VALUES (-1, 'new', '')")
        assert (traffic_of(os.getpid()) - before).written < 100_000
    assert names_in(live) == {"new"}


def test_the_log_goes_into_the_database_under_the_write_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite up to 3.51.2 can lose a commit that begins the log anew during a checkpoint."""
    staged = make(tmp_path / "staged.db", "new", wal=False)
    live = make(tmp_path / "live" / "t.db", "old")
    connections: list[sqlite3.Connection] = []
    refusals: list[str] = []

    def watched(path: Path, timeout: float) -> sqlite3.Connection:
        connections.append(connect_live(path, timeout))
        connections[-1].set_trace_callback(look)
        return connections[-1]

    def look(statement: str) -> None:
        if "wal_checkpoint" in statement:
            with closing(sqlite3.connect(live, isolation_level=None, timeout=0)) as writer:
                with pytest.raises(sqlite3.OperationalError) as refused:
                    writer.execute("BEGIN IMMEDIATE")
                refusals.append(refused.value.sqlite_errorname)

    monkeypatch.setattr(install, "connect", watched)
    replace(staged, live)
    assert refusals == ["SQLITE_BUSY"]
    assert names_in(live) == {"new"}


def test_a_reader_keeps_the_log_from_nothing_but_going_in(tmp_path: Path) -> None:
    """A read that is held open does not hold the restore up, nor make it fail."""
    staged = make(tmp_path / "staged.db", "new", rows=20_000, wal=False)
    live = make(tmp_path / "live" / "t.db", "old", rows=20_000)
    with closing(connect(live)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT DISTINCT name FROM t").fetchall() == [("old",)]
        replace(staged, live, busy_timeout=0.5)
        assert reader.execute("SELECT DISTINCT name FROM t").fetchall() == [("old",)]
    assert names_in(live) == {"new"}


@pytest.mark.parametrize("where", ["keep_old", "tick", "last tick"])
def test_an_exception_in_the_middle_leaves_the_old_content(tmp_path: Path, where: str) -> None:
    """When the safety copy or the watcher stops the work, nothing has changed."""
    staged = make(tmp_path / "staged.db", "new", rows=20_000, wal=False)
    live = make(tmp_path / "live" / "t.db", "old", rows=20_000)
    before = (live.stat().st_ino, names_in(live))

    def keep_old() -> None:
        if where == "keep_old":
            raise RunInterrupted("stopped", "by the test")

    def tick(done: int, total: int) -> None:
        if where == "tick" or (where == "last tick" and 2 * done > total):
            raise RunInterrupted("stopped", "by the test")

    with pytest.raises(RunInterrupted):
        install.replace_content(staged, Source("t", live), 5.0, keep_old, tick)
    assert (live.stat().st_ino, names_in(live)) == before
    with closing(connect(live)) as writer:  # and nobody holds a lock any more
        writer.execute("INSERT INTO t VALUES (-1, 'old', '')")


def test_a_live_database_that_stays_locked_is_named(tmp_path: Path) -> None:
    """A writer that never ends its transaction gives a named error, and the old content."""
    staged = make(tmp_path / "staged.db", "new", wal=False)
    live = make(tmp_path / "live" / "t.db", "old")
    with closing(connect(live)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLocked, match=r"t\.db"):
            replace(staged, live, busy_timeout=0.1)
    assert names_in(live) == {"old"}


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    """A file that SQLite does not know as its own is refused by name, and stays."""
    staged = make(tmp_path / "staged.db", "new", wal=False)
    live = make(tmp_path / "live" / "t.db", "old")
    bring_into("corrupt header", live)
    content = live.read_bytes()
    with pytest.raises(DatabaseNotSqlite):
        replace(staged, live)
    assert live.read_bytes() == content


def test_quarantine_takes_all_files_together_and_brings_them_back(tmp_path: Path) -> None:
    """Main file, `-wal` and `-shm` go aside together, 0700, and come back as they were."""
    path = make(tmp_path / "t.db", "old")
    leave_wal_behind(path)
    files = {file.name: file.read_bytes() for file in (path, *side_files(path)) if file.exists()}
    assert len(files) == 3

    aside = tmp_path / "aside"
    moves.quarantine(path, aside)
    assert {file.name: file.read_bytes() for file in aside.iterdir()} == files
    assert aside.stat().st_mode & 0o777 == 0o700
    assert not any(file.exists() for file in (path, *side_files(path)))

    moves.bring_back(aside, path)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_bringing_back_overwrites_nothing(tmp_path: Path, end: str) -> None:
    """A database that has appeared in the meantime is in the way."""
    path = make(tmp_path / "t.db", "old")
    moves.quarantine(path, tmp_path / "aside")
    in_the_way = path.with_name(f"t.db{end}")
    in_the_way.write_bytes(b"new")
    with pytest.raises(FileExistsError):
        moves.bring_back(tmp_path / "aside", path)
    assert in_the_way.read_bytes() == b"new"
    assert names_in(tmp_path / "aside" / "t.db") == {"old"}


def test_install_new_overwrites_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """A new file is 0600, complete, and alone; one that is there stays."""
    staged = make(tmp_path / "staging" / "t.db", "new", wal=False)
    path = tmp_path / "deep" / "data" / "t.db"
    content = staged.read_bytes()
    install.install_new(staged, path)
    assert path.read_bytes() == content
    assert not staged.exists()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_nlink == 1
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700
    other = make(tmp_path / "staging" / "other.db", "other", wal=False)
    with pytest.raises(FileExistsError):
        install.install_new(other, path)
    assert names_in(path) == {"new"}
    assert [file.name for file in path.parent.iterdir()] == ["t.db"]


def test_the_owner_of_the_data_directory_must_be_this_user(tmp_path: Path) -> None:
    """Files that would get another owner than the data directory are refused, with the remedy."""
    install.refuse_foreign_owner(tmp_path / "not" / "yet" / "there" / "t.db")
    if os.geteuid() == 0:
        (tmp_path / "data").mkdir()
        os.chown(tmp_path / "data", NOBODY, NOBODY)
        foreign = tmp_path / "data" / "t.db"
    else:
        foreign = Path("/usr/t.db")
    with pytest.raises(OwnerDiffers) as refused:
        install.refuse_foreign_owner(foreign)
    assert "sudo -u" in refused.value.hint


def test_a_full_staging_disk_leaves_the_old_content(tmp_path: Path) -> None:
    """When the staged copy cannot be rewritten for want of room, the live file is untouched."""
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs -o size=1m none "$0" && exec "$@"',
            str(_folder(tmp_path / "staging")),
            sys.executable,
            "-c",
            _ON_A_SMALL_DISK,
            str(tmp_path),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [DiskFull.code, "old"]


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from backups.model import Source
from backups.sources import install
from backups.sources.quarantine import moves
from shared.errors import AppError
from tests.backups.sources.test_install import make, names_in

folder = Path(sys.argv[1])
live = make(folder / "data" / "t.db", "old", page_size=1024)
staged = make(folder / "staging" / "t.db", "new", rows=1500, wal=False)
try:
    install.replace_content(staged, Source("t", live), 5, lambda: None, lambda done, total: None)
except AppError as error:
    print(error.code)
print(*names_in(live))
"""


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
