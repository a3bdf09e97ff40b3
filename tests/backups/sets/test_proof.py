"""Tests of `backups.sets.proof`."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backups.errors import ProofFailed, RunInterrupted
from backups.model import Progress, StoredObject
from backups.sets.proof import ProofTools, bring, check_database, prove_stored
from backups.sources.checking.inspection import read_facts
from shared.errors import StoreError, StoreUnreachable
from shared.store.directory import DirectoryStore
from tests.support.databases import connect, make_database
from tests.support.records import a_stored_object
from tests.support.store_wrappers import WatchedStore

KEY = "backups/tokens_2026-11-22.db"


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def ignore(_: Progress) -> None:
    pass


def a_database(tmp_path: Path, rows: int = 1_000) -> bytes:
    """The bytes of a self-contained database."""
    return make_database(tmp_path / "tokens.db", rows, journal_mode="delete").read_bytes()


def described(content: bytes, tmp_path: Path) -> StoredObject:
    """What a manifest says of these bytes of a database."""
    path = tmp_path / "described.db"
    path.write_bytes(content)
    with closing(connect(path)) as connection:
        facts = read_facts(connection)
    digest = hashlib.sha256(content).hexdigest()
    return a_stored_object(
        bytes=len(content),
        sha256=digest,
        snapshot_bytes=len(content),
        snapshot_sha256=digest,
        **vars(facts),
    )


def stored(store: WatchedStore, content: bytes) -> None:
    store.put(KEY, io.BytesIO(content), {})


def test_what_was_put_is_proven_and_leaves_nothing(
    store: WatchedStore, scratch: Path, tmp_path: Path
) -> None:
    """Good bytes pass, are read from the store, and no copy of them stays behind."""
    content = a_database(tmp_path)
    stored(store, content)
    told: list[Progress] = []

    prove_stored(ProofTools(store, scratch, None, told.append), described(content, tmp_path))

    assert store.keys("get") == [KEY]
    assert list(scratch.iterdir()) == []
    assert (told[-1].stage, told[-1].source) == ("proof", "tokens")
    assert told[-1].done == told[-1].total == len(content)


def flipped(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize(
    "spoil",
    [
        flipped,
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: content[::-1],
    ],
    ids=["a bit flipped", "a byte short", "cut in half", "a byte longer", "empty", "other bytes"],
)
def test_other_bytes_than_were_put_are_a_failed_proof(
    store: WatchedStore, scratch: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """Whatever differs from the bytes that were put is found, named, and left nowhere."""
    content = a_database(tmp_path)
    stored(store, spoil(content))

    with pytest.raises(ProofFailed) as caught:
        prove_stored(ProofTools(store, scratch, None, ignore), described(content, tmp_path))

    assert caught.value.code == "proof_failed"
    assert KEY in caught.value.message
    assert caught.value.hint
    assert list(scratch.iterdir()) == []


def test_an_object_that_is_gone_is_a_failed_proof(
    store: WatchedStore, scratch: Path, tmp_path: Path
) -> None:
    """A store that accepted an object and does not have it is a definite verdict."""
    wanted = described(a_database(tmp_path), tmp_path)

    with pytest.raises(ProofFailed, match="not in the store"):
        prove_stored(ProofTools(store, scratch, None, ignore), wanted)

    assert list(scratch.iterdir()) == []


def test_a_store_that_does_not_answer_is_no_verdict(
    store: WatchedStore, scratch: Path, tmp_path: Path
) -> None:
    """Without an answer nothing is known about the bytes, so it is no `ProofFailed`."""
    content = a_database(tmp_path)
    stored(store, content)

    def fail() -> None:
        raise StoreUnreachable("no answer")

    store.before("get", KEY, fail)
    with pytest.raises(StoreError) as caught:
        prove_stored(ProofTools(store, scratch, None, ignore), described(content, tmp_path))

    assert caught.value.code == "store_unreachable"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"rows": {"tokens": 999}},
        {"rows": {"tokens": 1_000, "more": 0}},
        {"rows": {}},
        {"page_count": 1},
        {"page_size": 512},
        {"user_version": 9},
    ],
    ids=str,
)
def test_a_database_that_is_not_as_described_is_a_failed_proof(
    store: WatchedStore, scratch: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    """The right bytes with the wrong counts are no proof: what was counted live must be there."""
    content = a_database(tmp_path)
    stored(store, content)

    with pytest.raises(ProofFailed, match="its manifest records"):
        prove_stored(
            ProofTools(store, scratch, None, ignore), replace(described(content, tmp_path), **other)
        )


def test_a_damage_that_was_there_before_the_put_is_found(
    store: WatchedStore, scratch: Path, tmp_path: Path
) -> None:
    """The full integrity check runs on the stored bytes: a matching hash is not enough."""
    sound = a_database(tmp_path, rows=3)  # few enough for an index of one page
    with closing(connect(tmp_path / "tokens.db")) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE type = 'index'"
        ).fetchone()[0]
    # The index lacks what the table has: `quick_check` would not see that.
    other = make_database(tmp_path / "other" / "tokens.db", 3, journal_mode="delete")
    with closing(connect(other)) as connection:
        connection.execute("UPDATE tokens SET key = 'z' || key")
    page = slice(4096 * (root - 1), 4096 * root)
    damaged = sound[: page.start] + other.read_bytes()[page] + sound[page.stop :]
    facts = vars(described(sound, tmp_path))
    digest = hashlib.sha256(damaged).hexdigest()
    stored(store, damaged)

    with pytest.raises(ProofFailed, match="cannot be restored"):
        prove_stored(
            ProofTools(store, scratch, None, ignore), StoredObject(**{**facts, "sha256": digest})
        )


def test_bytes_that_are_no_database_are_a_failed_proof(scratch: Path) -> None:
    """What SQLite does not open is a definite verdict, not an error of the database."""
    path = scratch / "tokens.db"
    path.write_bytes(b"no database, though it has the right hash" * 100)

    with pytest.raises(ProofFailed, match="not a SQLite database"):
        check_database(path, a_stored_object(), lambda: None)


def test_reading_back_leaves_no_journal_beside_the_file(
    store: WatchedStore, scratch: Path, tmp_path: Path
) -> None:
    """Even a copy that still claims to be in WAL mode is checked without a trace."""
    path = make_database(tmp_path / "wal" / "tokens.db", 100)
    content = path.read_bytes()
    assert content[18:20] == b"\x02\x02"
    (scratch / "tokens.db").write_bytes(content)

    check_database(scratch / "tokens.db", described(content, tmp_path), lambda: None)

    assert [left.name for left in scratch.iterdir()] == ["tokens.db"]


def test_what_is_read_back_is_private(store: WatchedStore, scratch: Path, tmp_path: Path) -> None:
    """The downloaded copy holds everything, so it is 0600 from the first byte."""
    content = a_database(tmp_path)
    stored(store, content)
    modes = []

    def look(_: Progress) -> None:
        modes.append(stat.S_IMODE((scratch / "copy.db").stat().st_mode))

    bring(ProofTools(store, scratch, None, look), described(content, tmp_path), scratch / "copy.db")

    assert set(modes) == {0o600}
    assert (scratch / "copy.db").read_bytes() == content


def test_a_fetch_never_overwrites(store: WatchedStore, scratch: Path, tmp_path: Path) -> None:
    """A file that is in the way stays as it is."""
    content = a_database(tmp_path)
    stored(store, content)
    (scratch / "copy.db").write_text("mine")

    with pytest.raises(FileExistsError):
        bring(
            ProofTools(store, scratch, None, ignore),
            described(content, tmp_path),
            scratch / "copy.db",
        )

    assert (scratch / "copy.db").read_text() == "mine"


def test_a_progress_that_raises_stops_the_proof(
    store: WatchedStore, scratch: Path, tmp_path: Path
) -> None:
    """To stop a run its progress raises: that comes out, and nothing is left."""
    content = a_database(tmp_path)
    stored(store, content)

    def stop(_: Progress) -> None:
        raise RunInterrupted("stop")

    with pytest.raises(RunInterrupted):
        prove_stored(ProofTools(store, scratch, None, stop), described(content, tmp_path))

    assert list(scratch.iterdir()) == []
