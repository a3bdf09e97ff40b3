"""Restore points of an older or a newer version of the program than the one that restores."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backups.errors import RestoreBlocked
from backups.model import Source
from shared.clock import SystemClock
from shared.databases import sessions, tokens
from shared.databases.checks import TOKENS_VERSION
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.errors import DatabaseMissing
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.databases import make_sources
from tests.support.generations import SOURCES, bring_into, connect
from tests.support.installation import TOKEN_ENCRYPTION_KEY

NEWER = 9


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset`, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        yield bench


def set_version(path: Path, version: int) -> None:
    """Mark a database as one of another version of the program."""
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={version}")


def newer_set(bench: Bench) -> str:
    """Make a set whose `tokens` is of a newer program, over live data of this one; its id."""
    set_version(bench.tokens, NEWER)
    made = bench.made()
    set_version(bench.tokens, TOKENS_VERSION)
    bench.write("genlive")
    return made.id


def open_storage(source: str, bench: Bench) -> TokenStorage | SessionStorage:
    """What the app keeps open."""
    if source == "tokens":
        return TokenStorage(bench.tokens, TokenCipher((TOKEN_ENCRYPTION_KEY,)))
    return SessionStorage(bench.sessions, SystemClock())


@pytest.mark.parametrize("source", SOURCES)
def test_an_open_connection_migrates_an_older_set_before_it_reads_it(
    bench: Bench, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app, open while an older set comes into its place, serves it with today's schema."""
    bench.made()
    module: Any = {"tokens": tokens, "sessions": sessions}[source]
    later = f"ALTER TABLE {source} ADD COLUMN note TEXT"
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, later))
    newest = len(module.MIGRATIONS)
    with closing(open_storage(source, bench)) as storage:
        with closing(connect(bench.live(source))) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (newest,)
        bench.restored()
        if isinstance(storage, TokenStorage):
            assert len(storage.keys()) == 12
        else:
            assert storage.count() == 12
        with closing(connect(bench.live(source))) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (newest,)
            columns = connection.execute(f"SELECT name FROM pragma_table_info('{source}')")
            assert ("note",) in columns.fetchall()


def test_a_newer_set_blocks_the_plan_and_a_restore_in_place(bench: Bench) -> None:
    """A set that this program could not open is refused by name, and nothing is touched."""
    made = newer_set(bench)
    (blocker,) = bench.service.restore.plan(made).blockers
    assert blocker.code == "schema_newer"
    assert "its tokens has schema version 9, and this program supports 4" in blocker.message
    assert "./bot backups list" in blocker.hint
    with pytest.raises(RestoreBlocked, match="schema version 9") as blocked:
        bench.restore(made)
    assert blocked.value.code == "schema_newer"
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_newer_set_can_be_restored_into_a_folder(bench: Bench, tmp_path: Path) -> None:
    """`--to` writes the files of any version, and the sources that this program can open."""
    made = newer_set(bench)
    bench.restored(made, to=tmp_path / "target")
    with closing(connect(tmp_path / "target" / "tokens.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEWER,)
    bench.restored(made, only="sessions")
    assert bench.generations() == {"tokens": "genlive", "sessions": "genset"}


def test_a_newer_legacy_object_is_refused_when_it_is_read(bench: Bench, tmp_path: Path) -> None:
    """No manifest says its version; its file is looked at before anything live is touched."""
    path = tmp_path / "tokens.db"
    with closing(sqlite3.connect(path)) as connection, closing(connect(bench.tokens)) as live:
        live.backup(connection)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(f"PRAGMA user_version={NEWER}")
    bench.store.put(f"{PREFIX}tokens_2025-07-04.db", io.BytesIO(path.read_bytes()), {})
    bench.write("genlive")
    run = bench.restore("legacy-2025-07-04")
    assert run.error is not None
    assert run.error.code == "schema_newer"
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_start_does_not_install_a_newer_set(bench: Bench) -> None:
    """Restore-on-empty stops by name, and leaves the place empty."""
    newer_set(bench)
    bring_into("missing", bench.tokens)
    with pytest.raises(DatabaseMissing, match="schema version 9, and this program supports 4"):
        bench.service.restore_on_empty.restore_missing()
    assert not bench.tokens.exists()


def test_a_source_of_unknown_versions_is_never_refused(tmp_path: Path) -> None:
    """Of an extra source nobody knows what version its program supports."""
    (source, *_) = make_sources(tmp_path / "data", 5)
    extra = Source("extra", source.path)
    versions = (("tokens", 1),)
    with open_bench(
        tmp_path,
        sources=[extra],
        schema_versions=versions,
    ) as bench:
        set_version(extra.path, NEWER)
        bench.made()
        assert bench.service.restore.plan().blockers == ()
        bench.restored()
