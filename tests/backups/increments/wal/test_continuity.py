"""What is read from a -wal is what SQLite's own copy of the same instant has, or is refused."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from backups.increments.wal import follower as wal_follower
from backups.increments.wal.database import checkpoint, end_read
from backups.increments.wal.file import ContinuityLost, LogEnd, Position, next_frame
from backups.increments.wal.index import WalIndex
from backups.model import Source
from backups.sources.pins import begin_read
from shared.errors import DatabaseError
from tests.backups.increments.conftest import insert
from tests.support.wal_capture import (
    Capture,
    FollowedDatabase,
    append_transaction,
    connect,
    scan,
)

Case = Callable[[sqlite3.Connection, FollowedDatabase], None]


def by_wal(followed: FollowedDatabase, *, hold: bool = True) -> int:
    """Capture, and demand that the -wal showed all of it; how many pages."""
    capture = followed.capture(hold=hold)
    assert (capture.lost, capture.wrong) == (None, [])
    return capture.pages


def by_comparison(followed: FollowedDatabase, reason: str) -> None:
    """Capture, demand that the -wal was refused for that reason, and that it goes on from there."""
    capture = followed.capture()
    assert reason in (capture.lost or "read from the -wal")
    with closing(connect(followed.path)) as other:
        insert(other)
    assert by_wal(followed) > 0


def wal_of(followed: FollowedDatabase) -> Path:
    """The path of its -wal."""
    return followed.path.with_name(f"{followed.path.name}-wal")


def frames_of(followed: FollowedDatabase) -> int:
    """How many frames SQLite's index counts."""
    return index_end(followed).frame


def index_end(followed: FollowedDatabase) -> LogEnd:
    """Where SQLite's index says that the log ends."""
    index = WalIndex.find(followed.path.with_name(f"{followed.path.name}-shm"))
    end = index.end() if index else None
    assert end
    return end


# --- the cases ----------------------------------------------------------------------------


