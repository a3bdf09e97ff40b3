"""The command line: `./bot backups` as a process, judged by its streams and exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from shared.clock import parse_utc
from tests.support.contract import check_problem, check_run, check_set, check_status
from tests.support.fault_proxy import FaultProxy, refuse
from tests.support.installation import (
    REPOSITORY,
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
    spaces,
)
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) backups\.[a-z_.]+: .+")


@pytest.fixture
def empty(tmp_path: Path) -> Installation:
    """An installation without databases and without any setting but a schedule."""
    return Installation(tmp_path)


@pytest.fixture
def installation(empty: Installation) -> Installation:
    """An installation with both databases, and without the bot's secrets."""
    return empty.make_databases()


# --- run --------------------------------------------------------------------------------


def test_run_tells_a_person_what_is_stored_where(installation: Installation) -> None:
    """`run` says which objects it stored, that they are proven, and when the next run is."""
    done = installation.cli("run")
    assert done.returncode == 0
    assert "read back and proven" in done.stdout
    for source, rows in (("tokens", 3), ("sessions", 2)):
        line = rf"  backups/{source}_\d{{4}}-\d\d-\d\d\.db  [\d,]+ bytes, {rows} rows"
        assert re.search(line, done.stdout), done.stdout
    assert re.search(r"Next scheduled backup: \S+Z$", done.stdout.strip())


def test_quiet_commands_say_nothing_when_all_is_well(installation: Installation) -> None:
    """What cron would send is nothing; what is wrong is said as ever."""
    red = installation.cli("status", "--quiet")
    assert (red.returncode, red.stdout) == (3, installation.cli("status").stdout)
    assert red.stdout

    for command in ("run", "verify", "drill", "prune", "status"):
        well = installation.cli(command, "--quiet")
        assert (well.returncode, well.stdout, well.stderr) == (0, "", ""), command
    assert installation.json("run", "--quiet")["set"]["complete"]

    installation.tokens_path.rename(installation.tokens_path.with_suffix(".away"))
    failed = installation.cli("run", "--quiet")
    assert failed.returncode == 1
    assert "tokens" in failed.stderr


def test_run_json_is_the_run_with_its_set(installation: Installation) -> None:
    """`run --json` prints the run and its set, with the contract's names, and nothing else."""
    document = installation.json("run")
    made = check_set(document.pop("set"))
    run = check_run(document)
    assert (run["status"], run["trigger"], run["operation"]) == ("succeeded", "manual", "backup")
    assert run["set_id"] == made["id"]
    assert made["complete"]
    assert made["proof"] == "full"
    assert parse_utc(made["proven_at"]) >= parse_utc(made["created_at"])
    rows = {stored["source"]: stored["rows"] for stored in made["objects"]}
    of_tokens = {"tokens": 3, "requests": 0, "owners": 0}
    assert rows == {"tokens": of_tokens, "sessions": {"sessions": 2}}
    for stored in made["objects"]:
        assert installation.stored(stored["key"]).stat().st_size == stored["bytes"]


def test_logs_go_to_standard_error(installation: Installation) -> None:
    """Standard output has the one document; the lines of each source are on standard error."""
    done = installation.cli("run", "--json")
    json.loads(done.stdout)
    assert all(LOG_LINE.fullmatch(line) for line in done.stderr.splitlines()), done.stderr
    for logger in ("backups.run", "backups.tokens", "backups.sessions"):
        assert f" {logger}: " in done.stderr


def test_json_logs_are_one_object_a_line(installation: Installation) -> None:
    """With `LOG_FORMAT=json` every line of the log is a JSON object that names its logger."""
    done = installation.with_settings(LOG_FORMAT="json").cli("run", "--json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"backups.run", "backups.tokens", "backups.sessions"} <= {
        line["logger"] for line in lines
    }


def test_log_files_hold_the_lines_of_each_source(installation: Installation) -> None:
    """With `BACKUP_LOG_DIR`, each source's lines are also in a private file of its own."""
    done = installation.with_settings(BACKUP_LOG_DIR="logs").cli("run")
    assert done.returncode == 0
    for source, other in (("tokens", "sessions"), ("sessions", "tokens")):
        path = installation.folder / "logs" / f"backup_{source}.log"
        assert path.stat().st_mode & 0o777 == 0o600
        assert f"backups.{source}: proven" in path.read_text()
        assert f"backups.{other}:" not in path.read_text()


def test_run_only_one_source(installation: Installation) -> None:
    """`run --only` makes a set that is listed and does not count as protection."""
    document = installation.json("run", "--only", "tokens")
    assert not document["set"]["complete"]
    assert [stored["source"] for stored in document["set"]["objects"]] == ["tokens"]
    assert [one["id"] for one in installation.json("list")["sets"]] == [document["set_id"]]
    status = installation.json("status", exit_code=3)
    assert [problem["code"] for problem in status["problems"]] == ["no_restore_point"]
    assert "does not count as protection" in installation.cli("run", "--only", "tokens").stdout


