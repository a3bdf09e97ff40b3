"""Three people's days, from outside: what is typed is in a document, or was printed before."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.app_process import AppProcess
from tests.support.followed import Followed
from tests.support.installation import REPOSITORY, Installation, bot_secrets, spaces
from tests.support.listener import Listener
from tests.support.s3_server import S3Server
from tests.support.typed import type_in
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
# Of apprise, which a later Python serves without it.
WARNINGS = {"PYTHONWARNINGS": "error,ignore:'imghdr' is deprecated"}
# Shorter than the five minutes after which a failed backup is tried again.
PATIENCE_SECONDS = 60.0


def first_of_status(host: Installation) -> str:
    """What status begins with: its headline, and the first problem or warning with its remedy."""
    shown = typed(host, "./bot backups status", codes=(0, 3)).splitlines()
    return "\n".join(shown[:3])


def typed(host: Installation, line: str, codes: tuple[int, ...] = (0,)) -> str:
    """What a line prints on its standard output."""
    done = type_in(host, line)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


def write_env(host: Installation, settings: Mapping[str, str]) -> None:
    path = host.folder / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    path.chmod(0o600)


def count(host: Installation, statement: str) -> int:
    with closing(sqlite3.connect(host.tokens_path)) as connection:
        return int(connection.execute(statement).fetchone()[0])


def test_the_first_hour_with_a_space_typed_wrong_twice(s3_server: S3Server, tmp_path: Path) -> None:
    """After each restart the first line of status names what to correct now, without any wait;
    after the right values it is amber, and what that prints, typed, makes it green."""
    right = {**bot_secrets(), **spaces(s3_server.settings_of_new_bucket())}
    host = Installation(tmp_path, {"BACKUP_RUN_BY": "app", **WARNINGS})

    def says(*words: str) -> None:
        def read() -> bool:
            first = first_of_status(host)
            return all(word in first for word in words)

        eventually(read, f"status begins with {words}", seconds=PATIENCE_SECONDS)

    write_env(host, {**right, "SPACES_BUCKET": "mistyped"})
    with AppProcess.start(host):
        says("mistyped", "the bucket does not exist")
        assert "Check SPACES_BUCKET" in typed(host, "./bot backups status", codes=(3,))
    write_env(host, {**right, "SPACES_API_SECRET": "mistyped"})
    with AppProcess.start(host):
        says("SPACES_API_SECRET does not match SPACES_API_KEY")
        assert "Check SPACES_API_SECRET" in typed(host, "./bot backups status", codes=(3,))

    with Listener() as listener:
        write_env(host, right)
        with AppProcess.start(host):
            says("Backed up, but")
            shown = typed(host, "./bot backups status")
            assert "Set BACKUP_NOTIFY_URLS" in shown
            confirm = re.findall(r"confirm that: (\./bot backups .*)", shown)
        write_env(host, {**right, "BACKUP_NOTIFY_URLS": f"json://127.0.0.1:{listener.port}"})
        with AppProcess.start(host):
            typed(host, confirm[0])
            typed(host, "./bot backups doctor --notify")
            assert listener.heard
            says("Protected")


def test_the_deploy_that_deleted_half_the_rows(s3_server: S3Server, tmp_path: Path) -> None:
    """`--at` with the second before: the plan names what was written afterwards and would be lost,
    and the line that it ends with brings the rows back."""
    followed = Followed.in_bucket(tmp_path, s3_server, s3_server.settings_of_new_bucket())
    host = followed.installation
    with followed.serving():
        for number in range(20):
            followed.put(f"KEPT_{number}", "worth keeping")
        followed.wait_until_stored("KEPT_19", "worth keeping")
        before = count(host, "SELECT count(*) FROM tokens")
        second = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        eventually(lambda: datetime.now(UTC) > second, "the second of the last good state is over")
        with closing(sqlite3.connect(host.tokens_path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM tokens WHERE rowid % 2 = 0")
        assert count(host, "SELECT count(*) FROM tokens") < before
        followed.put("AFTERWARDS", "written after the deploy")
        followed.wait_until_stored("AFTERWARDS", "written after the deploy")

        plan = typed(host, f"./bot backups restore --at {second:%Y-%m-%dT%H:%M:%SZ}")
        lost = re.search(r"LOST: 1 row of tokens, only in the live data; .* from (\S+Z)", plan)
        assert lost, plan
        assert datetime.fromisoformat(lost[1]) >= second - timedelta(seconds=1)
        (line,) = set(re.findall(r"\./bot backups restore .*--in-place --yes", plan))
        typed(host, line)

        assert count(host, "SELECT count(*) FROM tokens") == before
        assert count(host, "SELECT count(*) FROM tokens WHERE key = 'AFTERWARDS'") == 0


def put_into_env(host: Installation, lines: Mapping[str, str]) -> None:
    """What the sheet says: in place of those lines of `.env` that have the same names."""
    path = host.folder / ".env"
    there = path.read_text().splitlines()
    kept = [line for line in there if line.partition("=")[0] not in lines]
    path.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in lines.items()), ""]))


def test_the_disk_that_died(s3_server: S3Server, tmp_path: Path) -> None:
    """Nothing is left but the sheet of the kit: its five lines, typed on an empty host with a new
    access key, bring back what was written a moment before."""
    store = s3_server.settings_of_new_bucket()
    followed = Followed.in_bucket(tmp_path / "first", s3_server, store)
    host = followed.installation
    typed(host, f"./bot backups kit --to {tmp_path}/sheet.txt")
    typed(host, "./bot backups kit --kept")
    with followed.serving() as app:
        followed.put("LAST", "written a moment before")
        followed.wait_until_stored("LAST", "written a moment before")
        app.kill()
    rows = count(host, "SELECT count(*) FROM tokens")
    shutil.rmtree(host.folder)

    sheet = (tmp_path / "sheet.txt").read_text()
    lines = sheet.partition("Lines for .env on an empty host:\n")[2].partition("\n\n")[0]
    settings = dict(line.strip().split("=", 1) for line in lines.splitlines())
    assert (settings["SPACES_API_KEY"], settings["SPACES_API_SECRET"]) == ("", "")
    settings |= {name: spaces(store)[name] for name in ("SPACES_API_KEY", "SPACES_API_SECRET")}
    install, *steps = re.findall(r"^  \d\. (.*)$", sheet, re.MULTILINE)
    assert install.startswith("install the code into an empty folder")
    assert len(steps) == 4
    (tmp_path / "second").mkdir()
    shutil.copy(REPOSITORY / ".env.example", tmp_path / "second")  # a part of the code
    new = Installation(tmp_path / "second", {"BACKUP_RUN_BY": "app", **WARNINGS})
    for step in steps:
        if step.startswith("./bot "):
            typed(new, step)
        else:
            assert step.startswith("put the lines above into .env")
            put_into_env(new, settings)

    assert count(new, "SELECT count(*) FROM tokens") == rows
    assert count(new, "SELECT count(*) FROM tokens WHERE key = 'LAST'") == 1
    with AppProcess.start(new):
        eventually(
            lambda: first_of_status(new).startswith("Backed up, but"),
            "the new host makes restore points of its own",
            seconds=PATIENCE_SECONDS,
        )
