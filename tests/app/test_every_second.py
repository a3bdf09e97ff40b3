"""The story: what was committed a second ago is in the store, and comes back on an empty host."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.databases import count_rows
from tests.support.followed import Followed, Load, token_of
from tests.support.s3_server import S3Server

ROTATED = "SHOPIFY_REFRESH_TOKEN_rotated"
SECRET = "spent once it is used, and worth nothing after that"


@pytest.fixture
def followed(s3_server: S3Server, tmp_path: Path) -> Followed:
    """An installation that follows, over a bucket of its own on a real S3 server."""
    host = tmp_path / "host"
    host.mkdir()
    return Followed.in_bucket(host, s3_server, s3_server.settings_of_new_bucket())


def _until_it_is_stored(followed: Followed) -> None:
    followed.wait_until_stored(ROTATED, SECRET)


def _for_three_seconds(followed: Followed) -> None:
    time.sleep(3)  # the promise itself


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(_until_it_is_stored, id="until it is stored"),
        pytest.param(_for_three_seconds, id="three seconds", marks=pytest.mark.soak),
    ],
)
def test_a_rotated_token_survives_the_loss_of_its_host(
    followed: Followed, tmp_path: Path, wait: Callable[[Followed], None]
) -> None:
    """Under load a token rotates; then the app is killed and its data folder deleted. An empty host
    with nothing but `.env` restores in place, and has the rotated token."""
    with Load(followed.installation) as load, followed.serving() as app:
        followed.put(ROTATED, "the one before")
        before = load.written
        followed.put(ROTATED, SECRET)
        wait(followed)
        app.kill()
        assert load.written > before, "it was under load"
    followed.lose_everything()
    assert followed.oracle.newest().number, "what comes back is a point of a chain"

    empty = followed.elsewhere(tmp_path / "empty")
    done = empty.cli("restore", "--in-place", "--yes")

    assert done.returncode == 0, done.stderr
    assert token_of(empty, ROTATED) == SECRET
    assert followed.oracle.check() > 0
    for path in (empty.tokens_path, empty.sessions_path):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_second_before_a_mass_deletion_has_all_rows(followed: Followed, tmp_path: Path) -> None:
    """`--at` the instant before a deletion brings back each row; the newest point has none."""
    tokens = followed.installation.tokens_path
    with followed.serving():
        for number in range(40):
            followed.put(f"MANY_{number}", "a value")
        followed.wait_until_stored("MANY_39", "a value")
        rows, before = count_rows(tokens), datetime.now(UTC)
        with closing(sqlite3.connect(tokens)) as connection, connection:
            connection.execute("DELETE FROM tokens")
        followed.put("AFTER", "the deletion")
        followed.wait_until_stored("AFTER", "the deletion")
        at = before.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        into = tmp_path / "into"
        done = followed.installation.cli("restore", "--at", at, "--to", str(into))
    assert done.returncode == 0, done.stderr
    assert count_rows(into / "tokens.db") == rows >= 40
    newest = followed.oracle.newest()
    assert followed.oracle.rows(newest, "SELECT count(*) FROM tokens") == [(1,)]


def test_killed_without_a_loss_it_goes_on_from_its_shadow(followed: Followed) -> None:
    """After SIGKILL the next start stores what was written meanwhile, in an unbroken chain."""
    with Load(followed.installation), followed.serving() as app:
        app.kill()
    followed.put("MEANWHILE", "nobody followed")
    with followed.serving() as app:
        followed.wait_until_stored("MEANWHILE", "nobody followed")
        assert followed.status(app)["follow"] in ("compare", "wal")
    assert followed.oracle.check() > 0


def test_a_lost_shadow_is_no_lost_row(followed: Followed) -> None:
    """Without its shadows a start begins anew, and what was written meanwhile is stored."""
    with followed.serving():
        pass
    shutil.rmtree(followed.installation.folder / "data" / "backups" / "follow")
    followed.put("MEANWHILE", "nobody followed")
    with followed.serving():
        followed.wait_until_stored("MEANWHILE", "nobody followed")
    assert followed.oracle.check() > 0