def test_run_of_an_unknown_source_is_a_usage_error(installation: Installation) -> None:
    """`run --only nope` exits 2, names the sources there are, and makes no run."""
    done = installation.cli("run", "--only", "nope")
    assert done.returncode == 2
    assert "tokens, sessions" in done.stderr
    assert installation.json("runs")["runs"] == []


def test_run_and_list_need_none_of_the_bots_secrets(installation: Installation) -> None:
    """The backup commands work from a `.env` whose secrets are blank, but for the token keys."""
    shutil.copy(REPOSITORY / ".env.example", installation.folder / ".env")
    assert not set(bot_secrets()) & set(installation.environment)
    installation = installation.with_settings(TOKEN_ENCRYPTION_KEYS=TOKEN_ENCRYPTION_KEY)
    made = installation.json("run")
    assert [one["id"] for one in installation.json("list")["sets"]] == [made["set_id"]]


# --- failures ---------------------------------------------------------------------------


def damage(path: Path) -> None:
    """Overwrite the pages after the first two."""
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("code", "harm"),
    [
        ("database_missing", Path.unlink),
        ("database_empty", lambda path: path.write_bytes(b"")),
        ("database_not_sqlite", lambda path: path.write_bytes(b"text " * 2000)),
        ("database_corrupt", damage),
    ],
    ids=["missing", "empty", "not SQLite", "corrupt"],
)
def test_a_source_that_cannot_be_read(
    installation: Installation, code: str, harm: Callable[[Path], object]
) -> None:
    """A bad source fails the run by name with a remedy, exit 1; the other source is stored."""
    installation.make_databases(tokens=200)
    harm(installation.tokens_path)
    done = installation.cli("run")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "tokens" in done.stderr
    assert "restore" in done.stderr
    document = installation.json("run", exit_code=1)
    assert document.pop("set") is None
    run = check_run(document)
    assert (run["status"], run["error"]["code"], run["stage"]) == ("failed", code, "snapshot")
    stored = installation.json("list")["sets"]
    assert {one["complete"] for one in stored} == {False}
    assert {found["source"] for one in stored for found in one["objects"]} == {"sessions"}
    status = check_status(installation.json("status", exit_code=3))
    assert "last_run_failed" in [problem["code"] for problem in status["problems"]]
    assert not list(installation.folder.glob("data/spaces/backups/tokens*.db"))


def test_a_store_that_cannot_be_written(installation: Installation) -> None:
    """A store whose folder is a file fails the run in the stage that checks the store."""
    (installation.folder / "data" / "spaces").write_text("in the way")
    document = installation.json("run", exit_code=1)
    assert document["set"] is None
    assert document["stage"] == "check"
    assert document["error"]["code"] == "store_error"


def test_wrong_settings_are_named_all_at_once(installation: Installation) -> None:
    """Settings that cannot be used stop every command with one message, and exit 2."""
    wrong = installation.with_settings(
        BACKUP_SCHEDULE="61 * * * *",
        PORT="many",
        SPACES_BUCKET="my-bucket",
        LOG_FORMAT="xml",
        ADMIN_TOKEN="too-short",
        TOKEN_ENCRYPTION_KEYS="no-fernet-key",
    )
    unset = {"SPACES_API_KEY", "SPACES_API_SECRET", "SPACES_REGION", "SPACES_ENDPOINT"}
    names = set(wrong.settings) - {"SPACES_BUCKET"} | unset
    for command in ("run", "status", "list", "runs", "verify"):
        done = wrong.cli(command)
        assert done.returncode == 2
        assert done.stdout == ""
        assert set(re.findall(r"^  ([A-Z_]+):", done.stderr, re.MULTILINE)) == names
        assert "Traceback" not in done.stderr
        assert "too-short" not in done.stderr
        assert "no-fernet-key" not in done.stderr
    assert not (installation.folder / "data" / "backups").exists()


def test_wrong_settings_as_json(installation: Installation) -> None:
    """With `--json`, a command that cannot start prints a problem document as its one document."""
    problem = installation.with_settings(PORT="0").json("run", exit_code=2)
    assert check_problem(problem)["code"] == "settings"
    assert "PORT" in problem["detail"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["nope"], ["run", "--nope"], ["list", "--limit", "0"], ["runs", "--limit", "many"]],
)
def test_usage_errors(installation: Installation, arguments: list[str]) -> None:
    """A command line that means nothing exits 2 and says how it is used."""
    done = installation.cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: ./bot backups")


