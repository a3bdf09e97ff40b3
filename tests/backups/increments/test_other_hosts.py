"""Points of chains and the real app: begun on an empty host, and of a schema of before."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.format.chain_keys import point_id
from shared.clock import SystemClock
from shared.databases.tokens import MIGRATIONS
from shared.store.directory import DirectoryStore
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.bucket_oracle import FolderBucket
from tests.support.chain_oracle import ChainOracle
from tests.support.followed import CIPHER, Followed, token_of
from tests.support.following import following, following_bench
from tests.support.installation import (
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
    installation_in,
)
from tests.support.older_tokens import put_older, version_of, write_older_tokens
from tests.support.waiting import eventually

OLDER, PRESENT = 1, len(MIGRATIONS)


@pytest.mark.slow
def test_an_empty_host_begins_with_the_newest_increment(tmp_path: Path) -> None:
    """`BACKUP_RESTORE_ON_EMPTY` brings back the row of the newest point, which no set has."""
    store = tmp_path / "spaces"
    settings = {**bot_secrets(), "BACKUP_LOCAL_STORE": str(store)}
    burned = Installation(tmp_path / "burned", settings).make_databases()
    followed = Followed(burned, ChainOracle(FolderBucket(store), TOKEN_ENCRYPTION_KEY))
    with followed.serving() as app:
        followed.put("ROTATED", "right before the fire")
        assert followed.wait_until_stored("ROTATED", "right before the fire").number
        app.kill()
    followed.lose_everything()
    empty = Installation(tmp_path / "empty", {**settings, "BACKUP_RESTORE_ON_EMPTY": "true"})
    empty.folder.mkdir()
    with AppProcess.start(empty):
        assert token_of(empty, "ROTATED") == "right before the fire"


@pytest.mark.slow
def test_a_migration_is_followed_and_undone_by_no_restore(tmp_path: Path) -> None:
    """A point of before it has the older schema, and restored in place is served, and migrated by
    the next start; the points after it have the present one, in a chain that begins anew."""
    store = tmp_path / "spaces"
    settings = {**bot_secrets(), "BACKUP_LOCAL_STORE": str(store)}
    installation = installation_in(tmp_path / "host", **settings).make_databases()
    installation.tokens_path.unlink()
    write_older_tokens(installation.tokens_path, CIPHER, {"ACCESS": "of the older version"})
    with (
        following_bench(
            installation.folder, DirectoryStore(store), settings=settings, clock=SystemClock()
        ) as bench,
        following(bench) as follower,
    ):
        bench.made()
        eventually(lambda: follower.step() == "idle" and follower.chain, "a chain")
        chain = follower.chain
        assert chain is not None
        put_older(installation.tokens_path, CIPHER, {"ACCESS": "rotated by it"})
        eventually(lambda: follower.step() == "stored", "an increment")
    older = point_id(chain, 1)
    followed = Followed(installation, ChainOracle(FolderBucket(store), TOKEN_ENCRYPTION_KEY))
    with AppProcess.start(installation):
        eventually(lambda: version_of(installation.tokens_path) == PRESENT, "the migration")
        followed.put("ACCESS", "rotated by this one")
        newest = followed.wait_until_stored("ACCESS", "rotated by this one")
        assert followed.oracle.rows(newest, "PRAGMA user_version") == [(PRESENT,)]
        restore = ("restore", older, "--in-place", "--yes")
        assert installation.cli(*restore).returncode == 0
        assert token_of(installation, "ACCESS") == "rotated by it"
    with AppProcess.start(installation):
        eventually(lambda: version_of(installation.tokens_path) == PRESENT, "the migration")
        assert token_of(installation, "ACCESS") == "rotated by it"
        followed.put("ACCESS", "rotated again")
        again = followed.wait_until_stored("ACCESS", "rotated again")
        assert again.chain != chain
    with open_bench(tmp_path / "new host", DirectoryStore(store), settings=settings) as new:
        new.restored(older, to=tmp_path / "older")
    assert version_of(tmp_path / "older" / "tokens.db") == OLDER
