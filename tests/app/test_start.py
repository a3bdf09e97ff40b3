"""Starting the app: what it opens, and how it says that it cannot start."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from app import create_app, read_settings
from tests.support.app_process import AppProcess
from tests.support.installation import ADMIN_TOKEN, REPOSITORY, Installation, bot_secrets
from tests.support.open_race import DATABASES
from tests.support.waiting import eventually


def faults_of(output: str) -> set[str]:
    """The names of the variables that a message says are wrong."""
    return set(re.findall(r"^  ([A-Z_]+):", output, re.MULTILINE))


@pytest.mark.parametrize("as_script", [True, False], ids=["python app.py", "uvicorn app:app"])
def test_a_start_makes_private_databases(tmp_path: Path, *, as_script: bool) -> None:
    """A first start makes both databases and `BACKUP_DIR`: files 0600 in folders 0700."""
    installation = Installation(tmp_path, bot_secrets())
    with AppProcess.start(installation, as_script=as_script) as app, app.client() as client:
        eventually(lambda: client.get("/admin/backups").json()["last_success"], "the first backup")
        where = app.url if as_script else "ADDRESS"
        assert f"{where}/admin/backups" in app.output()
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        folders = [path for path in (tmp_path / "data").rglob("*") if path.is_dir()]
        assert {installation.tokens_path, installation.sessions_path} <= set(files)
        assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
        assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}
    for path, table in (
        (installation.tokens_path, "tokens"),
        (installation.sessions_path, "sessions"),
    ):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_no_address_is_named_that_is_not_the_apps(tmp_path: Path) -> None:
    """Under `uvicorn --port`, `PORT` says nothing of where the app is, and is not printed."""
    settings = {**bot_secrets(), "PORT": "5000"}
    with AppProcess.start(Installation(tmp_path, settings)) as app:
        assert "admin routes: curl" in app.output()
        assert ":5000/" not in app.output()


@pytest.mark.parametrize("as_script", [True, False], ids=["python app.py", "uvicorn app:app"])
def test_missing_secrets_are_named(tmp_path: Path, *, as_script: bool) -> None:
    """Without its secrets the app does not start: one message, with the commands that make them."""
    settings = {"ADMIN_TOKEN": ADMIN_TOKEN, "TOKEN_ENCRYPTION_KEYS": ""}
    app = AppProcess(Installation(tmp_path, settings), as_script=as_script)
    assert app.wait_until_it_ends() == (2 if as_script else 3)
    output = app.output()
    assert faults_of(output) == {"TOKEN_ENCRYPTION_KEYS", "STATE_TOKEN_SECRET"}
    assert output.count("cannot be used") == 1
    assert "Fernet.generate_key()" in output
    assert "secrets.token_urlsafe(32)" in output
    assert "`make env` writes one" in output
    assert "Traceback" not in output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("as_script", [True, False], ids=["python app.py", "uvicorn app:app"])
def test_wrong_settings_are_named_all_at_once(tmp_path: Path, *, as_script: bool) -> None:
    """Everything that is wrong with the settings is in one message, without any secret."""
    wrong = {
        "SPACES_API_SECRET": "a-secret-that-is-not-shown",
        "BACKUP_SCHEDULE": "0 1 1 * 1",
        "TOKEN_ENCRYPTION_KEYS": "a-key-that-is-not-shown",
        "STATE_TOKEN_SECRET": "not-shown",
    }
    app = AppProcess(Installation(tmp_path, wrong), as_script=as_script)
    assert app.wait_until_it_ends() == (2 if as_script else 3)
    output = app.output()
    unset = {"SPACES_API_KEY", "SPACES_REGION", "SPACES_BUCKET", "SPACES_ENDPOINT"}
    assert faults_of(output) == set(wrong) - {"SPACES_API_SECRET"} | unset
    assert "not-shown" not in output
    assert "is-not-shown" not in output
    assert "Traceback" not in output


def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    """A live database that is no SQLite file stops the start in a few words, with its path."""
    installation = Installation(tmp_path, bot_secrets())
    installation.tokens_path.parent.mkdir()
    installation.tokens_path.write_bytes(b"text " * 2000)
    app = AppProcess(installation)
    assert app.wait_until_it_ends() == 3
    assert "data/tokens.db is not a SQLite database" in app.output()
    assert "Traceback" not in app.output()


def test_settings_come_from_the_env_file(tmp_path: Path) -> None:
    """`.env` in the working directory counts, blank lines in it do not, the environment wins."""
    installation = Installation(tmp_path, {"BACKUP_SCHEDULE": "5 6 7 8 *"})
    lines = [f"{name}={value}" for name, value in bot_secrets().items()]
    lines += ["BACKUP_SCHEDULE=1 2 3 4 *", "BACKUP_PREFIX=mine/", "BACKUP_DIR=", "SPACES_REGION="]
    (tmp_path / ".env").write_text("\n".join(lines) + "\n")
    with AppProcess.start(installation) as app, app.client() as client:
        status = client.get("/admin/backups").json()
        eventually(lambda: client.get("/admin/backups").json()["last_success"], "the first backup")
    assert status["schedule"]["cron"] == "5 6 7 8 *"
    assert list((tmp_path / "data" / "spaces" / "mine").glob("tokens_*.db"))
    assert (tmp_path / "data" / "backups").is_dir()


def test_many_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    """Workers that start together on a new host all get the databases that one of them makes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.open_race", str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert len(list(tmp_path.glob("*.db"))) == DATABASES


def test_no_request_makes_readers_of_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are made before the lifespan starts a thread: pydantic does not promise to make two."""
    monkeypatch.chdir(tmp_path)
    made: list[str] = []
    threads_then: list[set[str]] = []
    inner = TypeAdapter.__init__

    def counted(self: TypeAdapter[object], kind: object, **options: object) -> None:
        if "fastapi" in sys._getframe(1).f_code.co_filename:
            made.append(str(kind))
            threads_then.append({thread.name for thread in threading.enumerate()})
        inner(self, kind, _parent_depth=3, **options)  # type: ignore[arg-type]

    app = create_app(read_settings(Installation(tmp_path, bot_secrets()).settings))
    monkeypatch.setattr(TypeAdapter, "__init__", counted)
    before = {thread.name for thread in threading.enumerate()}
    with TestClient(app, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as client:
        assert made
        assert not [new for names in threads_then for new in names - before if "backup" in new]
        made.clear()
        for path in ("/healthz", "/", "/admin/backups", "/admin/backups/sets?limit=1", "/metrics"):
            client.get(path)
        client.post("/admin/backups/sets/20261122T010000Z/verify")
    assert made == []
