"""Tests of runs whose process dies: `backups.runs.run`, `backups.host.lease` and the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backups.errors import LeaseHeld
from backups.model import Run
from backups.service import BackupService
from backups.wiring import open_service
from shared.settings.load import load_settings
from shared.store.spaces import SpacesStore
from tests.backups.conftest import SharedBucket
from tests.support.app_process import AppProcess
from tests.support.fault_proxy import FaultProxy, Method, hang
from tests.support.installation import Installation, bot_secrets, spaces
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def installation(tmp_path: Path, proxy: FaultProxy, empty_bucket: SharedBucket) -> Installation:
    """An installation whose bucket is behind the proxy."""
    settings = spaces(proxy.settings(empty_bucket.settings))
    return Installation(tmp_path, settings).make_databases()


@contextmanager
def this_process(installation: Installation) -> Iterator[BackupService]:
    """The service of the same installation, in the process of the test."""
    data = installation.folder / "data"
    paths = {
        "TOKEN_DB_PATH": str(installation.tokens_path),
        "SESSION_DB_PATH": str(installation.sessions_path),
        "BACKUP_DIR": str(data / "backups"),
    }
    with open_service(load_settings({**installation.environment, **paths})) as service:
        yield service


@contextmanager
def running(installation: Installation) -> Iterator[subprocess.Popen[str]]:
    """`./bot backups run --json` in a process of its own."""
    with subprocess.Popen(
        installation.command("run", "--json"),
        cwd=installation.folder,
        env=installation.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def only_run(service: BackupService) -> Run:
    (run,), more = service.list_runs(9)
    assert not more
    return run


def staged(installation: Installation) -> list[Path]:
    return list((installation.folder / "data" / "backups" / "staging").rglob("*"))


KILLED: list[tuple[str, Method, str]] = [
    ("check", "PUT", "instances/"),
    ("store", "PUT", "sessions_"),
    ("proof", "GET", "tokens_"),
    ("manifest", "PUT", "manifest"),
]


@pytest.mark.parametrize(("stage", "method", "key"), KILLED, ids=[one[0] for one in KILLED])
def test_a_killed_run_publishes_nothing_and_the_next_one_succeeds(
    installation: Installation, proxy: FaultProxy, stage: str, method: Method, key: str
) -> None:
    """SIGKILL in any stage: it is found out by its lock, cleaned up, and made up for."""
    proxy.on(hang(), method=method, key=key)
    with this_process(installation) as service:
        with running(installation) as process:
            proxy.wait_until_met()
            # As long as its process lives, nobody declares it dead or begins another.
            assert only_run(service).status == "running"
            assert service.status().running is not None
            with pytest.raises(LeaseHeld) as caught:
                service.backup.begin()
            assert caught.value.run_id == only_run(service).id
            assert staged(installation)

            process.send_signal(signal.SIGKILL)
            process.wait()
        proxy.lift()

        run = only_run(service)
        assert (run.status, run.stage, run.set_id) == ("interrupted", stage, None)
        assert run.error is not None
        assert run.error.code == "interrupted"
        assert service.status().running is None
        assert staged(installation) == []
        service.own_sets.refresh()
        assert list(service.catalogue.sets()) == []

        again = service.backup.begin().execute()
        assert again.status == "succeeded"
        newest = service.catalogue.newest_protecting()
        assert newest is not None
        assert newest.id == again.set_id


def test_a_stopped_process_is_not_a_dead_one(installation: Installation, proxy: FaultProxy) -> None:
    """A run whose process is suspended still holds its lock, so it stays `running`."""
    proxy.on(hang(), method="PUT", key="tokens_", times=1)
    with this_process(installation) as service, running(installation) as process:
        proxy.wait_until_met()
        os.kill(process.pid, signal.SIGSTOP)
        eventually(lambda: _state(process.pid) == "T", "the process is suspended")

        assert only_run(service).status == "running"

        os.kill(process.pid, signal.SIGCONT)
        proxy.lift()
        told = json.loads(process.communicate(timeout=60)[0])
        assert (told["status"], process.returncode) == ("succeeded", 0)
        assert only_run(service).status == "succeeded"


def _state(pid: int) -> str:
    """The letter that Linux has for the state of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_terminated_run_takes_back_what_it_put(
    installation: Installation, proxy: FaultProxy, empty_bucket: SharedBucket
) -> None:
    """SIGTERM ends the process in good order: nothing of the run stays in the bucket."""
    proxy.on(hang(), method="GET", key="tokens_", times=1)
    with running(installation) as process:
        proxy.wait_until_met()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    proxy.lift()

    store = SpacesStore(empty_bucket.settings)
    assert [one.key for one in store.list("backups/") if "instances/" not in one.key] == []
    with this_process(installation) as service:
        assert only_run(service).status == "interrupted"
        assert staged(installation) == []
        assert service.backup.begin().execute().status == "succeeded"


def test_a_running_run_of_long_ago_is_closed_by_whoever_looks(
    installation: Installation, proxy: FaultProxy
) -> None:
    """Status alone finds a dead run out, so a host without a scheduler tells the truth too."""
    proxy.on(hang(), method="PUT", key="tokens_")
    with running(installation) as process:
        proxy.wait_until_met()
        process.kill()
        process.wait()
    proxy.lift()

    with this_process(installation) as service:
        status = service.status()

        assert status.running is None
        assert status.last_run is not None
        assert status.last_run.status == "interrupted"
        assert "last_run_interrupted" in [one.code for one in status.health.warnings]


def test_a_signal_ends_a_start_that_restores(
    tmp_path: Path, proxy: FaultProxy, empty_bucket: SharedBucket
) -> None:
    """The app ends soon though the store is silent, and says why it did not start."""
    settings = {
        **bot_secrets(),
        **spaces(proxy.settings(empty_bucket.settings)),
        "BACKUP_LOCAL_COPIES": "0",
        "BACKUP_RESTORE_ON_EMPTY": "true",
    }
    installation = Installation(tmp_path, settings).make_databases()
    assert installation.cli("run").returncode == 0
    for path in installation.folder.glob("data/sessions.db*"):
        path.unlink()
    proxy.on(hang(), method="GET", key="sessions_")

    with AppProcess(installation) as app:
        proxy.wait_until_met()
        exit_code, _ = app.terminate()
        output = app.output()

    assert exit_code != 0
    assert "could not be restored" in output
    assert "Traceback" not in output
    assert not installation.sessions_path.exists()
    proxy.lift()
    with this_process(installation) as service:
        assert service.directory.run_lease.is_free()
