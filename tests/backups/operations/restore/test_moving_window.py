"""A process that opens a damaged database in the moment in which its files are moved aside.

What it writes there belongs to what is moved. The restored database has the rows of the set and no
others, for every process that opens it.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from backups.sources import install
from shared.files import sync_directory
from tests.support.bench import open_bench
from tests.support.generations import SOURCES, bring_into, leave_wal_behind, side_files
from tests.support.installation import REPOSITORY

pytestmark = pytest.mark.slow

# Opens a database, commits a row, and dies as a killed process does: its `-wal` stays.
_WRITER = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
writer.execute("PRAGMA journal_mode=WAL")
writer.execute("CREATE TABLE IF NOT EXISTS foreign_rows(name)")
writer.execute("INSERT INTO foreign_rows VALUES ('of the window')")
os.kill(os.getpid(), signal.SIGKILL)
"""

# Moves a database aside, and puts another in its place: `restore` a new one, `undo` the files of
# a quarantine. A writer opens the database when its side files are linked and the main file is
# not moved. The process dies before step number `sys.argv[3]` on the file system.
_MOVER = """
import os, signal, subprocess, sys
from pathlib import Path
from backups.sources import install
from tests.backups.operations.restore.test_moving_window import put, write_in_a_process

act, path, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
steps = 0

def count(event, arguments):
    global steps
    if event in ("os.mkdir", "os.link", "os.rename", "os.remove"):
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

sync = install.sync_directory

def open_the_window(folder):
    install.sync_directory = sync
    sync(folder)
    write_in_a_process(path)

install.sync_directory = open_the_window
sys.addaudithook(count)
put(act, path)
"""


def write_in_a_process(path: Path) -> None:
    """Let another process commit a row, and die."""
    done = subprocess.run([sys.executable, "-c", _WRITER, str(path)], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL


def tables(path: Path) -> set[str]:
    """The tables of a sound database, as somebody who opens it sees them."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {str(row[0]) for row in found}


def put(act: str, path: Path) -> None:
    """Move what is at the path aside, and bring in another; the same again finishes it."""
    aside, earlier = path.with_name("aside"), path.with_name("earlier")
    begun = act == "undo" and (aside / path.name).exists()
    if begun:
        install.remove_moved(path, aside, earlier)
    elif not (aside / path.name).exists() or not path.exists():
        install.quarantine(path, aside)
    if act == "undo":
        install.bring_back(earlier, path, begun=begun)
    else:
        with suppress(FileExistsError):
            install.install_new(path.with_name("staged.db"), path)


def make(path: Path, table: str) -> Path:
    """A database with one table."""
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}(x)")
    return path


def test_a_restore_that_succeeded_shows_only_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `-wal` that a process makes while the damaged files are moved goes with them."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bring_into("zero bytes", bench.tokens)

        def open_the_window(folder: Path) -> None:
            monkeypatch.setattr(install, "sync_directory", sync_directory)
            sync_directory(folder)
            write_in_a_process(bench.tokens)

        monkeypatch.setattr(install, "sync_directory", open_the_window)
        bench.restored()
        assert tables(bench.tokens) == {"tokens"}
        assert bench.generations() == dict.fromkeys(SOURCES, "genset")
        (aside,) = bench.quarantined("tokens")
        assert tables(aside / "tokens.db") == {"foreign_rows"}


@pytest.mark.parametrize("wal", [True, False])
@pytest.mark.parametrize("act", ["restore", "undo"])
def test_a_kill_at_every_step_of_the_moving(tmp_path: Path, act: str, wal: bool) -> None:
    """Wherever the moving dies, the same again leaves nothing foreign beside the new database."""
    killed, last = True, 0
    while killed:
        folder = tmp_path / f"at-{last}"
        path = make(folder / "t.db", "old")
        make(folder / "staged.db", "new")
        if act == "undo":
            install.quarantine(make(folder / "before.db", "new"), folder / "earlier")
            leave_wal_behind(folder / "earlier" / "before.db")
            for file in (folder / "earlier").iterdir():
                file.rename(file.with_name(file.name.replace("before", "t")))
        if wal:
            leave_wal_behind(path)
        before = tables_of_a_copy(folder)
        mover = subprocess.run(
            [sys.executable, "-c", _MOVER, act, str(path), str(last)],
            cwd=REPOSITORY,
            check=False,
            timeout=60,
        )
        killed = mover.returncode == -signal.SIGKILL
        assert killed or mover.returncode == 0
        moved = (folder / "aside" / "t.db").exists()
        if killed:
            put(act, path)
        assert tables(path) == ({"new", "stale"} if act == "undo" else {"new"}), last
        assert tables(folder / "aside" / "t.db") >= before | ({"foreign_rows"} if moved else set())
        last += 1
    assert last >= 4


def tables_of_a_copy(folder: Path) -> set[str]:
    """The tables of `t.db` with its side files, which stay as they are."""
    (folder / "copy").mkdir()
    path = folder / "t.db"
    for file in (path, *side_files(path)):
        if file.exists():
            (folder / "copy" / file.name).write_bytes(file.read_bytes())
    return tables(folder / "copy" / "t.db")


def test_a_new_file_never_comes_beside_a_foreign_wal(tmp_path: Path) -> None:
    """Whatever SQLite would apply to a new database is in its way, until it is moved."""
    path, staged = make(tmp_path / "t.db", "old"), make(tmp_path / "staged.db", "new")
    leave_wal_behind(path)
    path.rename(tmp_path / "moved")
    with pytest.raises(FileExistsError, match="-wal is in the way"):
        install.install_new(staged, path)
    assert not path.exists()
    install.quarantine(path, tmp_path / "aside")
    install.install_new(staged, path)
    assert tables(path) == {"new"}
