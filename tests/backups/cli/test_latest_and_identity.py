"""Commands that take a set by its id or `latest`, and an identity that has to be there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared.clock import SystemClock
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.installation import Installation, bot_secrets, installation_in

pytestmark = pytest.mark.slow


@pytest.fixture
def two_sets(tmp_path: Path) -> Installation:
    """A good set, and a newer one of one source, which protects nothing."""
    installation = Installation(tmp_path, bot_secrets()).make_databases()
    installation.json("run")
    installation.json("run", "--only", "sessions")
    return installation


def latest_of(installation: Installation) -> str:
    """The id of the set that `restore latest` means."""
    found: str = installation.json("restore", "latest")["set"]["id"]
    return found


def test_latest_means_one_set_for_all_commands(two_sets: Installation) -> None:
    """`verify latest`, `verify` and `accept latest` mean the set that `restore latest` does."""
    latest = latest_of(two_sets)
    assert latest != two_sets.json("list")["sets"][0]["id"]
    assert two_sets.json("verify", "latest")["set_id"] == latest
    assert two_sets.json("verify")["set_id"] == latest
    assert two_sets.json("accept", "latest")["id"] == latest
    assert two_sets.cli("accept", "latest").stdout == f"Set {latest} is accepted.\n"
    with AppProcess.start(two_sets) as app, app.client() as client:
        run = client.post("/admin/backups/sets/latest/verify?wait=true").json()
        accepted = client.post("/admin/backups/sets/latest/accept").json()
    assert (run["set_id"], accepted["id"]) == (latest, latest)


def test_a_set_is_pinned_by_command_and_route(two_sets: Installation) -> None:
    """Both show it with its label; a route wants the id confirmed."""
    latest = latest_of(two_sets)
    done = two_sets.cli("pin", "latest", "--label", "<b>before</b> the move")
    assert f"Set {latest} is kept (<b>before</b> the move)" in done.stdout
    assert f"./bot backups unpin {latest}" in done.stdout
    assert "pinned: <b>before</b> the move" in two_sets.cli("list").stdout
    assert two_sets.cli("pin", "latest", "--label", "x" * 101).returncode == 2

    with AppProcess.start(two_sets) as app, app.client() as client:
        sets = f"/admin/backups/sets/{latest}"
        assert client.get(sets).json()["label"] == "<b>before</b> the move"
        assert client.post(f"{sets}/unpin", json={"confirm": "other"}).status_code == 409
        unpinned = client.post(f"{sets}/unpin", json={"confirm": latest}).json()
        assert (unpinned["pinned"], unpinned["label"]) == (False, "")
        refused = client.post(f"{sets}/pin", json={"confirm": latest, "label": "a\nb"})
        assert (refused.status_code, refused.json()["code"]) == (422, "not_pinnable")
    assert two_sets.json("unpin", latest)["pinned"] is False


@pytest.mark.parametrize("command", ["verify", "accept", "restore"])
def test_latest_of_nothing_is_an_error(tmp_path: Path, command: str) -> None:
    """Where there is no restore point, each of them says so."""
    done = Installation(tmp_path).make_databases().cli(command, "latest")
    assert done.returncode == 1
    assert "there is no" in done.stderr
    assert "restore point" in done.stderr


def test_accept_latest_names_the_suspect_set_that_it_passed_over(tmp_path: Path) -> None:
    """`latest` is never a suspect set: whoever meant that one gets the line to type."""
    with open_bench(tmp_path, settings={}, clock=SystemClock()) as bench:
        bench.write("genlive", rows=100)
        bench.made()
        with closing(sqlite3.connect(bench.live("tokens"))) as connection, connection:
            connection.execute("DELETE FROM tokens WHERE rowid > 3")
        suspect = bench.made()
        assert suspect.suspect
    done = installation_in(tmp_path).cli("accept", "latest")
    assert done.returncode == 0
    assert f"{suspect.id}, is still suspect" in done.stdout
    assert f"./bot backups accept {suspect.id}" in done.stdout


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        ("no key\n", "holds no age identity"),
        (b"\xff\xfe", "cannot be read: it is not text"),
    ],
    ids=["no file", "no identity", "no text"],
)
def test_a_drill_with_an_identity_that_is_none_fails(
    two_sets: Installation, content: str | bytes | None, why: str
) -> None:
    """Also when nothing is sealed: a rehearsal on the wrong identity would be believed."""
    identity = two_sets.folder / "identity.txt"
    if isinstance(content, bytes):
        identity.write_bytes(content)
    elif content is not None:
        identity.write_text(content)
    done = two_sets.cli("drill", "--identity", str(identity))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{identity} {why}" in done.stderr
    assert two_sets.json("runs")["runs"][0]["operation"] != "drill"


def test_a_drill_with_an_identity_passes_where_nothing_is_sealed(two_sets: Installation) -> None:
    """An identity that is one does no harm."""
    two_sets.json("keygen", "--to", "identity.txt")
    assert two_sets.cli("drill", "--identity", "identity.txt").returncode == 0
