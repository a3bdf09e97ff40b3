"""Upgrading `tokens.db` in the running app: after a full set, in both forms meanwhile, and back."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.sqlite import Database
from shared.databases.tokens import MIGRATIONS, TokenStorage
from shared.errors import DatabaseSchemaMismatch
from tests.support.app_process import AppProcess, free_port
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, installation_in
from tests.support.older_tokens import bound_rows, set_version, version_of, write_older_tokens
from tests.support.waiting import eventually

CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))
MANY = {f"FACEBOOK_ACCESS_TOKEN_{number:06}": f"EAA-{number}" for number in range(5000)}
FEW = {"FACEBOOK_ACCESS_TOKEN_17": "EAA-17", "FACEBOOK_ACCESS_TOKEN_18": "EAA-18"}


def older_host(folder: Path, values: dict[str, str], **settings: str) -> Installation:
    """An installation whose `tokens.db` the version before has left."""
    host = installation_in(folder, **settings)
    SessionStorage(host.sessions_path, SystemClock()).close()
    write_older_tokens(host.tokens_path, CIPHER, values)
    return host


def all_values(host: Installation) -> dict[str, str | None]:
    """What the app reads now."""
    with closing(TokenStorage(host.tokens_path, CIPHER)) as tokens:
        return {key: tokens.get(key) for key in tokens.keys()}  # noqa: SIM118 - no dictionary


def versions_of_sets(host: Installation) -> list[tuple[str, int]]:
    """The complete, proven sets, oldest first, with the `user_version` of their `tokens`."""
    found: list[tuple[str, int]] = []
    for one in reversed(host.json("list")["sets"]):
        if one["kind"] != "set":
            continue
        assert one["complete"]
        assert one["proven_at"]
        (key,) = (stored["key"] for stored in one["objects"] if stored["source"] == "tokens")
        with closing(sqlite3.connect(f"file:{host.stored(key)}?mode=ro", uri=True)) as copy:
            found.append((one["id"], copy.execute("PRAGMA user_version").fetchone()[0]))
    return found


def old_program_reads(path: Path, keys: list[str]) -> dict[str, str]:
    """What the version before sees: it accepts this file, and takes all that is inside a value."""
    with closing(Database(path, MIGRATIONS[:1])) as before, before.reading() as rows:
        return {
            key: CIPHER.decrypt(
                rows.execute("SELECT value FROM tokens WHERE key = ?", (key,)).fetchone()[0]
            ).decode()
            for key in keys
        }


def test_an_app_that_is_killed_in_the_middle_is_followed_by_the_next(tmp_path: Path) -> None:
    """SIGKILL while values are bound: all can be read, and the next start binds the rest."""
    host = older_host(tmp_path, MANY)
    with AppProcess.start(host) as app:
        eventually(lambda: version_of(host.tokens_path) == 2, "the first hundred values")
        app.kill()
    assert version_of(host.tokens_path) == 2
    assert 100 <= bound_rows(host.tokens_path, CIPHER) < len(MANY)
    assert all_values(host) == MANY
    sets = versions_of_sets(host)
    assert [version for _, version in sets][:1] == [1]
    with AppProcess.start(host):
        eventually(lambda: version_of(host.tokens_path) == 4, "all values", seconds=60)
    assert bound_rows(host.tokens_path, CIPHER) == len(MANY)
    assert all_values(host) == MANY


def test_the_set_from_before_brings_the_old_form_back(tmp_path: Path) -> None:
    """Going back: the older program refuses the new file by name, and reads the restored one."""
    host = older_host(tmp_path, FEW)
    with AppProcess.start(host):
        eventually(lambda: version_of(host.tokens_path) == 4, "all values to be bound")
    with pytest.raises(DatabaseSchemaMismatch, match="schema version 4, this program supports 1"):
        Database(host.tokens_path, MIGRATIONS[:1])
    before = [set_id for set_id, version in versions_of_sets(host) if version == 1][-1]
    done = host.cli("restore", before, "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert version_of(host.tokens_path) == 1
    assert old_program_reads(host.tokens_path, list(FEW)) == FEW


def test_a_set_from_before_that_is_restored_is_bound_by_the_running_app(tmp_path: Path) -> None:
    """And that has a set of its own before."""
    host = older_host(tmp_path, FEW)
    with AppProcess.start(host):
        eventually(lambda: version_of(host.tokens_path) == 4, "all values to be bound")
        sets = [set_id for set_id, version in versions_of_sets(host) if version == 1]
        before = sets[-1]
        done = host.cli("restore", before, "--in-place", "--yes")
        assert done.returncode == 0, done.stderr
        eventually(
            lambda: len([1 for _, version in versions_of_sets(host) if version == 1]) > len(sets),
            "a set of what was restored",
        )
        eventually(lambda: version_of(host.tokens_path) == 4, "all values to be bound again")
    assert all_values(host) == FEW


@pytest.mark.parametrize("version", [1, 2])
def test_a_command_never_begins_it_nor_ends_it(tmp_path: Path, version: int) -> None:
    """Backups, drills and the rotation of keys read what is there, and leave its form."""
    host = older_host(tmp_path, FEW)
    set_version(host.tokens_path, version)
    made: dict[str, Any] = host.json("run")
    assert made["set"]["suspect"] is None
    assert host.json("drill")["drill"]["unreadable"] == 0
    assert host.cli("restore", made["set"]["id"], "--in-place", "--yes").returncode == 0
    rotated = subprocess.run(
        [sys.executable, "-m", "shared", "rotate-keys"],
        cwd=host.folder,
        env=host.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Re-encrypted 2 values" in rotated.stdout
    assert version_of(host.tokens_path) == version
    assert bound_rows(host.tokens_path, CIPHER) == 0
    assert all_values(host) == FEW


def test_a_store_that_is_away_stops_nothing_but_this(tmp_path: Path) -> None:
    """The app serves in the old form, says why, and binds the values when a set can be made."""
    away = {
        "SPACES_API_KEY": "key",
        "SPACES_API_SECRET": "secret",
        "SPACES_REGION": "fra1",
        "SPACES_BUCKET": "bucket",
        "SPACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    host = older_host(tmp_path, FEW)
    with AppProcess.start(host.with_settings(**away)) as app, app.client() as client:
        eventually(
            lambda: "the values of tokens.db are not bound to their rows yet" in app.output(),
            "the reason to be logged",
            seconds=60,
        )
        assert client.get("/readyz").status_code in (200, 404)
        assert version_of(host.tokens_path) == 1
        assert all_values(host) == FEW
        code, _ = app.terminate()
        assert code in (0, -signal.SIGTERM)
    assert bound_rows(host.tokens_path, CIPHER) == 0
    with AppProcess.start(host):
        eventually(lambda: version_of(host.tokens_path) == 4, "all values to be bound")


def test_exchanged_values_fail_a_drill_by_name(tmp_path: Path) -> None:
    """The reason is the row, not a missing key; nor is such a set restored in place."""
    host = installation_in(tmp_path).make_databases()
    with closing(sqlite3.connect(host.tokens_path)) as connection:
        rows = connection.execute("SELECT key, value FROM tokens ORDER BY key").fetchall()
        turned = zip(rows, rows[1:] + rows[:1], strict=True)
        connection.executemany(
            "UPDATE tokens SET value = ? WHERE key = ?",
            [(other, key) for (key, _), (_, other) in turned],
        )
        connection.commit()
    assert "3 of the checked values of tokens cannot be read" in host.cli("run").stderr
    (made,) = host.json("list")["sets"]
    assert host.cli("accept", made["id"]).returncode == 0
    drill = host.cli("drill")
    assert drill.returncode == 1
    assert "3 of 5 rows" in drill.stderr
    assert f"the value of {rows[0][0]!r} in tokens.db belongs to another row" in drill.stderr
    restore = host.cli("restore", made["id"], "--in-place", "--yes")
    assert restore.returncode == 1
    assert "[unreadable]" in restore.stderr or "belongs to another row" in restore.stderr
    assert "Nothing was touched" in restore.stderr
