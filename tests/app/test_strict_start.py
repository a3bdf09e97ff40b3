"""Every way in is strict about settings, and names what it stops for before anything is opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from backups.sets.seal import generate_key_pair
from shared.errors import AddressUnusable
from shared.web import address
from tests.support.app_process import AppProcess, free_port
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.waiting import eventually
from tests.support.warm_python import run_warm

SECRET = "not-repeated-anywhere"
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

# What it says, what stops it, and how the message names it.
BROKEN = {
    "misspelt": (
        f"BACKUP_AGE_RECIPIENT={RECIPIENT}",
        "BACKUP_AGE_RECIPIENT: is not a setting (on line 5 of .env); is BACKUP_AGE_RECIPIENTS",
    ),
    "quote": (
        f'SPACES_API_SECRET="{SECRET}\nSPACES_REGION=nyc3\nBACKUP_COMPRESSION="',
        ".env, line 5, SPACES_API_SECRET: its value goes over 3 lines",
    ),
    "no value": ("BACKUP_COMPRESSION", ".env, line 5, BACKUP_COMPRESSION: has no `=`"),
}
COMMANDS = (
    ("-m", "backups", "run"),
    ("-m", "backups", "status"),
    ("-m", "backups", "doctor"),
    ("-m", "backups", "restore"),
    ("-m", "shared", "rotate-keys"),
)


def with_env_file(folder: Path, *lines: str) -> Installation:
    """An installation whose secrets and `lines` are in `.env`; the secrets take four lines."""
    secrets = [f"{name}={value}" for name, value in bot_secrets().items()]
    (folder / ".env").write_text("\n".join([*secrets, "", *lines]) + "\n")
    (folder / ".env").chmod(0o600)
    return Installation(folder)


def command(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python` with these arguments to its end."""
    return run_warm(
        [sys.executable, *arguments], cwd=installation.folder, env=installation.environment
    )


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("as_script", [True, False], ids=["python app.py", "uvicorn app:app"])
def test_the_app_does_not_start(tmp_path: Path, kind: str, *, as_script: bool) -> None:
    """A misspelt name or a broken line is named with its line number, and nothing is made."""
    lines, message = BROKEN[kind]
    app = AppProcess(with_env_file(tmp_path, lines), as_script=as_script)
    assert app.wait_until_it_ends() == (2 if as_script else 3)
    assert message in app.output()
    assert SECRET not in app.output()
    assert "Traceback" not in app.output()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_command_starts(tmp_path: Path, arguments: Sequence[str], kind: str) -> None:
    """The commands are as strict: exit code 2, the line, and nothing is made."""
    lines, message = BROKEN[kind]
    done = command(with_env_file(tmp_path, lines), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert SECRET not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_misspelt_name_of_the_environment_stops_the_app(tmp_path: Path) -> None:
    """In a container there is no `.env`: the environment is read as strictly."""
    installation = Installation(tmp_path, {**bot_secrets(), "BACKUP_AGE_RECIPIENT": RECIPIENT})
    app = AppProcess(installation, as_script=True)
    assert app.wait_until_it_ends() == 2
    assert "BACKUP_AGE_RECIPIENT: is not a setting (in the environment)" in app.output()
    assert installation.cli("run").returncode == 2
    assert not (tmp_path / "data").exists()


def test_an_unknown_name_is_in_the_log_in_status_and_in_doctor(tmp_path: Path) -> None:
    """A name that may be another program's stops nothing, and nobody has to look for it."""
    installation = with_env_file(
        tmp_path, "BACKUP_WINDOW=wal", "SHOPIFY_API_KY=x", "COMPOSE_PROJECT_NAME=bot"
    ).with_settings(COPY_PREFIX="b")
    with AppProcess.start(installation) as app, app.client() as client:
        eventually(lambda: client.get("/admin/backups").json()["last_success"], "the first backup")
        status = client.get("/admin/backups").json()
        doctor = client.get("/admin/backups/doctor").json()
        output = app.output()
    found = [one["message"] for one in status["warnings"] if one["code"] == "unknown_setting"]
    assert [message.partition(" is not a setting")[0] for message in found] == [
        "BACKUP_WINDOW (on line 5 of .env)",
        "SHOPIFY_API_KY (on line 6 of .env)",
        "COPY_PREFIX (in the environment)",
    ]
    assert all(message in output for message in found)
    assert all(f"{message} [unknown_setting]" in str(doctor) for message in found)
    assert "COMPOSE" not in output
    shown = installation.cli("status").stdout
    assert "warning unknown_setting: BACKUP_WINDOW (on line 5 of .env)" in shown
    assert "SHOPIFY_API_KY" not in shown  # the commands read no platform
    assert "BACKUP_WINDOW (on line 5 of .env)" in installation.cli("doctor").stdout


@pytest.mark.parametrize(
    ("recipients", "line"),
    [
        ("", "backups are not encrypted (BACKUP_AGE_RECIPIENTS is not set)"),
        (RECIPIENT, "backups are encrypted for 1 recipient"),
        (f"{RECIPIENT},{generate_key_pair()[1]}", "backups are encrypted for 2 recipients"),
    ],
    ids=["none", "one", "two"],
)
def test_doctor_says_whether_backups_are_encrypted(
    tmp_path: Path, recipients: str, line: str
) -> None:
    """Whoever meant to encrypt sees whether it is so, and for how many."""
    installation = Installation(tmp_path, {**bot_secrets(), "BACKUP_AGE_RECIPIENTS": recipients})
    shown = installation.make_databases().cli("doctor").stdout.splitlines()
    assert next(one for one in shown if "encrypted" in one).split(None, 2) == ["ok", "keys", line]


def test_a_host_of_the_shell_is_named_before_anything_runs(tmp_path: Path) -> None:
    """conda sets `HOST`: the message has the name, where it is from, and what to do."""
    installation = with_env_file(tmp_path, "HOST=127.0.0.1").with_settings(
        HOST="x86_64-conda-linux-gnu"
    )
    app = AppProcess(installation, as_script=True)
    assert app.wait_until_it_ends() in (1, 2)  # 1: the resolver could not be reached
    assert "HOST: is 'x86_64-conda-linux-gnu' (in the environment)" in app.output()
    assert "takes precedence over .env" in app.output()
    assert "Traceback" not in app.output()
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_named_before_anything_runs(tmp_path: Path) -> None:
    """By its process, too. The databases and the scheduler do not begin for an app that cannot
    serve; systemd may start it again, since the code is not that of a wrong setting."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        app = AppProcess(Installation(tmp_path, bot_secrets()), as_script=True, port=port)
        assert app.wait_until_it_ends() == 1
    assert f"PORT: {port} of 127.0.0.1 is in use by process {os.getpid()} (" in app.output()
    assert f"kill {os.getpid()}" in app.output()
    assert "Traceback" not in app.output()
    assert not (tmp_path / "data").exists()


def test_a_second_start_says_so_and_nothing_of_backups(tmp_path: Path) -> None:
    """Who starts the app twice reads one message, which names the first one's process."""
    installation = Installation(tmp_path, bot_secrets())
    with AppProcess.start(installation, as_script=True) as first:
        again = subprocess.run(
            [sys.executable, str(REPOSITORY / "app.py")],
            cwd=tmp_path,
            env={**installation.environment, "PORT": str(first.port), "BACKUP_RUN_BY": "app"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (again.returncode, again.stdout) == (1, "")
        assert len(again.stderr.splitlines()) == 2
        assert f"is in use by process {first.pid} (" in again.stderr


def test_a_port_of_a_process_that_nobody_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process is another user's, or not on Linux, the message says how to find it."""
    monkeypatch.setattr(address, "_listeners", lambda port: iter(()))
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressUnusable) as refused:
            address.check_address("127.0.0.1", port)
    assert refused.value.message == f"PORT: {port} of 127.0.0.1 is in use by another process"
    assert f"ss -tlnp 'sport = :{port}'" in refused.value.hint


def test_an_address_of_another_host_is_named_before_anything_runs(tmp_path: Path) -> None:
    """192.0.2.1 (RFC 5737) is nobody's, so it is not this host's."""
    app = AppProcess(Installation(tmp_path, {**bot_secrets(), "HOST": "192.0.2.1"}), as_script=True)
    assert app.wait_until_it_ends() == 1
    assert "HOST: '192.0.2.1' (in the environment) cannot be bound" in app.output()
    assert not (tmp_path / "data").exists()


def test_commands_do_not_mind_the_host_of_a_shell(tmp_path: Path) -> None:
    """They listen nowhere, and so does uvicorn, which has options of its own."""
    installation = Installation(tmp_path, {**bot_secrets(), "HOST": "x86_64-conda-linux-gnu"})
    assert installation.make_databases().cli("run").returncode == 0
    with AppProcess.start(installation) as app:
        assert "Cannot start" not in app.output()


def test_the_first_env_file_is_written_beside_odd_names(tmp_path: Path) -> None:
    """`./bot shared env` reads no setting: it works whatever the environment has."""
    (tmp_path / ".env.example").write_bytes((REPOSITORY / ".env.example").read_bytes())
    installation = Installation(tmp_path, {"BACKUP_AGE_RECIPIENT": "x"})
    assert command(installation, "-m", "shared", "env").returncode == 0
    assert (tmp_path / ".env").exists()


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--port=5001", 2), ("status", 2)])
def test_app_py_takes_no_options(tmp_path: Path, option: str, code: int) -> None:
    """`python app.py --help` prints help, another word is an error; neither starts the app."""
    app = AppProcess(Installation(tmp_path, bot_secrets()), as_script=True, options=[option])
    assert app.wait_until_it_ends() == code
    assert app.output().startswith("usage: python app.py [-h]")
    assert ("unrecognized arguments" in app.output()) == bool(code)
    assert not (tmp_path / "data").exists()
