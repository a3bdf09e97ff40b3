"""Restore, undo, drill, keys and doctor on the command line, with a real app running."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shared.clock import SystemClock
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.contract import RUN
from tests.support.generations import (
    BESIDE_TOKENS,
    LIVE_STATES,
    SOURCES,
    LiveStateName,
    bring_into,
    connect,
    generation_of,
    live_path,
    write_generation,
)
from tests.support.installation import Installation, bot_secrets, installation_in
from tests.support.storage_process import StorageProcess
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PLAN = {
    *("set", "age_seconds", "host", "items", "blockers", "warnings", "confirm"),
    *("made_here", "place", "from", "local_copies", "passed_over", "estimate"),
}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A set with `genset`, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}, clock=SystemClock()) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
    return installation_in(tmp_path)


def rows(tokens: int) -> dict[str, int]:
    """What `tokens.db` holds with so many tokens of nobody."""
    return {"tokens": tokens, **dict.fromkeys(BESIDE_TOKENS, 0)}


def set_id_of(installation: Installation) -> str:
    """The id of the set."""
    found: str = installation.json("list")["sets"][-1]["id"]
    return found


def generations(installation: Installation) -> set[str]:
    """What the live databases hold."""
    return {generation_of(live_path(installation.folder, source)) for source in SOURCES}


def seen_by_another_process(path: Path, key: str) -> bool:
    """Whether another process finds a token under `key` in the file at the path."""
    code = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("
        "'SELECT count(*) FROM tokens WHERE key = ?', (sys.argv[2],)).fetchone()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path), key],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip() == "1"


def test_without_a_destination_the_plan_is_printed_and_nothing_changes(
    installation: Installation,
) -> None:
    """The plan names the restore point, its rows, what would be replaced, and the commands."""
    done = installation.cli("restore")
    assert done.returncode == 0, done.stderr
    set_id = set_id_of(installation)
    for expected in (
        set_id,
        "tokens 12 rows",
        "tokens.db now: ",
        "Nothing was changed",
        f"restore {set_id} --in-place --yes",
        "--to DIR",
    ):
        assert expected in done.stdout
    assert generations(installation) == {"genlive"}
    runs = installation.json("runs")["runs"]
    assert [run["operation"] for run in runs] == ["backup"]


def test_the_plan_as_json(installation: Installation) -> None:
    """`restore --json` prints the plan as one document."""
    plan = installation.json("restore")
    assert set(plan) == PLAN
    assert plan["confirm"] == plan["set"]["id"] == set_id_of(installation)
    assert plan["blockers"] == plan["warnings"] == []
    assert [item["source"] for item in plan["items"]] == ["tokens", "sessions"]
    assert plan["items"][0]["rows"] == plan["items"][0]["live_rows"] == rows(12)
    assert plan["items"][0]["state"] == "healthy"
    assert plan["age_seconds"] >= 0


def test_in_place_needs_yes(installation: Installation) -> None:
    """Without `--yes` nothing happens, exit 2, and the message says what to add."""
    done = installation.cli("restore", "--in-place")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert generations(installation) == {"genlive"}


def test_restore_undo_and_undo_again(installation: Installation) -> None:
    """In place, then the plan of the undo, then the undo, and back."""
    done = installation.cli("restore", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert "restore --undo --yes" in done.stdout
    assert generations(installation) == {"genset"}

    plan = installation.cli("restore", "--undo")
    assert plan.returncode == 0
    assert "Nothing was changed" in plan.stdout
    assert generations(installation) == {"genset"}
    document = installation.json("restore", "--undo")
    assert {item["kind"] for item in document["items"]} == {"copy"}

    run = installation.json("restore", "--undo", "--yes")
    assert set(run) == RUN
    assert (run["operation"], run["status"]) == ("restore", "succeeded")
    assert generations(installation) == {"genlive"}
    assert installation.cli("restore", "--undo", "--yes").returncode == 0
    assert generations(installation) == {"genset"}


def test_nothing_to_undo(installation: Installation) -> None:
    """Without a restore, undo fails with exit 1 and says what else to do."""
    done = installation.cli("restore", "--undo", "--yes")
    assert done.returncode == 1
    assert "./bot backups list" in done.stderr


@pytest.mark.parametrize("state", LIVE_STATES)
def test_with_the_app_running_its_later_writes_land_at_the_path(
    installation: Installation, state: LiveStateName
) -> None:
    """In each state: the app goes on, and another process sees in the file what is written then.

    Changes are not followed: the newest point is the set, whenever a follower would have looked.
    """
    installation = installation.with_settings(BACKUP_CHANGE_DELAY="0")
    with AppProcess.start(installation) as app, StorageProcess(installation) as storages:
        assert storages.put("before") is None
        for source in SOURCES:
            bring_into(state, live_path(installation.folder, source))
        done = installation.cli("restore", "--in-place", "--yes")
        assert done.returncode == 0, done.stderr
        assert "serves it already, and makes a new restore point" in done.stdout
        restored_at = installation.json("runs")["runs"][0]["started_at"]
        assert storages.put("after") is None
        assert seen_by_another_process(installation.tokens_path, "after")
        assert not seen_by_another_process(installation.tokens_path, "before")
        with app.client() as client:
            assert client.get("/healthz").status_code == 200
            # The app makes a point by itself; its own next backup has what was written afterwards.
            eventually(
                lambda: str(client.get("/admin/backups").json()["newest_point_at"]) > restored_at,
                "the app makes a restore point of what was restored",
            )
            eventually(
                lambda: client.get("/admin/backups").json()["running"] is None, "that run is over"
            )
            made = client.post("/admin/backups/run?wait=true").json()
            assert made["status"] == "succeeded", made
            (tokens,) = (
                stored
                for stored in client.get(f"/admin/backups/sets/{made['set_id']}").json()["objects"]
                if stored["source"] == "tokens"
            )
            assert tokens["rows"] == rows(13)
    assert seen_by_another_process(installation.tokens_path, "after")


def test_to_a_folder(installation: Installation) -> None:
    """`--to` writes both files and says so; a second time it refuses with exit 1."""
    done = installation.cli("restore", "--to", "target")
    assert done.returncode == 0, done.stderr
    for source in SOURCES:
        assert generation_of(installation.folder / "target" / f"{source}.db") == "genset"
    again = installation.json("restore", "--to", "target", exit_code=1)
    assert again["error"]["code"] == "target_occupied"
    assert generations(installation) == {"genlive"}


def test_one_source(installation: Installation) -> None:
    """`--only` restores one, and an unknown name is a usage error."""
    done = installation.cli("restore", "--only", "sessions", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert generation_of(installation.tokens_path) == "genlive"
    assert generation_of(installation.sessions_path) == "genset"
    assert installation.cli("restore", "--only", "other").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["restore", "20200101T000000Z"], 1),
        (["restore", "../../etc"], 1),
        (["restore", "--at", "2020-01-01"], 1),
        (["restore", "--at", "yesterday"], 2),
        (["restore", "--to", "x", "--in-place"], 2),
        (["restore", "--undo", "--in-place"], 2),
        (["restore", "20200101T000000Z", "--at", "2020-01-01"], 2),
        (["restore", "20200101T000000Z", "--undo"], 2),
        (["restore", "--undo", "--at", "2020-01-01"], 2),
        (["restore", "--undo", "--only", "tokens"], 2),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(
    installation: Installation, arguments: list[str], code: int
) -> None:
    """An unknown restore point is exit 1, what cannot be understood exit 2."""
    done = installation.cli(*arguments)
    assert done.returncode == code, done.stderr
    assert generations(installation) == {"genlive"}


@pytest.mark.parametrize("named", ["/proc/restored", "a-file", "a-file/below"])
def test_a_folder_that_cannot_be_written_is_named(installation: Installation, named: str) -> None:
    """`--to` where nothing can be written: exit 1, and the hint speaks of `--to`."""
    (installation.folder / "a-file").touch()
    done = installation.cli("restore", "--to", named)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Choose a folder for --to" in done.stderr
    assert "BACKUP_DIR" not in done.stderr
    assert installation.json("runs")["runs"][0]["error"]["code"] == "target_unusable"


def test_another_run_in_progress(installation: Installation) -> None:
    """While the lease is held, restore, undo and drill exit 4 and touch nothing."""
    assert installation.cli("restore", "--in-place", "--yes").returncode == 0
    held = installation.backup_dir.run_lease.try_acquire()
    assert held is not None
    try:
        asked = ("restore --in-place --yes", "restore --undo --yes", "drill")
        with ThreadPoolExecutor(len(asked)) as side_by_side:  # each waits for the lease
            done = list(side_by_side.map(lambda words: installation.cli(*words.split()), asked))
        assert [one.returncode for one in done] == [4, 4, 4]
        assert installation.cli("restore").returncode == 0  # the plan needs no lease
    finally:
        held.release()
    assert generations(installation) == {"genset"}


def test_a_failing_restore(installation: Installation) -> None:
    """Exit 1, the error on standard error and in the run log, and nothing live has changed."""
    with open_bench(installation.folder, settings={}, clock=SystemClock()) as bench:
        bench.forget_copies()
        latest = bench.service.catalogue.latest()
        assert latest is not None
        bench.replace_object(latest.objects[0].key, bytes(latest.objects[0].bytes))
    done = installation.cli("restore", "--in-place", "--yes")
    assert done.returncode == 1
    assert latest.objects[0].key in done.stderr
    assert installation.json("runs")["runs"][0]["error"]["code"] == "proof_failed"
    assert generations(installation) == {"genlive"}


def test_drill(installation: Installation) -> None:
    """`drill` prints rows and seconds, and its JSON has the report."""
    done = installation.cli("drill")
    assert done.returncode == 0, done.stderr
    assert "24 rows, 0 unreadable" in done.stdout
    document = installation.json("drill")
    assert set(document) == RUN | {"drill"}
    assert document["operation"] == "drill"
    assert document["drill"]["rows"] == 24
    assert document["drill"]["seconds"] > 0
    assert installation.json("status", exit_code=_status_code(installation))["last_drill"]


def _status_code(installation: Installation) -> int:
    return installation.cli("status").returncode


def test_keygen_then_seal_then_restore(installation: Installation) -> None:
    """The pair that `keygen` makes seals a set that only its identity opens."""
    made = installation.json("keygen", "--to", "identity.txt")
    path = installation.folder / "identity.txt"
    assert made["identity_file"] == "identity.txt"
    sealed = installation.with_settings(
        BACKUP_COMPRESSION="zstd", BACKUP_AGE_RECIPIENTS=made["public_key"]
    )
    run = sealed.json("run")
    assert run["set"]["proof"] == "sealed"
    assert all(stored["key"].endswith(".db.zst.age") for stored in run["set"]["objects"])
    for stored in run["set"]["objects"]:
        assert not installation.stored(stored["key"]).read_bytes().startswith(b"SQLite")
    with open_bench(installation.folder, settings={}, clock=SystemClock()) as bench:
        bench.forget_copies()
    blocked = sealed.cli("restore")
    assert blocked.returncode == 1
    assert "identity_missing" in blocked.stdout
    assert sealed.cli("restore", "--in-place", "--yes").returncode == 1
    assert sealed.cli("drill").returncode == 1
    drilled = sealed.cli("drill", "--identity", str(path))
    assert drilled.returncode == 0, drilled.stderr
    opened = sealed.with_settings(BACKUP_AGE_IDENTITY_FILE=str(path))
    write_generation(installation.folder, "genlater")
    done = opened.cli("restore", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert generations(installation) == {"genlive"}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_keygen_keeps_the_secret_in_a_private_file(tmp_path: Path, as_json: list[str]) -> None:
    """The identity is 0600, is not printed, is not overwritten, and needs no settings."""
    plain = Installation(tmp_path, {"TOKEN_DB_PATH": "x", "HOME": str(tmp_path)})
    done = plain.cli("keygen", *as_json)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "backup-identity.txt"
    content = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = next(line for line in content.splitlines() if line.startswith("AGE-SECRET-KEY-1"))
    public = content.splitlines()[0].removeprefix("# public key: ")
    assert public in done.stdout
    assert secret not in done.stdout + done.stderr
    if not as_json:
        assert "BACKUP_AGE_RECIPIENTS=" in done.stdout
    again = plain.cli("keygen", *as_json)
    assert again.returncode == 1
    assert "not overwritten" in again.stderr
    assert path.read_text() == content
    other = plain.cli("keygen", "--to", "no/such/folder/identity")
    assert other.returncode == 1
    assert "cannot be written" in other.stderr


def test_doctor_says_what_to_do(installation: Installation) -> None:
    """Exit 0 and `There are no problems.`, or exit 3 with the remedy under the line."""
    well = installation.cli("doctor", "--write")
    assert well.returncode == 0, well.stdout
    assert "There are no problems." in well.stdout
    last = well.stdout.splitlines()[-1]
    assert re.search(r"\d warnings?\. The light is amber: Backed up, on this disk only\.$", last)
    bring_into("corrupt header", installation.tokens_path)
    ill = installation.cli("doctor")
    assert ill.returncode == 3
    assert "-> Restore it: ./bot backups restore --in-place --yes" in ill.stdout


def test_nothing_secret_is_ever_printed(installation: Installation) -> None:
    """No command shows a key, a token or a value, whatever it prints."""
    secrets = [*bot_secrets().values()]
    with closing(connect(installation.tokens_path)) as connection:
        secrets += [row[0] for row in connection.execute("SELECT value FROM tokens")]
    for arguments in (
        ["restore"],
        ["restore", "--in-place", "--yes"],
        ["restore", "--undo", "--yes", "--json"],
        ["drill", "--json"],
        ["doctor", "--json"],
    ):
        done = installation.cli(*arguments)
        for secret in secrets:
            assert secret not in done.stdout + done.stderr


def test_a_restore_without_the_store(installation: Installation) -> None:
    """On a bad day the store may be away as well: local records and copies bring the data back."""
    installation.stored("").rename(installation.folder / "not-mounted")
    done = installation.cli("restore", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert generations(installation) == {"genset"}


@pytest.mark.parametrize("command", ["restore", "report"])
def test_help_says_the_form_of_a_time(installation: Installation, command: str) -> None:
    """Where `--help` has TIME, it has one that the command takes."""
    shown = " ".join(installation.cli(command, "--help").stdout.split())
    (form,) = set(re.findall(r"UTC time such as (\S+?)[,;]? ", f"{shown} "))
    option = "--at" if command == "restore" else "--since"
    done = installation.cli(command, option, form)
    assert done.returncode != 2 or "such as" not in done.stderr