def truncated_unheld(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Nobody held a read while commits went into the database and the log was cut."""
    insert(writer, 5)
    by_wal(followed, hold=False)
    insert(writer, 20)
    assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    insert(writer, 2)
    by_comparison(followed, "begun anew while no read was held")


def restarted_unheld(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """One restart, which is fine with a read held, and hides commits without one."""
    insert(writer, 5)
    by_wal(followed, hold=False)
    insert(writer, 20)
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    insert(writer)
    by_comparison(followed, "begun anew while no read was held")


def overwritten_anchor(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """The last frame that was read is another one."""
    insert(writer, 2)
    by_wal(followed)
    end = frames_of(followed)
    with wal_of(followed).open("r+b") as file:
        file.seek(32 + (end - 1) * 4120 + 16)
        file.write(b"\xff" * 8)
    insert(writer)
    by_comparison(followed, "was written over")


def damaged_page(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """A byte of the last page is another one than was written."""
    insert(writer)
    with wal_of(followed).open("r+b") as file:
        file.seek(32 + frames_of(followed) * 4120 - 1000)
        file.write(b"\xff" * 8)
    by_comparison(followed, "wrong checksum")


def dead_commit(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """A writer died between its commit mark and the index; a shorter commit is written over it."""
    insert(writer, 2)
    by_wal(followed)
    pages = {number: os.urandom(4096) for number in (3, 4, 5, 6, 7, 8)}
    append_transaction(wal_of(followed), frames_of(followed), pages, len(followed.state))
    assert by_wal(followed) == 0
    insert(writer)
    assert by_wal(followed) > 0
    insert(writer, 20)
    assert by_wal(followed) > 0


def test_plain_commits(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """What was committed comes back, and nothing when nothing was."""
    insert(writer, 5)
    assert by_wal(followed) > 0
    assert by_wal(followed) == 0
    insert(writer, 500)
    assert by_wal(followed) > 30


def test_commits_between_the_two_parts(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """What is committed after most was read, and before the gate, comes back too."""
    insert(writer, 5)
    followed.before_gates = lambda: insert(writer, 50)
    assert by_wal(followed) > 3
    followed.before_gates = lambda: None
    assert by_wal(followed) == 0


def test_gates_that_could_not_be_shut(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """What `prepare` read is kept for the capture that comes to its end."""
    for _ in range(3):
        insert(writer, 5)
        followed.follower.prepare()
    assert by_wal(followed) > 1


def test_a_restart_by_a_writer_with_a_read_held(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """A writer begins the log anew when all is in the database: the -wal shows it."""
    for _ in range(3):
        insert(writer, 5)
        by_wal(followed)
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        by_wal(followed)
        salts = index_end(followed).salts
        insert(writer, 3)
        assert index_end(followed).salts != salts
        assert by_wal(followed) > 0


def test_a_restart_by_another_connection_with_a_read_held(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """Each connection counts restarts for itself, and the log is continuous all the same."""
    for _ in range(3):
        insert(writer, 5)
        by_wal(followed)
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        by_wal(followed)
        with closing(connect(followed.path)) as other:
            insert(other, 3)
        assert frames_of(followed) < 10
        assert by_wal(followed) > 0


def test_the_same_log_without_a_read_held(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """Letting the read go costs no comparison where the log is still the same one."""
    by_wal(followed, hold=False)
    assert not followed.follower.held
    insert(writer, 5)
    assert by_wal(followed) > 0
    assert followed.follower.held


@pytest.mark.parametrize(
    "case", [truncated_unheld, restarted_unheld, overwritten_anchor, damaged_page, dead_commit]
)
def test_a_case_that_a_mutant_fails(
    writer: sqlite3.Connection, followed: FollowedDatabase, case: Case
) -> None:
    """Each case for which a check exists: what the frames do not show is compared."""
    case(writer, followed)


def test_two_restarts_unheld(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Two restarts while no read was held are seen."""
    insert(writer, 5)
    by_wal(followed, hold=False)
    for _ in range(2):
        writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        insert(writer, 2)
    by_comparison(followed, "begun anew while no read was held")


def test_a_cut_log_with_a_read_held(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Where all is in the database a held read lets others cut the log; nothing is missed."""
    insert(writer, 5)
    by_wal(followed)
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    by_wal(followed)
    assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert by_wal(followed) == 0
    with closing(connect(followed.path)) as other:
        insert(other, 5)
    assert by_wal(followed) > 0


def test_a_rolled_back_spill(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Frames of a transaction that was rolled back do not count, nor behind a short commit."""
    insert(writer, 2)
    writer.execute("PRAGMA cache_size=5")
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET b = randomblob(300)")
    writer.execute("ROLLBACK")
    assert wal_of(followed).stat().st_size > 32 + (frames_of(followed) + 10) * 4120
    by_wal(followed)
    insert(writer)
    assert by_wal(followed) > 0


def test_an_open_spill(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Frames of a transaction that is still open do not count while they are written."""
    writer.execute("PRAGMA cache_size=5")
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET b = randomblob(300)")
    followed.follower.prepare()
    writer.execute("ROLLBACK")
    assert by_wal(followed) == 0


def test_a_writer_that_died(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """What a writer wrote that died in a transaction does not count, nor behind a commit."""
    insert(writer, 2)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sqlite3, sys\n"
            "live = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "live.execute('PRAGMA cache_size=5')\n"
            "live.execute('BEGIN IMMEDIATE')\n"
            "live.execute('UPDATE t SET b = randomblob(300)')\n"
            "os._exit(1)",
            str(followed.path),
        ],
        check=False,
    )
    assert wal_of(followed).stat().st_size > 32 + (frames_of(followed) + 10) * 4120
    by_wal(followed)
    insert(writer)
    assert by_wal(followed) > 0


def test_vacuum_shrinking_and_growth(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """A database that is rewritten, that shrinks and that grows is followed."""
    writer.execute("VACUUM")
    by_wal(followed)
    before = len(followed.state)
    writer.execute("DELETE FROM t WHERE a > 20")
    writer.execute("VACUUM")
    by_wal(followed)
    assert len(followed.state) < before
    insert(writer, 400)
    by_wal(followed)
    writer.execute("DELETE FROM t WHERE a > 20")
    writer.execute("VACUUM")
    insert(writer, 500)
    by_wal(followed)
    assert len(followed.state) > before


def test_stale_frames_at_the_end(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Frames with a commit mark and the right salts that are not of this place do not count."""
    insert(writer, 2)
    by_wal(followed)
    before = frames_of(followed)
    insert(writer)
    with wal_of(followed).open("r+b") as file:
        file.seek(32 + before * 4120)
        stale = file.read()
        insert(writer)
        file.seek(32 + frames_of(followed) * 4120)
        file.write(stale)
    assert by_wal(followed) > 0
    insert(writer)
    assert by_wal(followed) > 0


def test_a_removed_wal(writer: sqlite3.Connection, followed: FollowedDatabase) -> None:
    """Whose -wal was removed is opened again and compared."""
    insert(writer, 2)
    by_wal(followed)
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    writer.close()
    followed.own.close()
    followed.gate.close()
    wal_of(followed).unlink()
    assert "removed or replaced" in str(lost_in_gates(followed))
    followed.follower.prepare()  # opened again, and so the -wal is there again
    followed._reopen()
    by_comparison(followed, "opened again")


def test_a_replaced_file(
    writer: sqlite3.Connection, followed: FollowedDatabase, tmp_path: Path
) -> None:
    """A file that another was renamed over is opened again and compared."""
    insert(writer, 2)
    by_wal(followed)
    with closing(connect(tmp_path / "other.db")) as other:
        other.execute("PRAGMA journal_mode=WAL").fetchone()
        other.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        insert(other, 20)
    writer.close()
    (tmp_path / "other.db").rename(followed.path)
    for suffix in ("-wal", "-shm"):
        followed.path.with_name(f"{followed.path.name}{suffix}").unlink()
    by_comparison(followed, "opened again")


def lost_in_gates(followed: FollowedDatabase) -> ContinuityLost:
    """The loss of a capture between whose two parts something happened."""
    followed.follower.in_gates()
    with pytest.raises(ContinuityLost) as lost:
        followed.follower.finish()
    assert not followed.follower.held
    return lost.value


def test_a_database_that_is_not_in_wal_mode(tmp_path: Path) -> None:
    """One with a rollback journal has no -wal to read."""
    with closing(connect(tmp_path / "live.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    follower = wal_follower.WalFollower(Source("tokens", tmp_path / "live.db"))
    with pytest.raises(ContinuityLost, match="not in WAL mode"):
        follower.prepare()
    assert not follower.held


def test_a_host_that_does_not_show_the_index(
    writer: sqlite3.Connection, followed: FollowedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite's index cannot be read nothing is taken from the -wal."""
    insert(writer, 2)
    monkeypatch.setattr(wal_follower, "end_of_log", lambda _: None)
    assert "cannot be read on this host" in (followed.capture().lost or "")


def test_a_change_that_was_not_stored(
    writer: sqlite3.Connection, followed: FollowedDatabase
) -> None:
    """After `forget` the next capture is a comparison, whatever the log shows."""
    insert(writer, 2)
    followed.follower.forget()
    by_comparison(followed, "was not stored")


def test_more_than_is_read(
    writer: sqlite3.Connection, followed: FollowedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail above the limit is not read, before the gates and in them, and is compared."""
    monkeypatch.setattr(wal_follower, "MOST_TAIL_BYTES", 40_000)
    insert(writer, 500)
    by_comparison(followed, "are new")
    followed.before_gates = lambda: insert(writer, 500)
    assert "are new" in (followed.capture().lost or "")


@pytest.mark.parametrize("page_size", [512, 65536])
def test_other_page_sizes(tmp_path: Path, page_size: int) -> None:
    """The smallest and the largest pages are read."""
    with closing(connect(tmp_path / "live.db")) as writer:
        writer.execute(f"PRAGMA page_size={page_size}")
        writer.execute("PRAGMA journal_mode=WAL").fetchone()
        writer.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        with FollowedDatabase(tmp_path / "live.db") as followed:
            insert(writer, 50)
            by_wal(followed)
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            by_wal(followed)
            insert(writer, 5)
            assert by_wal(followed) > 0


def test_an_empty_log(writer: sqlite3.Connection, tmp_path: Path) -> None:
    """One in which nothing is yet is followed from there; without a read held it is compared."""
    writer.close()  # the last one takes the -wal with it
    with (
        closing(connect(tmp_path / "live.db")) as live,
        FollowedDatabase(tmp_path / "live.db") as followed,
    ):
        assert index_end(followed).frame == 0
        assert by_wal(followed) == 0
        insert(live, 5)
        assert by_wal(followed) > 0
        by_wal(followed)
        live.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        by_wal(followed)
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert by_wal(followed, hold=False) == 0
        by_comparison(followed, "the log was empty")


def test_a_gate_that_failed(
    writer: sqlite3.Connection, followed: FollowedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the read cannot begin, none is held, and the next capture is a comparison."""
    insert(writer, 2)

    def failing(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(wal_follower, "begin_read", failing)
        with pytest.raises(DatabaseError, match="source tokens"):
            followed.capture()
        assert not followed.follower.held
    by_comparison(followed, "the capture before failed")


def test_closing_leaves_nothing_open(writer: sqlite3.Connection, tmp_path: Path) -> None:
    """A closed follower has no descriptor of the -wal. SQLite closes the main file later."""
    before = descriptors(tmp_path)
    with FollowedDatabase(tmp_path / "live.db"):
        assert descriptors(tmp_path) > before
    assert descriptors(tmp_path) == before


def descriptors(folder: Path) -> int:
    """How many descriptors of this process lead to a -wal in a folder."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.parent == folder and link.name.endswith("-wal") for link in links)


@pytest.mark.parametrize("plainly", [False, True])
def test_the_locks_of_sqlite_stay(
    writer: sqlite3.Connection, tmp_path: Path, plainly: bool
) -> None:
    """After captures others see our connections' locks; a plain read of the -shm drops them."""
    path = tmp_path / "live.db"
    with FollowedDatabase(path) as followed:
        insert(writer)
        by_wal(followed)
    writer.execute("BEGIN")
    insert(writer)  # holds the write lock
    if plainly:
        path.with_name("live.db-shm").read_bytes()
    taken = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys\n"
            "live = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)\n"
            "live.execute('BEGIN IMMEDIATE')",
            str(path),
        ],
        capture_output=True,
        check=False,
    )
    assert (taken.returncode == 0) is plainly


# --- the log stays short ----------------------------------------------------------------------


def test_the_log_is_brought_into_the_database(writer: sqlite3.Connection, tmp_path: Path) -> None:
    """Above the limit the gate checkpoints, and the next writer begins the log anew."""
    with FollowedDatabase(tmp_path / "live.db", most_frames=100) as followed:
        most = 0
        for _ in range(200):
            insert(writer, 5)
            by_wal(followed)
            most = max(most, frames_of(followed))
        assert most < 130


# --- the checks are needed --------------------------------------------------------------------


def _no_continuity(position: Position, end: LogEnd, held: bool) -> int:
    return position.frame + 1 if position.salts == end.salts else 1


def _held_not_asked(position: Position, end: LogEnd, held: bool) -> int:
    return next_frame(position, end, True)


def _end_by_marks(index: WalIndex | None) -> LogEnd | None:
    """Where the commit marks alone say that the log ends."""
    if index is None or (end := index.end()) is None:
        return None
    raw = Path("/proc/self/maps").read_text()
    line = next(line for line in raw.splitlines() if line.startswith(f"{index.address:x}-"))
    frames = scan(Path(line[line.index("/") :].removesuffix("-shm") + "-wal").read_bytes())
    if not frames:
        return end
    return LogEnd(end.salts, len(frames), frames[-1].commit, frames[-1].checksum, end.page_size)


@pytest.mark.parametrize(
    ("case", "name", "mutant"),
    [
        (truncated_unheld, "follower.next_frame", _no_continuity),
        (restarted_unheld, "follower.next_frame", _held_not_asked),
        (overwritten_anchor, "follower.check_anchor", lambda *_: None),
        (damaged_page, "file.check_frame", lambda *_: None),
        (dead_commit, "follower.end_of_log", _end_by_marks),
    ],
)
def test_a_reader_without_a_check_is_caught(
    writer: sqlite3.Connection,
    followed: FollowedDatabase,
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    name: str,
    mutant: Callable[..., object],
) -> None:
    """Each check, taken away, fails the case that it is there for."""
    monkeypatch.setattr(f"backups.increments.wal.{name}", mutant)
    with pytest.raises(AssertionError):
        case(writer, followed)


@pytest.mark.parametrize(
    ("mutant", "wrong"), [(_no_continuity, truncated_unheld), (_held_not_asked, restarted_unheld)]
)
def test_a_reader_without_a_check_is_wrong(
    writer: sqlite3.Connection,
    followed: FollowedDatabase,
    monkeypatch: pytest.MonkeyPatch,
    mutant: Callable[..., object],
    wrong: Case,
) -> None:
    """Without the check for continuity, pages are missing in what is captured."""
    monkeypatch.setattr(wal_follower, "next_frame", mutant)
    captures = []
    capture = followed.capture

    def noted(*, hold: bool = True) -> Capture:
        captures.append(capture(hold=hold))
        return captures[-1]

    monkeypatch.setattr(followed, "capture", noted)
    with pytest.raises(AssertionError):
        wrong(writer, followed)
    assert captures[-1].wrong


def gate_is_shut(path: Path) -> bool:
    """Whether nobody else can write now."""
    with closing(connect(path, 0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        other.execute("ROLLBACK")
        return False


@pytest.mark.parametrize("outside", [False, True])
def test_the_checkpoint_runs_in_the_gate(
    writer: sqlite3.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outside: bool,
) -> None:
    """Nobody can write while it runs; a reader that runs it before is caught, and is wrong."""
    prepare = wal_follower.WalFollower.prepare
    shut, wrong = [], []

    def watched(connection: sqlite3.Connection) -> None:
        shut.append(gate_is_shut(tmp_path / "live.db"))
        checkpoint(connection)

    def early(follower: wal_follower.WalFollower) -> None:
        prepare(follower)
        if follower.held and (opened := follower._open):
            end_read(opened.reader)
            insert(writer, 20)
            watched(opened.checkpointer)
            insert(writer)
            begin_read(opened.reader)

    monkeypatch.setattr(wal_follower, "checkpoint", watched)
    with FollowedDatabase(tmp_path / "live.db", most_frames=10**6 if outside else 5) as followed:
        if outside:
            monkeypatch.setattr(wal_follower.WalFollower, "prepare", early)
        for _ in range(3):
            insert(writer, 10)
            wrong += followed.capture().wrong
    assert shut
    assert all(shut) is not outside
    assert bool(wrong) is outside
