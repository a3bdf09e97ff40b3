"""A start with a missing database: restored first when that is asked for, else loudly told."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from shared.clock import SystemClock
from tests.support.app_process import AppProcess, free_port
from tests.support.bench import open_bench
from tests.support.generations import (
    SOURCES,
    bring_into,
    generation_of,
    leave_wal_behind,
    live_path,
)
from tests.support.installation import Installation, installation_in
from tests.support.marks import signed_manifest
from tests.support.s3_server import REGION
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ON = {"BACKUP_RESTORE_ON_EMPTY": "true"}


@pytest.fixture
def empty(tmp_path: Path) -> Installation:
    """A store with `genset`, and no databases."""
    with open_bench(tmp_path, settings={}, clock=SystemClock()) as bench:
        bench.write("genset")
        bench.made()
        for source in SOURCES:
            bring_into("missing", bench.live(source))
    return installation_in(tmp_path)


def restores(installation: Installation) -> list[str]:
    """The status of every restore in the run log."""
    found = installation.json("runs")["runs"]
    return [run["status"] for run in found if run["operation"] == "restore"]


def problems(installation: Installation) -> dict[str, str]:
    """Code and hint of each problem of status."""
    status = installation.json("status", exit_code=3)
    return {found["code"]: found["hint"] for found in status["problems"]}


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("as_script", [True, False])
def test_missing_databases_are_restored_before_the_app_opens_them(
    empty: Installation, copies: bool, as_script: bool
) -> None:
    """The app starts on the data of the newest restore point, with or without local copies."""
    if not copies:
        with open_bench(empty.folder, settings={}) as bench:
            bench.forget_copies()
    with AppProcess.start(empty.with_settings(**ON), as_script=as_script) as app:
        for source in SOURCES:
            assert generation_of(live_path(empty.folder, source)) == "genset"
        with app.client() as client:
            found = client.get("/admin/backups").json()["problems"]
            assert "started_empty" not in {problem["code"] for problem in found}
    assert restores(empty) == ["succeeded"]


def test_only_what_is_missing_is_restored(empty: Installation) -> None:
    """A database that is there stays as it is."""
    with open_bench(empty.folder, settings={}) as bench:
        bench.write("genlive")
        bring_into("missing", bench.live("tokens"))
    with AppProcess.start(empty.with_settings(**ON)):
        pass
    assert generation_of(live_path(empty.folder, "tokens")) == "genset"
    assert generation_of(live_path(empty.folder, "sessions")) == "genlive"


def test_a_leftover_wal_is_moved_aside_at_the_start(empty: Installation) -> None:
    """What is left beside a missing database is not applied to the restored one."""
    with open_bench(empty.folder, settings={}) as bench:
        bench.write("genlive")
        for source in SOURCES:
            leave_wal_behind(bench.live(source))
            bench.live(source).unlink()
    with AppProcess.start(empty.with_settings(**ON)):
        pass
    for source in SOURCES:
        assert generation_of(live_path(empty.folder, source)) == "genset"


def test_a_full_data_directory_is_not_touched(empty: Installation) -> None:
    """Where nothing is missing, a start restores nothing."""
    with open_bench(empty.folder, settings={}) as bench:
        bench.write("genlive")
    with AppProcess.start(empty.with_settings(**ON)):
        pass
    assert restores(empty) == []
    assert generation_of(live_path(empty.folder, "tokens")) == "genlive"


def test_several_workers_restore_once(empty: Installation) -> None:
    """Workers that start together wait for the one that restores."""
    held = empty.backup_dir.run_lease.try_acquire()
    assert held is not None
    with AppProcess(empty.with_settings(**ON), workers=3) as app:
        # While the lease is held here, all of them find that something is missing, and wait.
        begun = "Waiting for application startup"
        eventually(lambda: app.output().count(begun) >= 3, "all workers start")
        time.sleep(0.15)
        held.release()
        eventually(lambda: app.output().count("startup complete") >= 3, "all workers serve")
        for source in SOURCES:
            assert generation_of(live_path(empty.folder, source)) == "genset"
    assert restores(empty) == ["succeeded"]


def test_a_suspect_set_is_neither_restored_nor_forgotten(empty: Installation) -> None:
    """When all there is is suspect, the app does not start, and names the set and the remedies."""
    with open_bench(empty.folder, settings={}) as bench:
        set_id = bench.service.list_sets(1)[0][0].id
        document = bench.manifest_of(set_id) | {"suspect": ["most rows are gone"]}
        changed = signed_manifest(set_id, json.dumps(document).encode())
        bench.replace_manifest(set_id, changed)
    app = AppProcess(empty.with_settings(**ON))
    assert app.wait_until_it_ends() != 0
    for expected in (
        f"the newest restore point, {set_id}, is suspect (most rows are gone)",
        f"./bot backups accept {set_id}",
        f"./bot backups restore {set_id} --in-place --yes",
        "BACKUP_RESTORE_ON_EMPTY=false",
    ):
        assert expected in app.output()
    assert not empty.tokens_path.exists()
    assert empty.cli("accept", set_id).returncode == 0
    with AppProcess.start(empty.with_settings(**ON)):
        assert generation_of(empty.tokens_path) == "genset"


@pytest.mark.parametrize("harm", ["damaged object", "unreachable store", "sealed"])
def test_a_failing_restore_stops_the_start(empty: Installation, harm: str) -> None:
    """The app says why it does not start, and what to do, and creates no empty database."""
    settings = dict(ON)
    with open_bench(empty.folder, settings={}, clock=SystemClock()) as bench:
        bench.forget_copies()
        if harm == "damaged object":
            latest = bench.service.catalogue.latest()
            assert latest is not None
            bench.replace_object(latest.objects[1].key, b"nothing of use")
    if harm == "unreachable store":
        settings |= {
            "SPACES_API_KEY": "key",
            "SPACES_API_SECRET": "secret",
            "SPACES_REGION": REGION,
            "SPACES_BUCKET": "bucket",
            "SPACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        }
    elif harm == "sealed":
        recipients = {"BACKUP_AGE_RECIPIENTS": _PUBLIC}
        with open_bench(empty.folder, settings=recipients, clock=SystemClock()) as bench:
            bench.write("genset")
            bench.made()
            bench.forget_copies()
            for source in SOURCES:
                bring_into("missing", bench.live(source))
    app = AppProcess(empty.with_settings(**settings))
    code = app.wait_until_it_ends()
    output = app.output()
    assert code != 0
    assert "Cannot start." in output
    assert "Traceback" not in output
    if harm != "unreachable store":
        assert "BACKUP_RESTORE_ON_EMPTY=false" in output
    for source in SOURCES:
        assert not live_path(empty.folder, source).exists()


_PUBLIC = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def test_off_by_default_it_starts_empty_and_says_so(empty: Installation) -> None:
    """Status names the command, runs are suspect and do not become `latest`, a restore ends it."""
    with AppProcess.start(empty) as app, app.client() as client:

        def problem() -> dict[str, str] | None:
            found = client.get("/admin/backups").json()["problems"]
            return next((one for one in found if one["code"] == "started_empty"), None)

        hint = eventually(problem, "the problem is in status")["hint"]
        assert "restore --only tokens --in-place --yes" in hint
        before = empty.json("status", exit_code=3)["newest_restore_point"]["id"]

        made = empty.json("run", exit_code=3)["set"]
        assert any("tokens" in reason for reason in made["suspect"])
        status = empty.json("status", exit_code=3)
        assert status["newest_restore_point"]["id"] == before

        restored = empty.cli("restore", "--in-place", "--yes")
        assert restored.returncode == 0, restored.stderr
        assert problem() is None
        assert empty.json("run")["set"]["suspect"] is None
    for source in SOURCES:
        assert generation_of(live_path(empty.folder, source)) == "genset"


def test_a_restart_does_not_hide_an_empty_start(empty: Installation) -> None:
    """The problem stays over restarts until the data are restored."""
    for _ in range(2):
        with AppProcess.start(empty):
            pass
    assert "started_empty" in problems(empty)


@pytest.mark.parametrize("settings", [{}, ON])
def test_a_new_installation_has_no_such_problem(tmp_path: Path, settings: dict[str, str]) -> None:
    """With an empty store a start without databases is a beginning, also after the first set."""
    new = installation_in(tmp_path, **settings)
    with AppProcess.start(new) as app, app.client() as client:
        codes = {found["code"] for found in client.get("/admin/backups").json()["problems"]}
        assert "started_empty" not in codes
        eventually(
            lambda: client.get("/admin/backups").json()["newest_restore_point"],
            "the first set is made",
        )
        codes = {found["code"] for found in client.get("/admin/backups").json()["problems"]}
        assert "started_empty" not in codes
    assert restores(new) == []


def test_one_empty_database_among_two(empty: Installation) -> None:
    """Only the source that was begun anew is suspect."""
    with open_bench(empty.folder, settings={}) as bench:
        bench.write("genlive")
        bring_into("missing", bench.live("tokens"))
    with AppProcess.start(empty):
        pass
    made = empty.json("run", exit_code=3)["set"]
    assert all(reason.startswith("tokens") for reason in made["suspect"])
    assert "created empty" in made["suspect"][0]
    with closing(sqlite3.connect(live_path(empty.folder, "sessions"))) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == 12
