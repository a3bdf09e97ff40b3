"""Marks of a later time in a real app: made at its start, and by `POST /adopt`."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.clock import SystemClock
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.installation import installation_in
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ADOPT = "/admin/backups/adopt"


def test_the_start_of_the_app_marks_what_the_version_before_had_made(tmp_path: Path) -> None:
    """Without a command or a backup: the store has the mark soon, and `latest` means the set."""
    with open_bench(tmp_path, settings={}, clock=SystemClock(), mark_keys=()) as bench:
        bench.write("before")
        made = bench.made()
        beside = Path(bench.store.location) / f"backups/sets/{made.id}"

    with AppProcess.start(installation_in(tmp_path)) as app, app.client() as client:
        eventually(lambda: list(beside.glob("mark-*.json")), "the mark in the store")
        newest = client.get("/admin/backups/status").json()["newest_restore_point"]

    assert newest["id"] == made.id


def test_adopting_marks_what_proves(tmp_path: Path) -> None:
    """`accept_unsigned` answers with the run; without it, unsigned sets are no installation."""
    with open_bench(tmp_path, settings={}, clock=SystemClock(), mark_keys=()) as bench:
        bench.write("lost")
        made = bench.made()
        for file in bench.directory.path.glob("runs.db*"):
            file.unlink()
    with AppProcess.start(installation_in(tmp_path)) as app, app.client() as client:
        body = {"confirm": made.instance}
        adopted = client.post(
            ADOPT, json={**body, "accept_unsigned": True}, params={"wait": True}, timeout=60
        )
        found = client.get(f"/admin/backups/sets/{made.id}").json()

    assert (adopted.status_code, adopted.json()["operation"]) == (200, "verify")
    assert found["mark"] == "valid"
