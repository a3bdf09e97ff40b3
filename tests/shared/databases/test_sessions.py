"""Sessions: what is kept of an id, and when one ends."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from shared.databases.sessions import LIFETIME, SessionStorage
from tests.shared.conftest import Engine
from tests.support.clock import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sessions.db"


@pytest.fixture
def storage(engine: Engine, path: Path, clock: FixedClock) -> Iterator[SessionStorage]:
    storage = SessionStorage(engine("sessions", path), clock)
    yield storage
    storage.close()


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(found.read_bytes() for found in sorted(path.parent.iterdir()))


def test_a_session_leads_to_its_user(storage: SessionStorage) -> None:
    """Each id leads to the user it was made for, and ids do not repeat."""
    one, two, other = storage.create("user-1"), storage.create("user-1"), storage.create("user-2")

    assert len({one, two, other}) == 3
    assert [storage.lookup(session) for session in (one, two, other)] == [
        "user-1",
        "user-1",
        "user-2",
    ]


def test_an_unknown_session_leads_nowhere(storage: SessionStorage) -> None:
    """An id that was never given out, or is empty, is nobody's."""
    storage.create("user-1")

    assert storage.lookup("guess") is None
    assert storage.lookup("") is None


def test_the_id_is_not_in_the_files(storage: SessionStorage, path: Path) -> None:
    """Whoever reads the database, or its backup, cannot take over a session."""
    session = storage.create("user-1")
    with_wal = bytes_on_disk(path)
    storage.close()
    closed = bytes_on_disk(path)

    assert b"user-1" in with_wal + closed
    assert session.encode() not in with_wal
    assert session.encode() not in closed


def test_what_is_stored_does_not_work_as_an_id(storage: SessionStorage) -> None:
    """The stored hash, sent as a cookie, opens nothing."""
    storage.create("user-1")
    with storage._database.reading() as connection:
        [(stored,)] = connection.execute("SELECT session_id FROM sessions").fetchall()

    assert storage.lookup(stored) is None


def test_a_session_ends_at_exactly_one_hour(storage: SessionStorage, clock: FixedClock) -> None:
    """It lives through the last second before the hour, and not at the hour."""
    session = storage.create("user-1")

    clock.advance(seconds=LIFETIME.total_seconds() - 1)
    assert storage.lookup(session) == "user-1"
    clock.advance(seconds=1)
    assert storage.lookup(session) is None
    assert timedelta(hours=1) == LIFETIME


def test_purging_removes_the_ended_ones_only(storage: SessionStorage, clock: FixedClock) -> None:
    """`purge_expired` removes and counts the sessions that have ended, and no other."""
    storage.create("early")
    storage.create("early")
    clock.advance(minutes=1)
    late = storage.create("late")
    clock.advance(minutes=59)

    assert storage.purge_expired() == 2
    assert storage.purge_expired() == 0
    assert storage.lookup(late) == "late"
    with storage._database.reading() as connection:
        assert connection.execute("SELECT uuid FROM sessions").fetchall() == [("late",)]


def test_a_new_session_sweeps_the_ended_ones(storage: SessionStorage, clock: FixedClock) -> None:
    """The table does not grow for ever when nobody purges it."""
    storage.create("early")
    clock.advance(hours=1)
    storage.create("late")

    with storage._database.reading() as connection:
        assert connection.execute("SELECT uuid FROM sessions").fetchall() == [("late",)]


def test_deleting_ends_one_session(storage: SessionStorage) -> None:
    """A deleted session is unknown, its neighbour stays, and deleting again does nothing."""
    one, two = storage.create("user-1"), storage.create("user-1")

    storage.delete(one)
    storage.delete(one)

    assert storage.lookup(one) is None
    assert storage.lookup(two) == "user-1"


def test_sessions_survive_the_process(path: Path, clock: FixedClock) -> None:
    """A storage that is opened again knows the sessions of the one before."""
    first = SessionStorage(path, clock)
    session = first.create("user-1")
    first.close()

    second = SessionStorage(path, clock)

    assert second.lookup(session) == "user-1"
    second.close()


def test_many_threads_lose_no_session(storage: SessionStorage) -> None:
    """Sessions created by eight threads at once are all there."""
    users = [f"user-{number}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(storage.create, users))

    assert [storage.lookup(session) for session in sessions] == users


def test_the_database_is_private(storage: SessionStorage, path: Path) -> None:
    """The file and its WAL are 0600, the new directory 0700."""
    storage.create("user-1")

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()} == {0o600}
