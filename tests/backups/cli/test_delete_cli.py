"""`delete` as a person types it: nothing goes without the id, typed once more."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.app_process import AppProcess
from tests.support.installation import Installation, bot_secrets

pytestmark = pytest.mark.slow


@pytest.fixture
def two_sets(tmp_path: Path) -> Installation:
    """Two good sets."""
    installation = Installation(tmp_path, bot_secrets()).make_databases()
    installation.json("run")
    installation.json("run")
    return installation


def ids(installation: Installation) -> list[str]:
    """The ids that `list` has, newest first."""
    return [one["id"] for one in installation.json("list")["sets"]]


def test_a_set_is_deleted_when_its_id_is_given_again(two_sets: Installation) -> None:
    """Without it, or with another one, exit 2 and the line to type; nothing is changed."""
    newest, oldest = ids(two_sets)
    for more in ((), ("--confirm", newest), ("--confirm", "yes"), ("--json",)):
        done = two_sets.cli("delete", oldest, *more)
        assert done.returncode == 2, done.stderr
        assert f"./bot backups delete {oldest} --confirm {oldest}" in done.stderr
        assert f"set {oldest} of " in done.stderr or more == ("--json",)
    assert ids(two_sets) == [newest, oldest]
    refused = two_sets.cli("delete", newest, "--confirm", newest)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is the newest complete, proven set, and is never deleted" in refused.stderr

    done = two_sets.cli("delete", oldest, "--confirm", oldest)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Set {oldest} is deleted. 1 restore point is kept.\n"
    assert ids(two_sets) == [newest]
    assert two_sets.json("runs")["runs"][0]["operation"] == "delete"
    again = two_sets.cli("delete", oldest, "--confirm", oldest)
    assert again.returncode == 1
    assert f"restore point {oldest} was deleted on purpose" in again.stderr


@pytest.mark.parametrize("typed", ["the id", "another text"])
def test_at_a_terminal_the_id_is_typed(two_sets: Installation, typed: str) -> None:
    """What is typed decides; an empty line or anything else deletes nothing."""
    newest, oldest = ids(two_sets)
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, f"{oldest if typed == 'the id' else 'y'}\n".encode())
        done = subprocess.run(
            two_sets.command("delete", oldest),
            cwd=two_sets.folder,
            env=two_sets.environment,
            stdin=terminal,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert f"Type its id to delete it ({oldest}):" in done.stderr
    if typed == "the id":
        assert (done.returncode, ids(two_sets)) == (0, [newest])
    else:
        assert (done.returncode, ids(two_sets)) == (2, [newest, oldest])


def test_a_route_wants_the_id_confirmed(two_sets: Installation) -> None:
    """It answers with the run; what may not be deleted is a conflict by name."""
    newest, oldest = ids(two_sets)
    with AppProcess.start(two_sets) as app, app.client() as client:
        path = f"/admin/backups/sets/{oldest}/delete"
        unconfirmed = client.post(path, json={"confirm": newest})
        assert (unconfirmed.status_code, unconfirmed.json()["code"]) == (
            409,
            "confirmation_missing",
        )
        refused = client.post(path.replace(oldest, newest), json={"confirm": newest})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_deletable")
        done = client.post(f"{path}?wait=true", json={"confirm": oldest})
        assert (done.status_code, done.json()["status"]) == (200, "succeeded")
        assert (done.json()["operation"], done.json()["set_id"]) == ("delete", oldest)
        assert client.get(f"/admin/backups/sets/{oldest}").status_code == 404
        metrics = client.get("/metrics").text
    assert 'operation="delete",status="succeeded",trigger="manual"} 1.0' in metrics
