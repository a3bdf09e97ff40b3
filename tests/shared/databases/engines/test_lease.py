"""The lease of several hosts: one holder, whatever happens to it, and no late write of others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.databases.engines.address import DatabaseAddress
from shared.databases.engines.connections import Connections, connect
from shared.databases.engines.lease import HeldSharedLease, SharedLease
from shared.databases.engines.opening import open_postgres
from shared.databases.sessions import SessionStorage
from shared.errors import DatabaseUnreachable, LeadershipLost
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[4]

# Another host: it leads, and goes on writing what a leader writes until it is refused.
HOST = """
import sys
from shared.clock import SystemClock
from shared.databases.engines.address import parse_address
from shared.databases.engines.lease import SharedLease
from shared.databases.engines.opening import open_postgres
from shared.databases.sessions import SessionStorage
from shared.errors import AppError

address = parse_address(sys.argv[1])
with open_postgres(address) as connections:
    held = SharedLease(address, "scheduler", host=lambda: "other").try_acquire()
    storage = SessionStorage(held.fenced(connections, "sessions"), SystemClock())
    print(held.epoch, flush=True)
    number = 0
    while True:
        try:
            storage.create("old", f"old-{number}")
        except AppError as error:
            print(error.code, flush=True)
            if error.code == "leadership_lost":
                break
        number += 1
    print(held.keep(), flush=True)
"""


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    """A database with our tables."""
    with postgres.new_database() as address:
        with open_postgres(address):
            pass
        yield address


@contextmanager
def other_host(address: DatabaseAddress) -> Iterator[subprocess.Popen[str]]:
    """A process that leads."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, address.url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def acquired(lease: SharedLease) -> HeldSharedLease:
    """The lease, as soon as it is free."""
    held = lease.try_acquire(60)
    assert held is not None
    return held


@contextmanager
def closing_lease(held: HeldSharedLease) -> Iterator[None]:
    """Released in the end."""
    try:
        yield
    finally:
        held.release()


def sessions_of(connections: Connections, held: HeldSharedLease) -> SessionStorage:
    return SessionStorage(held.fenced(connections, "sessions"), SystemClock())


def ended_sessions(address: DatabaseAddress) -> None:
    """The server ends the sessions that hold advisory locks."""
    with closing(connect(address, "admin")) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


def test_one_of_many_has_it(address: DatabaseAddress) -> None:
    """Of ten that try at once one has it, and the next one after it is released."""
    leases = [SharedLease(address, "scheduler") for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        held = [one for one in pool.map(SharedLease.try_acquire, leases) if one is not None]
    assert len(held) == 1
    assert held[0].keep()
    held[0].release()
    held[0].release()
    assert not held[0].keep()
    second = acquired(leases[3])
    assert second.epoch == held[0].epoch + 1
    second.release()


def test_leases_of_other_names_are_apart(address: DatabaseAddress) -> None:
    """Who schedules does not keep a run out."""
    with closing(_Releasing(acquired(SharedLease(address, "scheduler")))):
        acquired(SharedLease(address, "run")).release()


def test_everybody_sees_who_has_it(address: DatabaseAddress) -> None:
    """Its host and process, while it has it."""
    lease = SharedLease(address, "scheduler", host=lambda: "droplet-1")
    assert lease.holder() is None
    assert lease.is_free()
    held = acquired(lease)
    assert SharedLease(address, "scheduler").holder() == ("droplet-1", os.getpid())
    assert lease.is_kept()
    held.release()
    assert_soon(lease.is_free)


def test_it_lasts_for_longer_than_the_server_bears_silence(address: DatabaseAddress) -> None:
    """A holder that works, and is not asked, is not thrown out: it beats by itself."""
    held = acquired(SharedLease(address, "run"))
    with closing(connect(address, "tests")) as raw:
        first = raw.execute("SELECT beat FROM leases").fetchall()
        assert_soon(lambda: raw.execute("SELECT beat FROM leases").fetchall() != first)
        query = "SELECT extract(epoch FROM now() - since) > 6 FROM leases"
        assert_soon(lambda: bool(raw.execute(query).fetchall()[0][0]))
    assert held.keep()
    held.release()


def test_a_killed_holder_leaves_it_to_another_host(address: DatabaseAddress) -> None:
    """At once: the kernel closes its connection."""
    with other_host(address) as process:
        process.kill()
        held = acquired(SharedLease(address, "scheduler"))
        assert held.epoch == 2
        held.release()


def test_a_frozen_holder_loses_it_and_writes_nothing_more(address: DatabaseAddress) -> None:
    """Another host has it; when the first one wakes, not one of its writes lands."""
    with other_host(address) as process, open_postgres(address) as connections:
        process.send_signal(signal.SIGSTOP)
        held = acquired(SharedLease(address, "scheduler"))
        storage = sessions_of(connections, held)
        storage.create("new", "new")
        before = storage.count()
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=120)[0].split()
        assert said[-2:] == ["leadership_lost", "False"]
        assert storage.count() == before
        held.release()


