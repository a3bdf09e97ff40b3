"""The oracle of chains reads what the format writes, and refuses what is not as it promises."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

import pytest

from backups.format import chain, chain_keys, increment
from backups.format.chain import End, Head, HeadSource
from backups.format.increment import Increment, SourceChange
from backups.increments import bodies
from backups.increments.shadow import Shadow
from backups.model import BackupSet
from tests.support.bench import PREFIX, Bench
from tests.support.bucket_oracle import FolderBucket
from tests.support.chain_oracle import Broken, ChainOracle
from tests.support.databases import write
from tests.support.marks import MARKS, TOKEN_ENCRYPTION_KEY, a_token_key
from tests.support.records import INSTANT

BEGAN = round(INSTANT.timestamp() * 1000)
KEYS = "SELECT key FROM tokens ORDER BY key"


class ChainWriter:
    """Writes a chain with the format alone: a full, and what `tokens` becomes after it."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.made: BackupSet = bench.made()
        self.id = chain_keys.chain_id(self.made.id, self.made.instance or "")
        self.number = 0
        self._files = ExitStack()
        self.shadows = {}
        for one in self.made.objects:
            path = folder / f"{one.source}.db"
            path.write_bytes(bench.bytes_of(one.key))
            self.shadows[one.source] = self._files.enter_context(closing(Shadow(path, 4096)))
        sources = tuple(
            HeadSource(name, 4096, one.pages, one.sum, sha256(one.path.read_bytes()).hexdigest())
            for name, one in self.shadows.items()
        )
        assert self.made.sequence is not None
        head = Head(
            1, self.id, self.made.id, self.made.instance or "", INSTANT, self.made.sequence, sources
        )
        self.before = self.put(chain_keys.head_key(PREFIX, self.id), chain.dump(head))

    def close(self) -> None:
        """Close the shadows."""
        self._files.close()

    def put(self, key: str, document: bytes) -> str:
        """Store a document, marked; its SHA-256."""
        stored = MARKS.sign(key, document)
        self.bench.store.put(key, io.BytesIO(stored), {})
        return sha256(stored).hexdigest()

    def step(self, *statements: str) -> str:
        """Change `tokens`, and store the increment that says so; its key."""
        for statement in statements:
            write(self.bench.tokens, statement)
        self.number += 1
        parts, stored = self._changes()
        line = Increment(
            format=1,
            kind="increment",
            chain=self.id,
            seq=self.number,
            sequence=(self.made.sequence or 0) + self.number,
            instant=BEGAN + 1000 * self.number,
            prev=self.before,
            base_seq=self.number - 1,
            trigger="change",
            how="compare",
            instance=self.made.instance or "",
            same_instant=True,
            sources=tuple(parts),
        )
        key = chain_keys.increment_key(PREFIX, self.id, self.number, sealed=False)
        signed = MARKS.sign_line(key, increment.dump_line(line))
        whole = increment.assemble(signed, stored)
        self.bench.store.put(key, io.BytesIO(whole), {})
        self.before = sha256(whole).hexdigest()
        return key

    def _changes(self) -> tuple[Sequence[SourceChange], Sequence[bytes]]:
        parts, stored = [], []
        for name, shadow in self.shadows.items():
            with (
                closing(sqlite3.connect(self.bench.live(name))) as live,
                closing(sqlite3.connect(":memory:")) as copy,
            ):
                live.backup(copy)
                data = copy.serialize()
            pages = {at // 4096 + 1: data[at : at + 4096] for at in range(0, len(data), 4096)}
            delta = shadow.delta(pages, len(pages))
            body = bodies.fold(delta.raw)
            of = delta.pages_before, delta.pages_after, delta.changed, delta.before, delta.after
            change = SourceChange(name, 4096, *of, len(body), sha256(body).hexdigest())
            shadow.apply(change, delta.raw)
            parts.append(change)
            stored.append(body)
        return parts, stored


@pytest.fixture
def writer(bench: Bench, tmp_path: Path) -> Iterator[ChainWriter]:
    """A chain of three increments, which grows, changes and shrinks `tokens`."""
    folder = tmp_path / "shadows"
    folder.mkdir()
    with closing(ChainWriter(bench, folder)) as writer:
        writer.step("INSERT INTO tokens VALUES ('new', 'x', 0)")
        writer.step(
            "INSERT INTO tokens SELECT 'many-' || value, hex(randomblob(4000)), 0 FROM tokens"
        )
        writer.step("DELETE FROM tokens WHERE key LIKE 'many-%'", "VACUUM")
        yield writer


@pytest.fixture
def bucket(tmp_path: Path) -> FolderBucket:
    """What somebody sees who has the store alone."""
    return FolderBucket(tmp_path / "store")


def test_it_knows_the_rows_of_each_point(writer: ChainWriter, bucket: FolderBucket) -> None:
    """Each number has the rows that were live then, and the newest is the last that was stored."""
    oracle = ChainOracle(bucket, TOKEN_ENCRYPTION_KEY)
    points = oracle.points()
    assert [one.number for one in points] == [0, 1, 2, 3]
    assert oracle.newest() == points[-1]
    assert oracle.newest(BEGAN + 1500) == points[1]
    counts = [len(oracle.rows(one, KEYS)) for one in points]
    assert counts == [3, 4, 8, 4]
    assert ("new",) in oracle.rows(points[-1], KEYS)
    assert oracle.check() == 3


def _sub(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(stored: bytes) -> bytes:
        assert old in stored
        return stored.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_sub(b'"trigger":"change"', b'"trigger":"chance"'), "mark"),
        (lambda stored: stored[:-1], "body"),
        (lambda stored: stored + b"x", "after its bodies"),
        (lambda stored: stored[:-1] + bytes([stored[-1] ^ 1]), "body"),
    ],
    ids=["line", "cut", "longer", "flipped"],
)
def test_it_refuses_an_object_that_was_changed(
    writer: ChainWriter, bucket: FolderBucket, change: Callable[[bytes], bytes], said: str
) -> None:
    """A line without its mark, and a body of other bytes, are found."""
    key = chain_keys.increment_key(PREFIX, writer.id, 3, sealed=False)
    bucket.write(key, change(bucket.read(key)))
    with pytest.raises(Broken, match=said):
        ChainOracle(bucket, TOKEN_ENCRYPTION_KEY).check()


