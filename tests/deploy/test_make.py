"""A stranger's first minute: `make run` in a fresh copy of what git has, with a new venv."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.app_process import free_port
from tests.support.contract import check_status
from tests.support.doc_examples import examples
from tests.support.installation import REPOSITORY
from tests.support.waiting import eventually

# What pip needs to find its index and its cache.
PASSED_ON = ("PATH", "HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
FIRST_BACKUP_SECONDS = 180


@pytest.fixture
def fresh_copy(tmp_path: Path) -> Path:
    """The files that git has, or would have after an add of everything, in an empty folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    folder = tmp_path / "clone"
    for name in listed.split("\0"):
        if name and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def environment(port: int) -> dict[str, str]:
    """What `make` sees: no setting but the port, and no virtual environment of ours."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(("PIP_", "XDG_", "PYENV_"))
    }
    ours = str(Path(sys.executable).parent)
    path = [part for part in given["PATH"].split(os.pathsep) if part != ours]
    path_alone = os.pathsep.join(path)
    return {**given, "PATH": path_alone, "PORT": str(port), "REAL_CLOCK": "1"}


def make(folder: Path, target: str, port: int) -> subprocess.CompletedProcess[str]:
    """Run one target to its end."""
    return subprocess.run(
        ["make", target],
        cwd=folder,
        env=environment(port),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FIRST_BACKUP_SECONDS,
        check=False,
    )


def secrets_in(env_file: str) -> list[str]:
    """The values of the three secrets."""
    names = ("ADMIN_TOKEN", "STATE_TOKEN_SECRET", "TOKEN_ENCRYPTION_KEYS")
    return [
        value for name in names for value in re.findall(rf"^{name}=(\S+)$", env_file, re.MULTILINE)
    ]


def installed(folder: Path) -> set[str]:
    """NAME==VERSION of all packages in the virtual environment but the installers."""
    found = (path.stem.split("-") for path in folder.glob(".venv/lib/*/*/*.dist-info"))
    pinned = {f"{name.lower().replace('_', '-')}=={version}" for name, version in found}
    return {package for package in pinned if not re.match("(uv|pip|setuptools)==", package)}


def locked(folder: Path) -> set[str]:
    """NAME==VERSION of all packages in `requirements.txt`."""
    return set(re.findall(r"^\S+==\S+", (folder / "requirements.txt").read_text(), re.MULTILINE))


@pytest.fixture
def running(fresh_copy: Path) -> Iterator[tuple[Path, int]]:
    """`make run` in the fresh copy: its output file and its port."""
    port, output = free_port(), fresh_copy.parent / "output.log"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=fresh_copy,
            env=environment(port),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield output, port
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        assert "Application shutdown complete." in output.read_text()
        assert "Traceback" not in output.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_make_run_in_a_fresh_copy(fresh_copy: Path, running: tuple[Path, int]) -> None:
    """One command makes a venv and `.env`, serves, and has a proven backup that it tells of.

    Its packages are those of the lock. The printed command opens the admin routes as it stands, and
    so does every command of the README do what it says; `make env` touches nothing after.
    """
    output, port = running
    eventually(
        lambda: re.search("protected: set |make: [*]{3}", output.read_text()),
        "the first backup",
        seconds=FIRST_BACKUP_SECONDS,
    )
    told = output.read_text()
    assert "protected: set " in told, told
    assert re.search(r"next backup at \S+T01:00:00Z", told)
    assert "data/spaces" in told

    env_file = fresh_copy / ".env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    secrets = secrets_in(env_file.read_text())
    assert len(set(secrets)) == 3
    assert not any(secret in told for secret in secrets)

    command = re.search(r"admin routes: (curl .*)$", told, re.MULTILINE)
    assert command is not None
    answer = subprocess.run(
        ["bash", "-c", f"{command[1]} --silent --fail --noproxy '*'"],
        cwd=fresh_copy,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
    )
    status = check_status(json.loads(answer.stdout))
    assert status["healthy"]
    assert status["last_success"]["trigger"] == "catch-up"
    assert f":{port}/" in command[1]

    for block in examples(REPOSITORY / "README.md", "sh"):
        typed = "\n".join(line for line in block.splitlines() if not line.startswith("make "))
        done = subprocess.run(
            ["bash", "-euc", typed],
            cwd=fresh_copy,
            env=environment(port),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FIRST_BACKUP_SECONDS,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{typed}\n{done.stderr}"

    assert any(package.startswith("fastapi==") for package in installed(fresh_copy))
    assert installed(fresh_copy) <= locked(fresh_copy)

    before = env_file.read_bytes()
    again = make(fresh_copy, "env", port)
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""
    assert env_file.read_bytes() == before
    copied = secrets_in((fresh_copy / ".env.example").read_text())
    assert copied == []
