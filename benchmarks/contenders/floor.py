"""What no backup can be faster than: reading and writing the files once, and one bare PUT of each.

Both work without any check, hash or log, on copies, in this process.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import zstandard

from benchmarks.contenders.contender import WHOLE, Times
from benchmarks.databases import Pair
from benchmarks.place import Place

_CHUNK = 1024 * 1024
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
        self._bucket = place.new_bucket()
        self._files: Sequence[Path] = place.copy_of(pair).paths
        if zstd:
            self._files = [_sealed(path) for path in self._files]

    def prepare(self) -> None:
        """An empty bucket."""
        self._place.drop_bucket(self._bucket)
        self._bucket = self._place.new_bucket()

    def backup(self) -> Times:
        """One file after the other, to addresses that were signed before."""
        client = self._place.server.client()
        addresses = [
            client.generate_presigned_url(
                "put_object", Params={"Bucket": self._bucket, "Key": path.name}
            )
            for path in self._files
        ]
        began = time.perf_counter()
        for path, address in zip(self._files, addresses, strict=True):
            _put(path, address)
        return {WHOLE: time.perf_counter() - began}

    def close(self) -> None:
        """Forget the bucket."""
        self._place.drop_bucket(self._bucket)


def _put(path: Path, address: str) -> None:
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, blocksize=_CHUNK)
    with closing(connection), path.open("rb") as body:
        size = str(path.stat().st_size)
        target = f"{parts.path}?{parts.query}"
        connection.request("PUT", target, body, {"Content-Length": size})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"PUT of {path.name}: {answer.status} {told!r}")


def _sealed(path: Path) -> Path:
    sealed = path.with_suffix(".db.zst")
    with path.open("rb") as source, sealed.open("wb") as target:
        zstandard.ZstdCompressor(_LEVEL).copy_stream(source, target)
    path.unlink()
    return sealed