def test_a_held_lease_is_exit_4(installation: Installation) -> None:
    """While another process holds the run lease, a run exits 4; looking around still works."""
    installation.json("run")
    held = installation.backup_dir.run_lease.try_acquire()
    assert held is not None
    try:
        problem = installation.json("run", exit_code=4)
        assert check_problem(problem, "run_id")["code"] == "run_in_progress"
        for look in ("status", "list", "runs"):
            assert installation.cli(look).returncode == 0
    finally:
        held.release()
    assert installation.cli("run").returncode == 0


@pytest.mark.parametrize(
    ("end", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_run_that_is_stopped(
    installation: Installation, end: signal.Signals, exit_code: int
) -> None:
    """A stopped run ends at once and quietly, publishes nothing, and is told as interrupted."""
    with (
        installation.locked_tokens(),
        subprocess.Popen(
            installation.command("run", "--json"),
            cwd=installation.folder,
            env=installation.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Behind a shell's `&` Ctrl-C is ignored, and so it would be here.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        ) as process,
    ):
        eventually(
            lambda: (
                (installation.json("status", exit_code=3)["running"] or {}).get("stage")
                == "snapshot"
            ),
            "the run waits in its snapshot stage",
        )
        process.send_signal(end)
        output, log = process.communicate(timeout=5)
    assert process.returncode == exit_code
    assert output == ""
    assert "Traceback" not in log
    status = installation.json("status", exit_code=3)
    assert status["running"] is None
    assert status["last_run"]["status"] == "interrupted"
    assert installation.json("list")["sets"] == []
    assert installation.json("run")["status"] == "succeeded"
    assert not list(installation.folder.glob("data/backups/staging/*"))


@pytest.mark.parametrize("command", ["list", "runs", "status"])
def test_a_reader_that_has_gone(installation: Installation, command: str) -> None:
    """When nobody reads standard output, a command ends without a word of complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as output:
        done = subprocess.run(
            installation.command(command),
            cwd=installation.folder,
            env=installation.environment,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b""


# --- status, list, runs, verify ---------------------------------------------------------


def test_status_of_an_empty_installation(empty: Installation) -> None:
    """Before the first backup, status is exit 3 with `no_restore_point` and what to do."""
    status = check_status(empty.json("status", exit_code=3))
    assert not status["healthy"]
    assert [problem["code"] for problem in status["problems"]] == ["no_restore_point"]
    assert {warning["code"] for warning in status["warnings"]} == {"not_offsite", "kit_not_kept"}
    assert status["restore_points"] == 0
    assert status["schedule"]["owner"] is None
    done = empty.cli("status")
    assert done.returncode == 3
    assert done.stdout.startswith("NOT HEALTHY.")
    assert "./bot backups run" in done.stdout


def test_lists_of_an_empty_installation(empty: Installation) -> None:
    """`list` and `runs` of an empty installation are empty, not errors."""
    listed = empty.json("list")
    assert (listed["sets"], listed["next"], listed["error"]) == ([], None, None)
    assert empty.json("runs") == {"runs": [], "next": None}
    assert "no restore points" in empty.cli("list").stdout
    assert "no runs" in empty.cli("runs").stdout


def test_status_after_a_run(installation: Installation) -> None:
    """After a good run, status is exit 0 and names the run, the set and the target."""
    made = installation.json("run")
    status = check_status(installation.json("status"))
    assert status["healthy"]
    assert status["last_run"]["id"] == status["last_success"]["id"] == made["id"]
    assert status["newest_restore_point"] == made["set"]
    assert status["restore_points"] == 1
    assert status["target"]["kind"] == "directory"
    assert not status["target"]["offsite"]
    assert status["target"]["last_contact_at"] >= made["started_at"]
    assert status["schedule"]["cron"] == installation.environment["BACKUP_SCHEDULE"]
    done = installation.cli("status")
    assert done.returncode == 0
    assert done.stdout.startswith("Backed up, on this disk only.")
    assert made["set_id"] in done.stdout


def test_lists_are_paged(installation: Installation) -> None:
    """`--limit` and `--before` walk `list` and `runs` from the newest to the oldest."""
    made = [installation.json("run") for _ in range(3)][::-1]
    for command, name, ids in (
        ("list", "sets", [run["set_id"] for run in made]),
        ("runs", "runs", [run["id"] for run in made]),
    ):
        first = installation.json(command, "--limit", "2")
        assert [one["id"] for one in first[name]] == ids[:2]
        assert first["next"] == ids[1]
        second = installation.json(command, "--limit", "2", "--before", first["next"])
        assert [one["id"] for one in second[name]] == ids[2:]
        assert second["next"] is None
        shown = installation.cli(command, "--limit", "2").stdout
        assert f"--before {ids[1]}" in shown
        assert ids[2] not in shown
    for one in installation.json("list")["sets"]:
        check_set(one)
    for one in installation.json("runs")["runs"]:
        check_run(one)


def test_one_run(installation: Installation) -> None:
    """`runs ID` shows one run, and an unknown id is exit 1 with the way to the others."""
    made = installation.json("run")
    assert installation.json("runs", made["id"]) == {
        name: value for name, value in made.items() if name != "set"
    }
    assert made["id"] in installation.cli("runs", made["id"]).stdout
    problem = installation.json("runs", "nope", exit_code=1)
    assert check_problem(problem)["code"] == "run_not_found"


def test_verify_proves_again(installation: Installation) -> None:
    """`verify` reads a set back once more and moves its `proven_at`; by default the newest."""
    older, newer = installation.json("run"), installation.json("run")
    run = check_run(installation.json("verify"))
    assert (run["operation"], run["status"], run["set_id"]) == (
        "verify",
        "succeeded",
        newer["set_id"],
    )
    again = {one["id"]: one for one in installation.json("list")["sets"]}
    assert again[newer["set_id"]]["proven_at"] > newer["set"]["proven_at"]
    assert again[older["set_id"]]["proven_at"] == older["set"]["proven_at"]
    done = installation.cli("verify", older["set_id"])
    assert done.returncode == 0
    assert older["set_id"] in done.stdout


def test_verify_of_a_changed_object(installation: Installation) -> None:
    """`verify` of a set whose object has changed is exit 1, and the set no longer protects."""
    made = installation.json("run")
    stored = installation.stored(made["set"]["objects"][0]["key"])
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    run = check_run(installation.json("verify", made["set_id"], exit_code=1))
    assert run["error"]["code"] == "proof_failed"
    assert installation.json("list")["sets"][0]["proof"] == "none"
    status = installation.json("status", exit_code=3)
    assert status["newest_restore_point"] is None


def test_verify_without_a_set(empty: Installation) -> None:
    """`verify` of what does not exist is exit 1 with the way to what does."""
    cases = {
        ("verify",): ("no_restore_point", "./bot backups run"),
        ("verify", "20260101T000000Z"): ("set_not_found", "./bot backups list"),
    }
    for arguments, (code, remedy) in cases.items():
        problem = empty.json(*arguments, exit_code=1)
        assert check_problem(problem)["code"] == code
        assert remedy in problem["hint"]


def test_list_without_the_store(
    installation: Installation, s3_server: S3Server, bucket: str
) -> None:
    """`list` shows local records, and says that it does, when the store cannot be asked."""
    with FaultProxy(s3_server.endpoint) as proxy:
        behind = installation.with_settings(**spaces(proxy.settings(s3_server.settings(bucket))))
        made = behind.json("run")
        proxy.on(refuse(403, "AccessDenied"))
        done = behind.cli("list", "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["sets"] == [made["set"]]
        assert done.stderr.startswith("From local records only, as of ")
        assert "SPACES_BUCKET" in done.stderr


# --- progress ---------------------------------------------------------------------------


def on_a_terminal(installation: Installation, *arguments: str) -> tuple[int, str]:
    """Run a command with a terminal of 120 columns as its standard error; what that showed."""
    terminal, line = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with (
        closing(os.fdopen(terminal, "rb", buffering=0)) as screen,
        subprocess.Popen(
            installation.command(*arguments),
            cwd=installation.folder,
            env={**installation.environment, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=line,
        ) as process,
    ):
        os.close(line)
        shown = bytearray()
        with suppress(OSError):  # EIO: the other side has closed
            while chunk := screen.read(65536):
                shown += chunk
    return process.returncode, shown.decode()


def test_progress_on_a_terminal(installation: Installation) -> None:
    """On a terminal every stage of a source shows its bytes, its rate and the time left."""
    installation.grow_tokens(megabytes=24)
    exit_code, shown = on_a_terminal(installation, "run")
    assert exit_code == 3  # what it grew by is no token, so the set is suspect
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    for stage in ("snapshot", "store", "proof"):
        bar = rf"{stage} tokens .* ([\d.]+)/\1 MB .*\d:\d\d:\d\d"
        assert re.search(bar, plain), plain
    assert re.search(r"[\d.]+ [MG]B/s", plain)
    assert "INFO" not in plain


def test_no_progress_bars_in_a_pipe(installation: Installation) -> None:
    """Without a terminal there are plain log lines: no bars, no carriage returns, no colours."""
    done = installation.cli("run")
    assert done.stderr
    assert not {"\r", "\x1b"} & set(done.stderr + done.stdout)
    assert all(LOG_LINE.fullmatch(line) for line in done.stderr.splitlines())
