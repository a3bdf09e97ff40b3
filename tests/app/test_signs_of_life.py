"""Signs of life of a real app: in BACKUP_DIR for other processes, and to systemd."""

from __future__ import annotations

import os
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest

from backups.decisions.health import assess
from backups.decisions.protection import HealthFacts
from backups.host.heartbeats import Heartbeats
from backups.host.lease import Lease
from backups.model import Beat
from backups.wiring import open_service
from tests.support.app_process import AppProcess
from tests.support.installation import Installation, installation_in, settings_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

THREADS = [
    "alerts",
    "follower",
    *(f"inbox-{number}" for number in range(1, 5)),
    "packer",
    "scheduler",
    "sync-1",
    "sync-2",
]


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation with both databases and the embedded store."""
    return installation_in(tmp_path).make_databases()


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch, installation: Installation) -> list[HealthFacts]:
    """What each status of this process was judged by."""
    judged: list[HealthFacts] = []

    def watched(found: HealthFacts) -> object:
        judged.append(found)
        return assess(found)

    monkeypatch.setattr("backups.status.assess", watched)
    return judged


def seen_from_outside(installation: Installation, facts: list[HealthFacts]) -> HealthFacts:
    """The facts of a status that this process, which is not the app's, reads."""
    with open_service(settings_of(installation)) as service:
        service.status()
    return facts[-1]


def names(beats: tuple[Beat, ...]) -> list[str]:
    return sorted(beat.name for beat in beats)


def test_another_process_sees_that_the_threads_live(
    installation: Installation, facts: list[HealthFacts]
) -> None:
    """All of the leader, young and without a failure; when the app has ended there is none."""
    assert seen_from_outside(installation, facts).beats == ()
    with AppProcess.start(installation) as app, app.client() as client:
        eventually(
            lambda: names(seen_from_outside(installation, facts).beats) == THREADS, "all beats"
        )
        for beat in facts[-1].beats:
            assert beat.age < timedelta(seconds=60)
            assert beat.age < beat.most
            assert beat.failure is None
        assert client.get("/healthz").status_code == 200
    assert (installation.folder / "data/backups/heartbeats").exists()
    assert seen_from_outside(installation, facts).beats == ()


def test_a_leader_that_is_stopped_is_seen_from_outside(
    installation: Installation, facts: list[HealthFacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: minutes later its beats are too old, and the lease is stuck; SIGCONT heals it."""
    with AppProcess.start(installation) as app:
        eventually(lambda: seen_from_outside(installation, facts).beats, "beats")
        os.kill(app.pid, signal.SIGSTOP)
        try:
            later(monkeypatch, seconds=4000)
            found = seen_from_outside(installation, facts)
            assert all(beat.age > beat.most for beat in found.beats)
            (fault,) = found.found_faults
            assert fault.code == "lease_stuck"
            assert f"process {app.pid} on {os.uname().nodename} has held" in fault.message
            assert f"kill -9 {app.pid}" in fault.hint
        finally:
            os.kill(app.pid, signal.SIGCONT)
            monkeypatch.undo()
        assert seen_from_outside(installation, facts).beats


def later(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Let this process look at the heartbeats and leases as it would after so long."""
    for kind in (Heartbeats, Lease):
        inner = kind.__init__

        def made(self: object, path: Path, *_: object, _inner: object = inner) -> None:
            _inner(self, path, monotonic=lambda: time.monotonic() + seconds)  # type: ignore[operator]

        monkeypatch.setattr(kind, "__init__", made)


def test_a_database_that_is_removed_under_the_app_is_a_fault_at_once(
    installation: Installation, facts: list[HealthFacts]
) -> None:
    """For every process that reads the status, with the remedy for that database alone."""
    with AppProcess.start(installation) as app:
        eventually(lambda: seen_from_outside(installation, facts).newest, "the first set")
        assert facts[-1].found_faults == ()

        installation.tokens_path.unlink()

        (fault,) = seen_from_outside(installation, facts).found_faults
        assert fault.code == "source_missing"
        assert "restore --only tokens --in-place --yes" in fault.hint
        with app.client() as client:
            assert client.get("/healthz").status_code == 200


def test_a_host_on_which_nothing_has_begun_misses_no_database(
    tmp_path: Path, facts: list[HealthFacts]
) -> None:
    """Before the first start there is none yet, and no set that had one."""
    assert seen_from_outside(installation_in(tmp_path / "new"), facts).found_faults == ()


def test_the_app_tells_systemd_that_it_is_ready_and_goes_on(installation: Installation) -> None:
    """Ready when it has opened all, then pings for as long as its loop and threads go on."""
    address = installation.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        watched = installation.with_settings(NOTIFY_SOCKET=str(address), WATCHDOG_USEC="200000")
        with AppProcess.start(watched) as app:
            assert [systemd.recv(100) for _ in range(3)] == [
                b"READY=1",
                b"WATCHDOG=1",
                b"WATCHDOG=1",
            ]
            os.kill(app.pid, signal.SIGSTOP)
            _drain(systemd)
            systemd.settimeout(2)
            with pytest.raises(TimeoutError):  # ten pings would have come
                systemd.recv(100)
            os.kill(app.pid, signal.SIGCONT)
            systemd.settimeout(30)
            assert systemd.recv(100) == b"WATCHDOG=1"
            app.terminate()
        assert _drain(systemd)[-1] == b"STOPPING=1"


def _drain(listening: socket.socket) -> list[bytes]:
    listening.setblocking(False)
    found = []
    while True:
        try:
            found.append(listening.recv(100))
        except BlockingIOError:
            return found
