"""`GET /metrics` through a real uvicorn: who may read it, in which form, from which worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.app_process import AppProcess
from tests.support.exposition import METRICS, Scrape, read_scrape
from tests.support.installation import ADMIN_TOKEN, Installation, bot_secrets
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

BASE = "/admin/backups"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation with both databases and the embedded store."""
    return Installation(tmp_path, bot_secrets()).make_databases()


def wait_for_backup(client: httpx2.Client) -> None:
    """Return when the first backup is made and nothing runs."""

    def done() -> bool:
        status = client.get(BASE).json()
        return bool(status["last_success"] and not status["running"])

    eventually(done, "the first backup")


def scrape_of(client: httpx2.Client) -> Scrape:
    """What `/metrics` says now."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read_scrape(answer.text)


def workers_of(app: AppProcess) -> list[int]:
    """The worker processes of an app; the other child keeps track of shared memory."""
    children = Path(f"/proc/{app.pid}/task/{app.pid}/children").read_text().split()
    return [
        int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@contextmanager
def paused(process: int) -> Iterator[None]:
    """Hold a process up, so that its siblings answer."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_metrics_need_the_admin_token(installation: Installation) -> None:
    """Without the token `/metrics` is 401 like an admin route; with it, each form parses."""
    with AppProcess.start(installation) as app, app.client() as client:
        wait_for_backup(client)
        with app.client(token=None) as stranger, app.client(ADMIN_TOKEN[:-1]) as other:
            for refused in (stranger.get("/metrics"), other.get("/metrics")):
                assert refused.status_code == 401
                assert refused.headers["content-type"] == "application/problem+json"
                assert "backup_" not in refused.text
        assert set(scrape_of(client).types) == set(METRICS)
        answer = client.get("/metrics", headers={"Accept": OPEN_METRICS})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        parsed = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
        families = {family.name for family in parsed}
        assert families == {name.removesuffix("_total") for name in METRICS}


@pytest.mark.parametrize("with_token", [True, False])
def test_metrics_may_be_public(installation: Installation, *, with_token: bool) -> None:
    """With `METRICS_PUBLIC=true` anybody may read them, and the admin routes stay closed."""
    settings = {**installation.settings, "METRICS_PUBLIC": "true"}
    if not with_token:
        del settings["ADMIN_TOKEN"]
    public = Installation(installation.folder, settings)
    with AppProcess.start(public) as app, app.client(token=None) as stranger:
        assert scrape_of(stranger).value("backup_restore_points") is not None
        assert stranger.get(BASE).status_code == (401 if with_token else 503)


def test_without_an_admin_token_metrics_are_closed(installation: Installation) -> None:
    """With no token set and not public, `/metrics` is 503 with the way out."""
    settings = {k: v for k, v in installation.settings.items() if k != "ADMIN_TOKEN"}
    closed = Installation(installation.folder, settings)
    with AppProcess.start(closed) as app, app.client() as client:
        answer = client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (503, "admin_token_unset")


def test_every_worker_answers_the_same_also_after_a_restart(installation: Installation) -> None:
    """Each of two workers tells of the runs of both; a restart takes nothing away.

    One worker makes the runs, whichever it is; the other is held up while each is asked.
    """
    with AppProcess.start(installation, workers=2) as app:
        with app.client() as client:
            wait_for_backup(client)
            for _ in range(2):
                assert client.post(f"{BASE}/run?wait=true").status_code == 200
            assert client.post(f"{BASE}/drill?wait=true").status_code == 200
        eventually(lambda: len(workers_of(app)) == 2, "two workers")
        answers = []
        for worker in workers_of(app):
            with paused(worker), app.client() as client:
                answers.append(scrape_of(client))
        assert answers[0] == answers[1]
        told = answers[0]
        assert (
            told.value(
                "backup_runs_total", operation="backup", trigger="manual", status="succeeded"
            )
            == 2
        )
        assert told.value("backup_restore_points") == 3
        assert told.value("backup_stage_seconds_count", stage="store") == 3
        assert app.terminate()[0] == 0
    with AppProcess.start(installation) as app, app.client() as client:
        assert scrape_of(client) == told
