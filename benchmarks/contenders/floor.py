"""What no backup can be faster than: reading and writing the files once, and one bare PUT of each.

Both work without any check, hash or log, on copies, in this process. `BarePut` sends from another,
and `BusyProcessor` only computes in one, to see what a writer or an asker feels of that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import zstandard

from benchmarks.contenders.contender import WHOLE, Times
from benchmarks.databases import Pair
from benchmarks.place import REPOSITORY, Place
from benchmarks.putting import put

_CHUNK = 1024 * 1024
LEAST_SECONDS = 1.0  # of what others are watched beside: a p99 is then not just the longest
_LEVEL = 1


class ReadAndWrite:
    """One read of both databases and one write of the same bytes."""

    name = "floor: one read + one write"

    def __init__(self, place: Place, pair: Pair) -> None:
        self._from = place.copy_of(pair)  # a live file is opened by nobody but SQLite
        self._to = place.new_folder("floor")

    def prepare(self) -> None:
        """Remove what was written."""
        for path in self._to.iterdir():
            path.unlink()

    def backup(self) -> Times:
        """Read and write."""
        began = time.perf_counter()
        for path in self._from.paths:
            with path.open("rb") as source, (self._to / path.name).open("wb") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
        return {WHOLE: time.perf_counter() - began}

    def close(self) -> None:
        """The place removes the files."""


class RawPut:
    """One PUT of each file, plain or sealed beforehand, whose bytes nobody hashes."""

    def __init__(self, place: Place, pair: Pair, *, zstd: bool) -> None:
        self.name = f"floor: one raw PUT, {'zstd' if zstd else 'plain'}"
        self._place = place
        self.bucket = place.new_bucket()
        self._files: Sequence[Path] = place.copy_of(pair).paths
        if zstd:
            self._files = [_sealed(path) for path in self._files]

    def prepare(self) -> None:
        """An empty bucket."""
        self._place.drop_bucket(self.bucket)
        self.bucket = self._place.new_bucket()

    def backup(self) -> Times:
        """One file after the other, to addresses that were signed before."""
        addressed = self.addressed()
        began = time.perf_counter()
        for path, address in addressed:
            put(path, address)
        return {WHOLE: time.perf_counter() - began}

    def addressed(self) -> Sequence[tuple[Path, str]]:
        """Each file, with the signed address that it is to be put to."""
        client = self._place.server.client()
        return [
            (
                path,
                client.generate_presigned_url(
                    "put_object", Params={"Bucket": self.bucket, "Key": path.name}
                ),
            )
            for path in self._files
        ]

    def close(self) -> None:
        """Forget the bucket."""
        self._place.drop_bucket(self.bucket)


class BarePut:
    """The same PUTs of sealed files, from a waiting process that does nothing else; close it.

    What others feel of them, they feel of any way to send these bytes.
    """

    name = "a bare PUT, zstd"

    def __init__(self, place: Place, pair: Pair) -> None:
        self.pair = pair
        self._put = RawPut(place, pair, zstd=True)
        self._addressed = self._put.addressed()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.putting", str(LEAST_SECONDS)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._hear("ready")
        except BaseException:
            self.close()
            raise

    @property
    def bucket(self) -> str:
        """Where it puts them."""
        return self._put.bucket

    @property
    def pid(self) -> int:
        """The process that sends."""
        return self._process.pid

    def prepare(self) -> None:
        """An empty bucket, and addresses in it."""
        self._put.prepare()
        self._addressed = self._put.addressed()

    def backup(self) -> Times:
        """All files; again, if that took too short a time for others to feel it."""
        assert self._process.stdin is not None
        began = time.perf_counter()
        order = [(str(path), address) for path, address in self._addressed]
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._hear("put")
        return {WHOLE: time.perf_counter() - began}

    def close(self) -> None:
        """End the process, and forget the bucket."""
        self._process.kill()
        self._process.communicate()
        self._put.close()

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{word}\n":
            raise RuntimeError("the bare PUT failed; its process said why")


class BusyProcessor:
    """A process that computes hashes: it keeps one processor busy, and touches no file or store.

    What others feel of it, they feel on this host of anybody who computes.
    """

    name = "one busy processor"

    def __init__(self, _place: Place, pair: Pair) -> None:
        self.pair = pair

    def prepare(self) -> None:
        """Nothing is kept."""

    def backup(self) -> Times:
        """No backup: it lasts as long as `BarePut` at least does."""
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.computing", str(LEAST_SECONDS)]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        return {WHOLE: time.perf_counter() - began}

    def close(self) -> None:
        """Its process has ended."""


def _sealed(path: Path) -> Path:
    sealed = path.with_suffix(".db.zst")
    with path.open("rb") as source, sealed.open("wb") as target:
        zstandard.ZstdCompressor(_LEVEL).copy_stream(source, target)
    path.unlink()
    return sealed
