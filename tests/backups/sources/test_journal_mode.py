"""A restore into a database outside WAL mode that another process has open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backups.model import Source
from backups.sources import install
from tests.support.generations import connect

# Has a database open, and does what it is sent: `read` or `close`.
_READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    if line == "read\\n":
        print(*reader.execute("SELECT name FROM t").fetchone(), flush=True)
    else:
        reader.close()
        print("closed", flush=True)
"""


class Reader:
    """A process that has a database open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def send(self, order: str) -> None:
        """Send it an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """What it answers."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def read(self) -> str:
        """What it reads now."""
        self.send("read")
        return self.answer()


@contextmanager
def reader_of(path: Path) -> Iterator[Reader]:
    """A process with the database open, which ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Reader(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def databases(tmp_path: Path) -> tuple[Path, Path]:
    """A copy to be restored, and a live database in rollback-journal mode."""
    for name in ("new", "old"):
        with closing(sqlite3.connect(tmp_path / f"{name}.db", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE t(name)")
            connection.execute("INSERT INTO t VALUES (?)", (name,))
    return tmp_path / "new.db", tmp_path / "old.db"


def replace(
    databases: tuple[Path, Path],
    busy_timeout: float,
    keep_old: Callable[[], object],
    end: Callable[[], object] = lambda: None,
) -> None:
    """Replace the content of the live database; `end` is called with the last page."""
    staged, live = databases

    def keep() -> None:
        keep_old()

    def tick(done: int, total: int) -> None:
        if done == total:
            end()

    install.replace_content(staged, Source("t", live), busy_timeout, keep, tick)


def journal_mode(path: Path) -> str:
    """The mode as a new connection finds it."""
    with closing(connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_the_journal_mode_is_put_back_when_the_other_process_closes(
    databases: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A process that reads during the restore, and closes soon after, finds its mode again."""
    _, live = databases
    with reader_of(live) as reader:
        assert reader.read() == "old"
        replace(databases, 30, reader.read, lambda: reader.send("close"))
        assert reader.answer() == "closed"
        assert journal_mode(live) == "delete"
    assert caplog.messages == []


def test_a_journal_mode_that_cannot_be_put_back_is_said(
    databases: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """While a process keeps the database open the mode stays, and a warning has the remedy."""
    _, live = databases
    with reader_of(live) as reader:
        assert reader.read() == "old"
        replace(databases, 0.2, reader.read)
        assert reader.read() == "new"
        assert journal_mode(live) == "wal"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("backups.t", "WARNING")
    assert "stays in WAL mode" in record.getMessage()
    remedy = record.getMessage().rpartition("then: ")[2]
    subprocess.run(["sh", "-c", remedy], check=True, capture_output=True)
    assert journal_mode(live) == "delete"
