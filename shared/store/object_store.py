"""The port to the place where objects are kept: seven methods, one more for documents.

`shared.store.spaces` keeps them in DigitalOcean Spaces (or any S3 server), and
`shared.store.directory` in a folder. One contract suite runs over both. The backups see
`ObjectStore`, which cannot overwrite; what mirrors a platform may also be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Literal, Protocol, runtime_checkable

from shared.errors import ObjectTooLarge

StoreKind = Literal["spaces", "directory"]

# Bytes moved so far of one body; it starts again from a lower number when a retry does.
ByteProgress = Callable[[int], None]

CHUNK_BYTES = 1024 * 1024


def ignore_bytes(_: int) -> None:
    """The `ByteProgress` of a caller that does not watch."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a store tells about an object without its bytes.

    `metadata` has lower-case names and is empty in listings, where S3 does not send it. `tag` is
    another text when the bytes are others; empty where the store says none.
    """

    key: str
    size: int
    modified_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""


class Sink(Protocol):
    """Where `ObjectStore.get` writes; any binary file is one."""

    def write(self, chunk: bytes, /) -> object:
        """Take all of `chunk`."""


class BoundedSink:
    """Passes at most `most` bytes of the object `key` on, so that a `get` of it ends there.

    Its `write` raises `ObjectTooLarge` instead of taking more.
    """

    def __init__(self, sink: Sink, key: str, most: int) -> None:
        self._sink = sink
        self._key = key
        self._most = most
        self._taken = 0

    def write(self, chunk: bytes, /) -> object:
        """See `Sink.write`."""
        self._taken += len(chunk)
        if self._taken > self._most:
            raise ObjectTooLarge(
                f"get {self._key}: the store returned more than {self._most:,} bytes",
                "Do not use this object: somebody else has written it, or the store is at fault.",
            )
        return self._sink.write(chunk)


class ObjectStore(Protocol):
    """Objects under keys. Every method raises `StoreError` or a subclass.

    Keys are relative paths of printable characters without empty, `.` or `..` parts.
    """

    @property
    def kind(self) -> StoreKind:
        """Which adapter this is."""

    @property
    def location(self) -> str:
        """Where the objects are, for a person; never with a credential in it."""

    @property
    def offsite(self) -> bool:
        """Whether the objects outlive this host's disk."""

    def check(self, key: str, body: bytes) -> None:
        """Prove that the store takes objects and refuses to overwrite them.

        Uses the small object `key` for it, which stays, and which may exist already.
        Raises `StoreOverwrites` when a second conditional put of it was accepted.
        """

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """Store all of the seekable `body` under a key that is free.

        Raises `ObjectExists` when the key is taken, unless what is there has this size and
        exactly this metadata: then an earlier attempt has succeeded without our knowing,
        and so has this one. Callers make metadata unique to the body (its SHA-256).
        """

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """Write the object's bytes into `sink`; raises `ObjectMissing`.

        After an error, `sink` may hold a part of them.
        """

    def head(self, key: str) -> ObjectInfo:
        """The object's size and metadata; raises `ObjectMissing`."""

    def list(self, prefix: str) -> Iterable[ObjectInfo]:
        """Every object whose key begins with `prefix`, in the order of keys."""

    def delete(self, key: str) -> None:
        """Remove the object; a key that is not there is a success."""

    def abort_unfinished(
        self, prefix: str, before: datetime, could_be_ours: Callable[[str], bool]
    ) -> None:
        """Remove what puts that began before a time have left, and that is no object.

        Only of keys below `prefix` that `could_be_ours`: other programs upload to a bucket, too.
        """


class DocumentStore(ObjectStore, Protocol):
    """An `ObjectStore` for documents that follow something outside, and so are replaced."""

    def replace(self, key: str, body: bytes) -> None:
        """Store `body` under `key`, in place of what is there; all of it, or nothing.

        Running it again does no harm. Never for anything that belongs to a backup.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A store whose operations may take long through no fault of ours."""

    def give_up(self, grace: float) -> None:
        """Make operations fail that are not over in `grace` seconds, and all later ones.

        For shutting down: at once and from any thread, and more than once if need be.
        """


def get_document(store: ObjectStore, key: str, most: int) -> bytes:
    """The bytes of a small object; raises `StoreError`, `ObjectTooLarge` for more than `most`."""
    found = _Bytes()
    store.get(key, BoundedSink(found, key, most))
    return bytes(found)


class _Bytes(bytearray):
    """A sink that keeps what it takes."""

    def write(self, chunk: bytes, /) -> None:
        """See `Sink.write`."""
        self += chunk


def key_fault(key: str) -> str | None:
    """Why `key` may not be used, or None. Applies to both adapters alike."""
    if not key or len(key.encode()) > 1024:
        return "a key has 1 to 1024 bytes"
    if not key.isprintable() or "\\" in key:
        return "a key has printable characters only, and no backslash"
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "a key has no empty, '.' or '..' part"
    return None


def is_own_echo(found: ObjectInfo, size: int, metadata: Mapping[str, str]) -> bool:
    """Whether the object that is in the way is the one being put (a lost answer)."""
    return bool(metadata) and found.size == size and dict(found.metadata) == lower_names(metadata)


def lower_names(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata as every store gives it back: S3 sends names as headers, without case."""
    return {name.lower(): value for name, value in metadata.items()}


class _CallerFault(BaseException):
    """Carries a fault of the caller's body or progress past every `except Exception`.

    Otherwise botocore would wrap it, and send the body again for it.
    """

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault


@contextmanager
def in_callers_code() -> Iterator[None]:
    """Around each call into the caller's body or progress, inside `callers_faults_unchanged`."""
    try:
        yield
    except Exception as fault:
        raise _CallerFault(fault) from None


@contextmanager
def callers_faults_unchanged() -> Iterator[None]:
    """Let out, as they were raised, the faults that `in_callers_code` met."""
    try:
        yield
    except _CallerFault as carrier:
        raise carrier.fault from carrier.fault.__cause__
