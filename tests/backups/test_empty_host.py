"""The replacement host, between `list` and `restore`: one line, the right one, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backups.page.overview import gather
from backups.wiring import open_service
from tests.support.app_process import AppProcess
from tests.support.installation import Installation, installation_in, settings_of

LINE = (
    "This host is empty, and the store has 2 restore points: ./bot backups restore --in-place --yes"
)


@pytest.fixture
def replacement(tmp_path: Path) -> Installation:
    """A host with the settings of one that burned down, whose store has two sets; it has listed."""
    old = installation_in(tmp_path / "old").make_databases()
    for _ in range(2):
        assert old.cli("run").returncode == 0
    new = installation_in(
        tmp_path / "new", BACKUP_LOCAL_STORE=str(tmp_path / "store"), BACKUP_RUN_BY="cron"
    )
    shutil.move(old.folder / "data" / "spaces", tmp_path / "store")
    new.folder.mkdir()
    assert new.cli("list").returncode == 0
    return new


def test_status_of_a_replacement_host_is_one_line(replacement: Installation) -> None:
    """No word of another installation, nor of a backup that nobody should make now."""
    done = replacement.cli("status")
    assert (done.stdout.strip(), done.returncode) == (LINE, 3)

    document = replacement.json("status", exit_code=3)
    assert [one["code"] for one in document["problems"]] == ["host_is_empty"]
    assert document["problems"][0]["hint"] == "./bot backups restore --in-place --yes"
    assert document["warnings"] == []


def test_doctor_of_a_replacement_host_has_one_line_of_backups(replacement: Installation) -> None:
    """Neither does it call the databases missing one by one, nor advise another command."""
    lines = replacement.json("doctor", exit_code=3)["lines"]
    problems = [one for one in lines if one["level"] == "problem"]
    assert [one["message"] for one in problems] == [
        "This host is empty, and the store has 2 restore points [host_is_empty]"
    ]


def test_the_page_offers_the_restore_and_no_backup(replacement: Installation) -> None:
    """What the page shows is the same problem, with a link in place of the button."""
    with open_service(settings_of(replacement)) as service:
        found = gather(service, service.clock.now())
    assert found.headline.code == "host_is_empty"
    assert found.headline.title == "This host is empty"
    assert found.headline.others == ()


@pytest.mark.slow
def test_the_app_of_a_host_that_may_begin_empty_shows_the_restore(
    replacement: Installation,
) -> None:
    """Over HTTP an app that began empty has the same problem, and no other, before any backup."""
    # The app does not schedule: nothing is made beside the restore points.
    held = replacement.backup_dir.scheduler_lease.try_acquire()
    assert held is not None
    app_host = replacement.with_settings(BACKUP_RESTORE_ON_EMPTY="false")
    try:
        with AppProcess.start(app_host) as app, app.client() as client:
            status = client.get("/admin/backups").json()
    finally:
        held.release()
    assert [one["code"] for one in status["problems"]] == ["host_is_empty"]


def test_the_advice_is_right(replacement: Installation) -> None:
    """The command that the line names brings all back, and then the line is gone."""
    assert replacement.cli("restore", "--in-place", "--yes").returncode == 0
    status = replacement.cli("status").stdout
    assert "This host is empty" not in status
    assert "another installation" not in status


def test_a_host_that_is_new_with_an_empty_store_is_no_replacement(tmp_path: Path) -> None:
    """There the advice is to make the first backup."""
    new = installation_in(tmp_path)
    assert new.cli("list").returncode == 0
    assert "./bot backups run" in new.cli("status").stdout
