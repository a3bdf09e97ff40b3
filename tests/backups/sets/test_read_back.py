"""Tests of `backups.sets.proof.read_back`: what was just put is proven by its bytes alone."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backups.config import SealConfig
from backups.errors import IdentityWrong, ProofFailed, RunInterrupted
from backups.model import Progress, StoredObject
from backups.sets.proof import ProofTools, read_back
from backups.sets.seal import generate_key_pair, seal
from backups.sources.checking.inspection import sha256_of
from shared.errors import StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.object_store import ignore_bytes
from tests.support.records import a_stored_object
from tests.support.store_wrappers import WatchedStore

SECRET, PUBLIC = generate_key_pair()
SEALS = {
    "plain": SealConfig(),
    "zstd": SealConfig("zstd"),
    "age": SealConfig(recipients=(PUBLIC,)),
    "zstd and age": SealConfig("zstd", (PUBLIC,)),
}
# More than the pieces that a store hands over, and than the header of an age file.
CONTENT = b"SQLite format 3\0" + os.urandom(1_500_000) + bytes(2_000_000)


class Put:
    """An object as a backup has put it, and what reads it back."""

    def __init__(self, folder: Path, config: SealConfig, content: bytes = CONTENT) -> None:
        self.store = WatchedStore(DirectoryStore(folder / "store"))
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.identity = folder / "identity.txt"
        self.identity.write_text(SECRET)
        snapshot = folder / "tokens.db"
        snapshot.write_bytes(content)
        sealed = seal(snapshot, sha256_of(snapshot), config, ignore_bytes)
        self.key = f"backups/tokens_2026-11-22.db{sealed.suffix}"
        self.sealed = sealed.path.read_bytes()
        self.described = a_stored_object(
            key=self.key,
            bytes=sealed.bytes,
            sha256=sealed.sha256,
            snapshot_bytes=len(content),
            snapshot_sha256=sha256_of(snapshot),
        )

    def put(self, stored: bytes) -> None:
        """What the store has under the key."""
        self.store.put(self.key, io.BytesIO(stored), {})

    def read_back(
        self,
        described: StoredObject | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> str:
        """The level that is proven; nothing is written for it."""
        tools = ProofTools(self.store, self.scratch, self.identity, progress)
        try:
            return read_back(tools, described or self.described)
        finally:
            assert list(self.scratch.iterdir()) == []


@pytest.fixture(params=SEALS, ids=str)
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Put:
    """A snapshot, sealed in each way."""
    return Put(tmp_path, SEALS[request.param])


def test_what_was_put_is_proven(put: Put) -> None:
    """It is read once, to its end, and has the snapshot inside."""
    put.put(put.sealed)
    told: list[Progress] = []

    assert put.read_back(progress=told.append) == "full"

    assert put.store.keys("get") == [put.key]
    assert (told[-1].done, told[-1].total) == (len(put.sealed), len(put.sealed))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stored: stored[:5000] + bytes([stored[5000] ^ 1]) + stored[5001:],
        lambda stored: stored[:-1] + bytes([stored[-1] ^ 1]),
        lambda stored: stored[:-1],
        lambda stored: stored[: len(stored) // 2],
        lambda stored: stored + b"\0",
        lambda stored: b"",
        lambda stored: b"\0" * len(stored),
    ],
    ids=["a bit", "the last bit", "a byte short", "half", "a byte longer", "empty", "zeros"],
)
def test_other_bytes_than_were_put_are_said_to_be(
    put: Put, spoil: Callable[[bytes], bytes]
) -> None:
    """Whatever the damage does to unpacking, the error says that other bytes came."""
    put.put(spoil(put.sealed))

    with pytest.raises(ProofFailed, match="uploaded") as caught:
        put.read_back()

    assert put.key in caught.value.message


def test_another_snapshot_inside_is_no_proof(tmp_path: Path) -> None:
    """The stored bytes are those that were put, but what was put is not what was checked."""
    put = Put(tmp_path, SEALS["zstd and age"])
    put.put(put.sealed)

    with pytest.raises(ProofFailed, match="not what was compressed and encrypted"):
        put.read_back(replace(put.described, snapshot_sha256="0" * 64))


def test_more_inside_than_the_snapshot_is_no_proof(tmp_path: Path) -> None:
    """It ends where the snapshot would have ended, not where the disk or the memory does."""
    put = Put(tmp_path, SEALS["zstd"])
    put.put(put.sealed)

    with pytest.raises(ProofFailed, match=r"cannot be restored: .* more than the 1000 bytes"):
        put.read_back(replace(put.described, snapshot_bytes=1000))


def test_what_only_another_identity_opens_is_no_verdict(tmp_path: Path) -> None:
    """The bytes are right; that nobody here can open them is said as such."""
    put = Put(tmp_path, SEALS["zstd and age"])
    put.put(put.sealed)
    put.identity.write_text(generate_key_pair()[0])

    with pytest.raises(IdentityWrong):
        put.read_back()


@pytest.mark.parametrize("name", ["age", "zstd and age"])
def test_without_the_identity_the_sealed_bytes_are_compared(tmp_path: Path, name: str) -> None:
    """That is another level of proof."""
    put = Put(tmp_path, SEALS[name])
    put.put(put.sealed)

    assert read_back(ProofTools(put.store, put.scratch, None, lambda _: None), put.described) == (
        "sealed"
    )


def test_an_object_that_is_gone_is_no_proof(put: Put) -> None:
    """The store accepted it and does not have it."""
    with pytest.raises(ProofFailed, match="not in the store"):
        put.read_back()


def test_a_plain_database_in_place_of_an_encrypted_one_is_named(tmp_path: Path) -> None:
    """Whoever can read the bucket can read it; nobody can have put it by mistake."""
    put = Put(tmp_path, SEALS["age"])
    put.put(CONTENT)
    described = replace(put.described, bytes=len(CONTENT), sha256=put.described.snapshot_sha256)

    with pytest.raises(ProofFailed, match="should be encrypted"):
        put.read_back(described)


def test_a_store_that_does_not_answer_is_no_verdict(put: Put) -> None:
    """What it raised comes out as it was."""
    put.put(put.sealed)

    def fail() -> None:
        raise StoreUnreachable("no answer")

    put.store.before("get", put.key, fail)
    with pytest.raises(StoreUnreachable):
        put.read_back()


def test_a_progress_that_raises_stops_it(put: Put) -> None:
    """In the middle of the bytes, too."""
    put.put(put.sealed)

    def stop(_: Progress) -> None:
        raise RunInterrupted

    with pytest.raises(RunInterrupted):
        put.read_back(progress=stop)
