"""The deep check in a process of its own: its answer, its end, and what it may not take along."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from backups.errors import RunInterrupted, SnapshotDamaged
from backups.model import DatabaseFacts, SnapshotFile
from backups.sets import publish
from backups.sources.checking import deep_check, soundness
from backups.sources.checking.deep_check import is_sound
from backups.sources.checking.soundness import Soundness, examine


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


def nothing() -> None:
    """Nobody wants it to end."""


def file_of(path: Path) -> SnapshotFile:
    """A snapshot of `tokens`."""
    facts = DatabaseFacts(page_size=4096, page_count=1, user_version=0, rows={}, schema="")
    return SnapshotFile("tokens", path, path.stat().st_size, "", facts, True, "wal")


def children() -> set[str]:
    """The processes that this one has started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


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
        examine(file_of(database), nothing)


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
    assert examine(file_of(database), nothing).fault is None
    damage(database)
    with pytest.raises(SnapshotDamaged):
        examine(file_of(database), nothing)


def test_who_wants_to_end_is_not_kept(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is gone when what `ask` raised comes out."""
    monkeypatch.setattr(deep_check, "_PROGRAM", "import signal; signal.pause()")
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
    assert examine(file_of(database), nothing).fault is None
    assert asked == []
    monkeypatch.setattr(soundness, "LEAST_BYTES", 0)
    examine(file_of(database), nothing)
    assert asked == [database]


def test_the_others_are_checked_while_the_largest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the largest ends only when all others have."""
    sizes = {"smallest": 1, "largest": 3, "middle": 2}
    files = []
    for source, size in sizes.items():
        path = tmp_path / source
        path.write_bytes(bytes(size))
        files.append(replace(file_of(path), source=source))
    others_ended = Event()

    def check(file: SnapshotFile, _ask: object) -> Soundness:
        if file.source == "largest":
            assert others_ended.wait(30)
        elif file.source == "middle":
            others_ended.set()
        return Soundness(unchecked=file.source)

    monkeypatch.setattr(publish, "examine", check)
    with publish.examined(files) as soundness_known:
        found = soundness_known(nothing)

    assert found == {source: Soundness(unchecked=source) for source in sizes}
