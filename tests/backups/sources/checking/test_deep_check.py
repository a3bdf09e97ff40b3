"""The deep check in a process of its own: its answer, its end, and what it may not take along."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

import pytest

from backups.errors import RunInterrupted, SnapshotDamaged
from backups.sources.checking import deep_check, soundness, soundness_checks
from backups.sources.checking.deep_check import is_sound
from backups.sources.checking.soundness import Soundness, examine
from backups.sources.checking.soundness_checks import open_checks
from tests.support.waiting import eventually


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """With an index, and more than a page of each."""
    path = tmp_path / "snapshot.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(key TEXT PRIMARY KEY, value BLOB)")
        rows = ((f"key {number:05}", os.urandom(100)) for number in range(2000))
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.commit()
    return path


ENDLESS = "import signal; signal.pause()"


def nothing() -> None:
    """Nobody wants it to end."""


def children() -> set[str]:
    """The processes that this one has started, in whichever thread."""
    found: set[str] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            found.update((thread / "children").read_text().split())
    return found


def damage(path: Path) -> None:
    """Overwrite a page in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)


def test_what_is_sound_is(database: Path) -> None:
    """And it is left as it is, alone."""
    before = database.read_bytes()
    assert is_sound(database, nothing)
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]


def test_what_is_damaged_is_named_as_ever(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process says only that something is wrong."""
    damage(database)
    assert not is_sound(database, nothing)
    monkeypatch.setattr(soundness, "LEAST_BYTES", 0)
    with pytest.raises(SnapshotDamaged):
        examine("tokens", database, nothing)


def test_what_is_no_database_is_not_sound(tmp_path: Path) -> None:
    """Nor an empty one of another length."""
    path = tmp_path / "snapshot.db"
    path.write_bytes(b"no database" * 1000)
    assert not is_sound(path, nothing)


@pytest.mark.parametrize("end", [signal.SIGBUS, signal.SIGKILL])
def test_a_process_that_dies_takes_nothing_along(
    database: Path, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    """As a bad sector under a mapped page would end it: then the check is made here."""
    program = f"import os; os.kill(os.getpid(), {int(end)})"
    monkeypatch.setattr(deep_check, "_PROGRAM", program)
    monkeypatch.setattr(soundness, "LEAST_BYTES", 0)
    assert not is_sound(database, nothing)
    assert examine("tokens", database, nothing).fault is None
    damage(database)
    with pytest.raises(SnapshotDamaged):
        examine("tokens", database, nothing)


def test_who_wants_to_end_is_not_kept(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is gone when what `ask` raised comes out."""
    monkeypatch.setattr(deep_check, "_PROGRAM", ENDLESS)
    before = children()

    def ask() -> None:
        raise RunInterrupted

    with pytest.raises(RunInterrupted):
        is_sound(database, ask)
    assert children() == before


def test_a_large_snapshot_is_checked_elsewhere(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a small one here: a process takes longer to start."""
    asked: list[Path] = []

    def answer(path: Path, _: object) -> bool:
        asked.append(path)
        return True

    monkeypatch.setattr(soundness, "is_sound", answer)
    assert examine("tokens", database, nothing).fault is None
    assert asked == []
    monkeypatch.setattr(soundness, "LEAST_BYTES", 0)
    examine("tokens", database, nothing)
    assert asked == [database]


def test_each_check_begins_with_its_copy_and_others_go_on_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the first ends only when the second has; the third waits for one of them."""
    second_ended, running, most = Event(), 0, 0

    def check(source: str, _path: Path, _ask: object) -> Soundness:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if source == "first":
            assert second_ended.wait(30)
        elif source == "second":
            second_ended.set()
        running -= 1
        return Soundness(unchecked=source)

    monkeypatch.setattr(soundness_checks, "examine", check)
    sources = ["first", "second", "third"]
    with open_checks() as checks:
        for source in sources:
            checks.begin(source, tmp_path / source)
        found = checks.results(sources, nothing)

    assert found == {source: Soundness(unchecked=source) for source in sources}
    assert most <= 2


def test_nothing_is_checked_after_the_block(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what was under way, nor what waited for its turn: then its file may go."""
    monkeypatch.setattr(deep_check, "_PROGRAM", ENDLESS)
    monkeypatch.setattr(soundness, "LEAST_BYTES", 0)
    before = children()

    def interrupted() -> None:
        with open_checks() as checks:
            for source in ("first", "second", "third"):
                checks.begin(source, database)
            eventually(lambda: len(children() - before) == 2, "two checks")
            raise RunInterrupted

    with pytest.raises(RunInterrupted):
        interrupted()
    assert children() == before
    assert not [one for one in threading.enumerate() if one.name == "beside"]


def test_what_is_damaged_ends_the_waiting(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a source that is asked for; what became of another is nobody's matter."""
    damage(database)
    sound = database.with_name("sound.db")
    with closing(sqlite3.connect(sound)) as connection:
        connection.execute("CREATE TABLE t(x)")
    with open_checks() as checks:
        checks.begin("damaged", database)
        checks.begin("sound", sound)
        assert checks.results(["sound"], nothing) == {"sound": Soundness()}
        with pytest.raises(SnapshotDamaged, match="damaged"):
            checks.results(["sound", "damaged"], nothing)