def test_it_refuses_a_gap_a_swap_and_another_key(writer: ChainWriter, bucket: FolderBucket) -> None:
    """A number that is missing, one under another's key, and the mark of another key are found."""
    first, second, _ = (
        chain_keys.increment_key(PREFIX, writer.id, number, sealed=False) for number in (1, 2, 3)
    )
    with pytest.raises(Broken, match="mark"):
        ChainOracle(bucket, a_token_key("another")).points()
    bucket.write(second, bucket.read(first))
    with pytest.raises(Broken, match="mark"):
        ChainOracle(bucket, TOKEN_ENCRYPTION_KEY).points()
    bucket.delete(second)
    with pytest.raises(Broken, match="lacks its increment 2"):
        ChainOracle(bucket, TOKEN_ENCRYPTION_KEY).points()


def test_an_end_is_the_end(writer: ChainWriter, bucket: FolderBucket) -> None:
    """A chain that goes on after its end is broken; one that ended where it says is not."""
    end = End(1, writer.id, INSTANT, "new_chain", 3)
    writer.put(chain_keys.end_key(PREFIX, writer.id), chain.dump(end))
    assert ChainOracle(bucket, TOKEN_ENCRYPTION_KEY).check() == 3
    writer.step("INSERT INTO tokens VALUES ('late', 'x', 0)")
    with pytest.raises(Broken, match="ended at 3"):
        ChainOracle(bucket, TOKEN_ENCRYPTION_KEY).points()


def test_a_verdict_takes_points_from_those_that_count(
    writer: ChainWriter, bucket: FolderBucket
) -> None:
    """What a later check found wrong is not the newest point."""
    check = chain.Check(1, writer.id, INSTANT, 1, "it differs")
    writer.put(chain_keys.check_key(PREFIX, writer.id, INSTANT), chain.dump(check))
    assert ChainOracle(bucket, TOKEN_ENCRYPTION_KEY).newest().number == 1
