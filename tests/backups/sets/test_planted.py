"""Objects that somebody with the bucket's key has planted: they cost little, and stop nothing."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from backups.errors import ManifestUnread, SealBroken, SetNotFound
from backups.format import naming
from backups.format.document import MOST_BYTES
from backups.model import Source
from backups.sets import marks_table, proof
from backups.sets.seal import generate_key_pair
from backups.sources.room import RESERVE_BYTES
from shared.errors import DiskFull, ObjectTooLarge
from shared.store.directory import DirectoryStore
from shared.store.object_store import BoundedSink, ObjectInfo, get_document
from tests.support.bench import PREFIX, TOKENS, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.store_wrappers import WatchedStore
from tests.support.unsealing import unseal

OTHER = "20261121T010000Z"  # the day before the sets of these tests
HUGE = 300_000_000


def plant(bench: Bench, key: str, body: bytes = b"", *, size: int | None = None) -> None:
    """Put an object into the folder of the store; with `size`, one of so many bytes, of holes."""
    path = bench.folder / "store" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    if size is not None:
        os.truncate(path, size)


def warned(bench: Bench) -> str:
    """What status says of documents that cannot be read."""
    return " ".join(one.message for one in bench.service.catalogue.unread.warnings())


@pytest.mark.parametrize("size", [HUGE, MOST_BYTES + 1])
def test_a_huge_manifest_is_refused_from_the_listing(bench: Bench, size: int) -> None:
    """It is not fetched, it is named with its size, and it stops no listing, run or restore."""
    made = bench.made()
    key = naming.manifest_key(PREFIX, OTHER)
    plant(bench, key, size=size)

    for _ in range(2):
        bench.service.catalogue.refresh()
    assert [one.id for one in bench.service.catalogue.sets()] == [made.id]
    assert bench.restored().set_id == made.id

    assert key not in bench.watched.keys("get")
    assert f"{key}: it has {size:,} bytes" in warned(bench)
    with pytest.raises(ManifestUnread, match=f"{size:,} bytes"):
        bench.service.catalogue.get(OTHER)


@pytest.mark.parametrize("kind", ["proof", "accept", "drill", "aside"])
def test_a_huge_document_beside_a_manifest_is_refused_from_the_listing(
    bench: Bench, clock: FixedClock, kind: str
) -> None:
    """The same for what is stored beside a manifest."""
    made = bench.made()
    key = naming.verdict_key(PREFIX, made.id, kind, clock.now())
    plant(bench, key, size=HUGE)
    bench.service.catalogue.refresh()
    assert key not in bench.watched.keys("get")
    assert key in warned(bench)
    assert bench.service.catalogue.get(made.id).protects


def test_a_document_at_the_limit_is_fetched(bench: Bench) -> None:
    """One byte less than what is refused is read, and judged by what it says."""
    key = naming.manifest_key(PREFIX, OTHER)
    plant(bench, key, size=MOST_BYTES)
    bench.service.catalogue.refresh()
    assert key in bench.watched.keys("get")
    assert key in warned(bench)


def test_a_huge_manifest_that_an_earlier_version_has_taken_in_is_forgotten(bench: Bench) -> None:
    """It comes into memory no more, and after the next listing it is not known any longer."""
    made = bench.made()
    document = bench.bytes_of(bench.manifest_key(made.id))
    huge = document.replace(b'"format": 1', b'"format": 1,' + b" " * 5_000_000, 1)
    plant(bench, bench.manifest_key(made.id), huge)
    with bench.known.transaction() as connection:
        connection.execute("UPDATE sets SET manifest = ?", (huge,))
        connection.execute("DELETE FROM facts WHERE name = 'points'")
    with bench.known.reading() as connection:
        assert marks_table.documents(connection, made.id)["manifest"] == b""
    assert list(bench.service.catalogue.sets()) == []
    bench.service.catalogue.refresh()
    assert f"{len(huge):,} bytes" in warned(bench)
    with pytest.raises((ManifestUnread, SetNotFound)):
        bench.service.catalogue.get(made.id)


class Growing(DirectoryStore):
    """A store whose listing names fewer bytes than it returns."""

    def list(self, prefix: str) -> Iterable[ObjectInfo]:  # type: ignore[override]
        """Each object with 100 bytes."""
        return [replace(info, size=min(info.size, 100)) for info in super().list(prefix)]


def test_a_document_that_is_longer_than_its_listing_says_is_not_read_to_its_end(
    tmp_path: Path, bench: Bench
) -> None:
    """The `get` ends where the listing said that it would, and the document is named."""
    made = bench.made()
    store = WatchedStore(Growing(tmp_path / "store"))
    with open_bench(tmp_path, store, directory="other", sources=bench.sources) as other:
        other.service.catalogue.refresh()
        assert "more than 100 bytes" in warned(other)
        assert made.id in warned(other)


# --- a manifest that speaks of others ----------------------------------------------------------


def test_a_manifest_that_claims_the_keys_of_another_set_is_not_pruned(
    bench: Bench, clock: FixedClock
) -> None:
    """It is invalid: nothing of it is deleted when its time is over, and the other set is whole."""
    made = bench.made()
    document = bench.manifest_of(made.id)
    document |= {"id": "20240101T000000Z", "instant": "2024-01-01T00:00:00Z"}
    key = naming.manifest_key(PREFIX, "20240101T000000Z")
    metadata = {"set-id": "20240101T000000Z", "instance": made.instance}
    bench.store.put(key, io.BytesIO(json.dumps(document).encode()), metadata)
    before = set(bench.all_keys())
    clock.advance(days=1)

    assert bench.prune().status == "succeeded"

    assert set(bench.all_keys()) == before
    assert "no key of source" in warned(bench)
    assert bench.verify(made.id).status == "succeeded"


def test_no_manifest_is_published_that_nobody_would_read(
    tmp_path: Path, store: WatchedStore
) -> None:
    """More tables than a manifest may name, in two sources: the run fails, and leaves nothing."""
    sources = make_sources(tmp_path / "data", 3)
    for name in ("one", "two"):
        path = tmp_path / "data" / f"{name}.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for number in range(6000):
                connection.execute(f"CREATE TABLE t{number}(id INTEGER)")
            connection.execute("COMMIT")
        sources = (*sources, Source(name, path))
    with open_bench(tmp_path, store, sources=sources) as bench:
        run = bench.run()
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == "manifest_invalid"
        assert "values" in run.error.message
        assert bench.all_keys() == []


# --- data objects ------------------------------------------------------------------------------


class Counting:
    """A sink that counts."""

    taken = 0

    def write(self, chunk: bytes, /) -> None:
        """Count a chunk."""
        self.taken += len(chunk)


def test_a_get_ends_at_the_promised_size(either_bench: Bench) -> None:
    """Of a larger object no byte more is passed on, and the store works on as before."""
    store, key = either_bench.store, f"{PREFIX}tokens_2026-01-01.db"
    store.put(key, io.BytesIO(os.urandom(9_000_000)), {"sha256": "planted"})
    sink = Counting()
    with pytest.raises(ObjectTooLarge, match="more than 3,000,000 bytes"):
        store.get(key, BoundedSink(sink, key, 3_000_000))
    assert sink.taken <= 3_000_000
    with pytest.raises(ObjectTooLarge):
        get_document(store, key, 8_999_999)
    assert len(get_document(store, key, 9_000_000)) == 9_000_000


def test_a_data_object_that_has_grown_is_a_failed_proof(bench: Bench) -> None:
    """`verify` and `restore` do not fill the disk with what somebody has put there."""
    made = bench.made()
    body = bench.bytes_of(TOKENS)
    plant(bench, TOKENS, body, size=len(body) + HUGE)
    bench.forget_copies()
    run = bench.verify(made.id)
    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert f"more than the {len(body)} bytes" in run.error.message
    assert bench.restore(made.id).status == "failed"
    assert bench.staged() == []


def bomb(size: int) -> bytes:
    """A zstd frame that unfolds into so many zeros, and does not say so."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    chunk = bytes(1024 * 1024)
    parts = [compressor.compress(chunk) for _ in range(size // len(chunk))]
    return b"".join([*parts, compressor.flush()])


def test_a_bomb_under_a_key_of_the_old_scripts_stops_before_the_disk_is_full(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows its size: it unfolds up to the room that is there, less the reserve."""
    for source in ("tokens", "sessions"):
        plant(bench, f"{PREFIX}{source}_2025-07-04.db.zst", bomb(100_000_000))
    bench.service.catalogue.refresh()
    monkeypatch.setattr(proof, "free_bytes", lambda _folder: RESERVE_BYTES + 3_000_000)

    run = bench.verify("legacy-2025-07-04")

    assert run.error is not None
    assert run.error.code == DiskFull.code
    assert "3,000,000 bytes" in run.error.message
    assert bench.staged() == []


def test_a_bomb_is_not_written_beyond_its_bound(tmp_path: Path) -> None:
    """What stops it stops it in time: the file has at most some megabytes more."""
    (tmp_path / "bomb").write_bytes(bomb(100_000_000))

    def tick(done: int) -> None:
        if done > 3_000_000:
            raise DiskFull("enough", "")

    with pytest.raises(DiskFull):
        unseal(tmp_path / "bomb", ".zst", tmp_path / "target", None, most=None, tick=tick)
    assert (tmp_path / "target").stat().st_size <= 3_000_000


def test_a_frame_that_needs_a_large_window_is_refused(tmp_path: Path) -> None:
    """Unfolding needs no more memory than it does for what is sealed here, or by `zstd -19`."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(os.urandom(20_000_000)) + compressor.flush()
    (tmp_path / "frame").write_bytes(body)
    with pytest.raises(SealBroken, match="damaged"):
        unseal(tmp_path / "frame", ".zst", tmp_path / "target", None, most=30_000_000)


def identity(tmp_path: Path) -> Path:
    """A file with an age identity."""
    path = tmp_path / "identity"
    path.write_text(generate_key_pair()[0])
    return path


def stanzas(number: int) -> bytes:
    """An age file with so many recipients that are nobody."""
    share, body = b"A" * 43, b"B" * 43
    entry = b"-> X25519 " + share + b"\n" + body + b"\n"
    return b"age-encryption.org/v1\n" + entry * number + b"--- " + body + b"\n" + bytes(64)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(stanzas(1000), id="a thousand recipients"),
        pytest.param(b"-----BEGIN AGE ENCRYPTED FILE-----\n" * 10, id="armor"),
        pytest.param(b"age-encryption.org/v1\n" + b"A" * 200_000, id="a header without an end"),
    ],
)
def test_a_long_age_header_is_refused(tmp_path: Path, body: bytes) -> None:
    """Each of its entries would cost a computation for each identity: it has at most 64 KB."""
    (tmp_path / "x.age").write_bytes(body)
    with pytest.raises(SealBroken, match="header"):
        unseal(tmp_path / "x.age", ".age", tmp_path / "target", identity(tmp_path), most=1000)
