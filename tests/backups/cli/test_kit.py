"""The emergency kit: where its keys may go, what it has, and the light until it is kept."""

from __future__ import annotations

import base64
import os
import pty
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from backups.cli.keys import CHECKOUT
from backups.sets.seal import generate_key_pair
from tests.support.contract import check_status
from tests.support.installation import (
    REPOSITORY,
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
    spaces,
)
from tests.support.marks import MARK_KEY
from tests.support.s3_server import S3Server

OTHER_KEY = base64.urlsafe_b64encode(bytes(32)).decode()
BOTH = f"{TOKEN_ENCRYPTION_KEY},{OTHER_KEY}"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation with secrets, and no backup."""
    return Installation(tmp_path, bot_secrets())


def warns(installation: Installation) -> bool:
    """Whether status warns that nobody keeps the kit."""
    status = check_status(installation.json("status", exit_code=3))
    return "kit_not_kept" in {one["code"] for one in status["warnings"]}


def at_a_terminal(installation: Installation, *arguments: str) -> str:
    """What a command prints where standard output is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        installation.command(*arguments),
        cwd=installation.folder,
        env=installation.environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    parts = []
    with suppress(OSError):  # the other end is closed
        while part := os.read(ours, 65536):
            parts.append(part)
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


# --- where the keys may go --------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--json"], ["--kept"]])
def test_a_pipe_gets_no_key(installation: Installation, more: list[str]) -> None:
    """The sheet is refused by name; what is printed all the same has fingerprints."""
    done = installation.cli("kit", *more)
    assert TOKEN_ENCRYPTION_KEY not in done.stdout + done.stderr
    if more:
        assert done.returncode == 0, done.stderr
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert "./bot backups kit --to FILE" in done.stderr


def test_a_terminal_gets_the_sheet(installation: Installation) -> None:
    """The keys, what to look up, and the way from nothing to the data."""
    said = at_a_terminal(installation.with_settings(TOKEN_ENCRYPTION_KEYS=BOTH), "kit")
    assert f"\n  TOKEN_ENCRYPTION_KEYS={BOTH}\n" in said
    assert MARK_KEY.fingerprint in said
    assert "  BACKUP_PREFIX=backups/\n" in said
    assert "./bot backups restore --in-place --yes\n" in said


def test_a_new_file_gets_the_sheet_for_its_owner_alone(installation: Installation) -> None:
    """It is 0600; a file that is there is not overwritten, and no folder is made."""
    done = installation.cli("kit", "--to", "sheet.txt")
    assert done.returncode == 0, done.stderr
    path = installation.folder / "sheet.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"TOKEN_ENCRYPTION_KEYS={TOKEN_ENCRYPTION_KEY}\n" in path.read_text()
    assert TOKEN_ENCRYPTION_KEY not in done.stdout + done.stderr
    path.write_text("mine")
    again = installation.cli("kit", "--to", "sheet.txt")
    assert (again.returncode, path.read_text()) == (1, "mine")
    assert "not overwritten" in again.stderr
    elsewhere = installation.cli("kit", "--to", "missing/sheet.txt")
    assert elsewhere.returncode == 1
    assert "cannot be written" in elsewhere.stderr


def test_without_the_keys_there_is_no_kit(installation: Installation) -> None:
    """A sheet without the keys would be taken for one: exit 2, and the setting is named."""
    done = installation.with_settings(TOKEN_ENCRYPTION_KEYS="").cli("kit", "--to", "sheet.txt")
    assert done.returncode == 2
    assert "TOKEN_ENCRYPTION_KEYS" in done.stderr
    assert not (installation.folder / "sheet.txt").exists()


# --- that a person keeps it -------------------------------------------------------------


def test_amber_until_a_person_says_that_it_is_kept(installation: Installation) -> None:
    """Another first key, and other recipients, ask again; a key that is added after it does not."""
    assert warns(installation)
    assert installation.json("kit")["kept_at"] is None
    assert warns(installation)
    assert installation.json("kit", "--kept")["kept_at"] is not None
    assert not warns(installation)
    assert "kept elsewhere, confirmed 20" in installation.cli("status").stdout
    public = generate_key_pair()[1]
    for settings, asks in (
        ({"TOKEN_ENCRYPTION_KEYS": BOTH}, False),
        ({"TOKEN_ENCRYPTION_KEYS": f"{OTHER_KEY},{TOKEN_ENCRYPTION_KEY}"}, True),
        ({"BACKUP_AGE_RECIPIENTS": public}, True),
    ):
        changed = installation.with_settings(**settings)
        assert warns(changed) == asks, settings
        assert (changed.json("kit")["kept_at"] is None) == asks


def test_a_process_without_keys_cannot_say(installation: Installation) -> None:
    """It does not know which kit would have to be kept, so it does not warn."""
    assert not warns(installation.with_settings(TOKEN_ENCRYPTION_KEYS=""))


# --- an empty host ----------------------------------------------------------------------


def test_the_sheet_is_enough_for_an_empty_host(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> None:
    """Its lines of `.env`, two keys of the store, and its two commands bring the rows back."""
    bucket = spaces(s3_server.settings_of_new_bucket())
    host = installation.with_settings(**bucket).make_databases()
    assert host.cli("run").returncode == 0
    assert host.cli("kit", "--to", "sheet.txt").returncode == 0
    sheet = (host.folder / "sheet.txt").read_text()
    assert bucket["SPACES_API_SECRET"] not in sheet
    assert bucket["SPACES_API_KEY"] not in sheet
    lines = sheet.partition("Lines for .env")[2].partition("\n\n")[0].splitlines()[1:]
    pairs = dict(line.strip().split("=", 1) for line in lines)
    pairs |= {name: bucket[name] for name in ("SPACES_API_KEY", "SPACES_API_SECRET")}
    empty = Installation(tmp_path_factory.mktemp("empty"), pairs)
    for command in ("restore", "restore --in-place --yes"):
        assert f". ./bot backups {command}\n" in sheet + "\n"
        done = empty.cli(*command.split())
        assert done.returncode == 0, done.stderr
    assert empty.tokens_path.exists()


# --- an age identity --------------------------------------------------------------------


def test_an_identity_is_not_written_into_the_folder_of_the_program(
    installation: Installation,
) -> None:
    """Refused by name, in any spelling; the home directory is what is meant without `--to`."""
    home = installation.folder / "home"
    home.mkdir()
    host = installation.with_settings(HOME=str(home))
    inside = CHECKOUT / "tests" / ".." / "never-identity.txt"
    done = host.cli("keygen", "--to", str(inside))
    assert done.returncode == 2
    assert "--in-checkout" in done.stderr
    assert not inside.exists()
    made = host.json("keygen")
    assert made["identity_file"] == str(home / "backup-identity.txt")
    assert (home / "backup-identity.txt").read_text().count("AGE-SECRET-KEY-1") == 1


def test_no_sheet_is_written_into_the_folder_of_the_program(installation: Installation) -> None:
    """The keys would be a commit, or a copy of the folder, away from others."""
    inside = REPOSITORY / "emergency-kit-of-a-test.txt"
    done = installation.cli("kit", "--to", str(inside))
    assert done.returncode == 2
    assert "kit --to FILE" in done.stderr
    assert not inside.exists()
