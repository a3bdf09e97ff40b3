"""The story that increments are for, with the real app."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.store.directory import DirectoryStore
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.following import chains_in, replayed
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, bot_secrets
from tests.support.waiting import eventually


@pytest.mark.slow
def test_a_token_that_was_rotated_right_before_the_host_burned_is_in_the_store(
    tmp_path: Path,
) -> None:
    """The app is killed -9, its data is gone: full and increments in the store have the token."""
    installation = Installation(
        tmp_path / "host", {**bot_secrets(), "BACKUP_LOCAL_STORE": str(tmp_path / "spaces")}
    )
    installation.make_databases()
    cipher = TokenCipher((TOKEN_ENCRYPTION_KEY,))
    store = tmp_path / "spaces"
    with AppProcess.start(installation) as app:
        eventually(lambda: list(store.glob("backups/chains/*/head.json")), "a chain")
        with closing(TokenStorage(installation.tokens_path, cipher)) as tokens:
            tokens.put("ROTATED", "the new refresh token")
        eventually(lambda: list(store.glob("backups/chains/*/i/*.inc")), "an increment")
        app.kill()
    shutil.rmtree(installation.folder / "data")

    with open_bench(tmp_path / "new", DirectoryStore(store), settings=bot_secrets()) as bench:
        bench.service.catalogue.refresh()
        rows = replayed(bench, chains_in(bench)[-1], tmp_path)
    values = {str(row[0]): cipher.decrypt(row[1]) for row in rows}
    assert values["ROTATED"].endswith(b"the new refresh token")