def test_a_holder_whose_session_ended_writes_nothing_more(address: DatabaseAddress) -> None:
    """Its other connections work as before, and their writes are refused."""
    with open_postgres(address) as connections:
        first = acquired(SharedLease(address, "scheduler"))
        storage = sessions_of(connections, first)
        storage.create("old", "old")
        ended_sessions(address)
        second = acquired(SharedLease(address, "scheduler"))
        with pytest.raises(LeadershipLost):
            storage.create("old", "late")
        assert not first.keep()
        assert storage.count() == 1  # it may read
        sessions_of(connections, second).create("new", "new")
        second.release()


def test_the_epoch_does_not_rise_in_the_middle_of_a_write(address: DatabaseAddress) -> None:
    """What has begun under the old one is over when another holder begins."""
    with open_postgres(address) as connections:
        first = acquired(SharedLease(address, "scheduler"))
        with ThreadPoolExecutor(1) as pool:
            with first.fenced(connections, "sessions").transaction() as connection:
                ended_sessions_of_lease(address)
                taking = pool.submit(acquired, SharedLease(address, "scheduler"))
                assert_soon(lambda: waiting_for_a_row(address))
                connection.execute(
                    "INSERT INTO sessions(session_id, uuid, created_at) VALUES (?, ?, ?)",
                    ("a", "b", 1),
                )
                assert not taking.done()
            taking.result(60).release()


def test_any_error_of_a_beat_ends_the_lease(
    address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread ends, but not in silence: the lease counts as lost, and another holder gets it."""
    lease = SharedLease(address, "scheduler")
    held = acquired(lease)

    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the driver")

    monkeypatch.setattr(held._raw, "execute", fail)
    assert_soon(lambda: not held._thread.is_alive())
    assert not held.keep()
    assert "the lease counts as lost" in caplog.text
    assert "a fault of the driver" in caplog.text
    acquired(SharedLease(address, "scheduler")).release()


def test_without_a_server_it_cannot_be_had(address: DatabaseAddress) -> None:
    """That is an error, and not a lease that somebody else holds."""
    server = PostgresServer.start()
    try:
        with server.new_database() as other:
            with open_postgres(other):
                pass
            lease = SharedLease(other, "scheduler")
            held = acquired(lease)
            server.crash()
            with pytest.raises(DatabaseUnreachable):
                lease.try_acquire()
            assert not held.keep()
            server.resume()
            again = acquired(lease)
            assert again.epoch == held.epoch + 1
            again.release()
    finally:
        server.stop()


class _Releasing:
    def __init__(self, held: HeldSharedLease) -> None:
        self.close = held.release


def ended_sessions_of_lease(address: DatabaseAddress) -> None:
    with closing(connect(address, "admin")) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sales-bot scheduler'"
            " AND datname = current_database()"
        )


def waiting_for_a_row(address: DatabaseAddress) -> bool:
    with closing(connect(address, "tests")) as raw:
        return bool(
            raw.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND application_name = 'sales-bot scheduler' AND datname = current_database()"
            ).fetchall()
        )


def assert_soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_holder_tells_is_gone_with_it(address: DatabaseAddress) -> None:
    """All hosts hear it until another one holds the lease; then nobody hears the first."""
    first, second = SharedLease(address, "scheduler"), SharedLease(address, "scheduler")
    held = acquired(first)
    try:
        found = second.announced()
        assert found is not None
        assert found.signs == ""
        held.tell("all is well")
        found = second.announced()
        assert found is not None
        assert found.signs == "all is well"
        assert found.signs_age.total_seconds() >= 0
        ended_sessions(address)
        with closing_lease(acquired(second)):
            held.tell("I am late")
            found = first.announced()
            assert found is not None
            assert found.signs == ""
    finally:
        held.release()
