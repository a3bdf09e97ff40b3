"""The streams that a seal goes through: readers and writers that count, hash, refuse and unfold.

A library that reads or writes through one of them replaces the error that the stream raised;
so each keeps its `error`, and `own_errors` raises that one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn, Protocol

from backups.errors import SealBroken
from shared.store.object_store import ignore_bytes

# Of a bomb, this many bytes unfold into some 15 MB before it is noticed.
_UNFOLDED_AT_A_TIME = 512
# What they unfold into is hashed and written together: each step has its price.
_WRITTEN_AT_A_TIME = 256 * 1024
# What a frame may need to be unfolded: all that is sealed here needs less, and so does what
# `zstd -19` makes (https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1.1.2).
_MOST_WINDOW = 8 * 1024 * 1024
BROKEN_HINT = "Choose another restore point (./bot backups list)."


@contextmanager
def own_errors(*streams: Any) -> Iterator[None]:
    """Raise what one of our streams raised, in place of what a library made of it."""
    try:
        yield
    except Exception as error:
        for stream in streams:
            own = getattr(stream, "error", None)
            if isinstance(own, BaseException):
                raise own from error
        raise


@contextmanager
def _zstd_errors(name: str) -> Iterator[None]:
    import zstandard  # noqa: PLC0415

    try:
        yield
    except zstandard.ZstdError as error:
        raise SealBroken(f"{name} is damaged: {error}", BROKEN_HINT) from None


class Source(Protocol):
    """Where sealed bytes are read from; any binary file is one."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class ContinuedReader:
    """A reader of bytes that were read already, and then of the source that they came from."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1) -> bytes:
        """The next bytes, of one of the two."""
        if not self._head:
            return self._source.read(size)
        end = len(self._head) if size < 0 else size
        found, self._head = self._head[:end], self._head[end:]
        return found


class CountedReader:
    """A reader that reports how far it is, and keeps the error of its listener."""

    def __init__(self, source: BinaryIO, tick: Callable[[int], None]) -> None:
        self._source = source
        self._tick = tick
        self._done = 0
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes; raises what the listener raises."""
        chunk = self._source.read(size)
        self._done += len(chunk)
        try:
            self._tick(self._done)
        except BaseException as error:
            self.error = error
            raise
        return chunk


class CompressingReader:
    """The reader of a compressor, with the error that its own source met."""

    def __init__(self, reader: Any, source: CountedReader) -> None:
        self._reader = reader
        self._source = source

    @property
    def error(self) -> BaseException | None:
        """What the source of the compressor raised."""
        return self._source.error

    def read(self, size: int = -1) -> bytes:
        """The next compressed bytes."""
        found: bytes = self._reader.read(size)
        return found


class HashingWriter:
    """A writer that hashes, counts, refuses to grow beyond `most`, and keeps its error.

    Without a file, the bytes are only hashed and counted.
    `tick` hears how many bytes are about to be there, and may raise to stop the work.
    """

    def __init__(
        self,
        file: BinaryIO | None,
        most: int | None = None,
        tick: Callable[[int], None] = ignore_bytes,
    ) -> None:
        self._file = file
        self._most = most
        self._tick = tick
        self._hash = hashlib.sha256()
        self.size = 0
        self.error: BaseException | None = None

    def write(self, chunk: bytes) -> int:
        """Write all of `chunk`; raises `SealBroken` for more than `most` bytes."""
        try:
            self.size += len(chunk)
            if self._most is not None and self.size > self._most:
                raise SealBroken(
                    f"the decompressed file has more than the {self._most} bytes it should have",
                    BROKEN_HINT,
                )
            self._tick(self.size)
            self._hash.update(chunk)
            return len(chunk) if self._file is None else self._file.write(chunk)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._file is not None:
            self._file.flush()

    def hexdigest(self) -> str:
        """The SHA-256 of what was written."""
        return self._hash.hexdigest()


class UnfoldingWriter:
    """A writer that decompresses into another; `flush` refuses a frame that has not ended."""

    def __init__(self, sink: HashingWriter, name: str) -> None:
        import zstandard  # noqa: PLC0415

        self._sink = sink
        self._name = name
        self._frame = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).decompressobj()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.error: BaseException | None = None

    def write(self, chunk: bytes) -> int:
        """Unfold all of `chunk`; raises `SealBroken` for what is no frame, or follows its end."""
        view = memoryview(chunk)
        try:
            with _zstd_errors(self._name):
                self._unfold(view)
        except BaseException as error:
            self.error = error
            raise
        return len(view)

    def _unfold(self, view: memoryview) -> None:
        for start in range(0, len(view), _UNFOLDED_AT_A_TIME):
            if self._frame.eof:
                self._refuse("there is extra data after the end of the compressed stream")
            piece = self._frame.decompress(view[start : start + _UNFOLDED_AT_A_TIME])
            if len(piece) >= _WRITTEN_AT_A_TIME:  # never twice in memory
                self._write_waiting()
                self._sink.write(piece)
                continue
            self._pieces.append(piece)
            self._waiting += len(piece)
            if self._waiting >= _WRITTEN_AT_A_TIME:
                self._write_waiting()
        if self._frame.unused_data:
            self._refuse("there is extra data after the end of the compressed stream")

    def flush(self) -> None:
        """Write what is left; raises `SealBroken` when the frame has not ended."""
        if not self._frame.eof:
            self._refuse("the end of the compressed stream is missing")
        self._write_waiting()
        self._sink.flush()

    def _write_waiting(self) -> None:
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        self._sink.write(b"".join(pieces))

    def _refuse(self, why: str) -> NoReturn:
        raise SealBroken(f"{self._name} is damaged: {why}", BROKEN_HINT)
