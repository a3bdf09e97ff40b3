"""`WatchedStore`: an `ObjectStore` around a real one, which a test watches or interferes with."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO, Literal

from shared.errors import StoreAccessDenied, StoreUnreachable
from shared.store.object_store import (
    ByteProgress,
    ObjectInfo,
    ObjectStore,
    Sink,
    StoreKind,
    ignore_bytes,
)

Operation = Literal["check", "put", "get", "head", "list", "delete", "abort"]
Interference = Callable[[], None]


class WatchedStore:
    """Records every call as `(operation, key)`, and lets a test act before or after some.

    What the test does there may raise; then the caller meets that, in place of the store.
    `break_at` makes all calls of an operation fail from its n-th on, and `go_away` all calls, until
    `mend`.
    `unlisted` makes listings lie by leaving out, `refused` makes a HEAD of some keys fail.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.calls: list[tuple[Operation, str]] = []
        self._before: list[tuple[Operation, str, Interference]] = []
        self._after: list[tuple[Operation, str, Interference]] = []
        self._broken: tuple[Operation, int, bool] | None = None
        self._is_away = False
        # Whether the listing of a prefix lacks a key that is there.
        self.unlisted: Callable[[str, str], bool] = lambda _prefix, _key: False
        # Keys that the store refuses to tell anything about.
        self.refused: set[str] = set()

    def before(self, operation: Operation, key: str, act: Interference) -> None:
        """Call `act` once, before the first `operation` on a key that contains `key`."""
        self._before.append((operation, key, act))

    def after(self, operation: Operation, key: str, act: Interference) -> None:
        """Call `act` once, after the first `operation` on a key that contains `key`."""
        self._after.append((operation, key, act))

    def break_at(self, operation: Operation, number: int, *, done: bool = False) -> None:
        """Fail from the call with this number on, counted from 0; `done`: after doing it."""
        self._broken = (operation, number, done)

    def go_away(self) -> None:
        """Answer nothing from now on, until `mend`."""
        self._is_away = True

    def mend(self) -> None:
        """Work again."""
        self._broken = None
        self._is_away = False

    def keys(self, operation: Operation) -> list[str]:
        """The keys of the calls of one operation, in order."""
        return [key for called, key in self.calls if called == operation]

    @property
    def kind(self) -> StoreKind:
        """As the store says."""
        return self.inner.kind

    @property
    def location(self) -> str:
        """As the store says."""
        return self.inner.location

    @property
    def offsite(self) -> bool:
        """As the store says."""
        return self.inner.offsite

    def check(self, key: str, body: bytes) -> None:
        """See `ObjectStore.check`."""
        with self._watched("check", key):
            self.inner.check(key, body)

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`."""
        with self._watched("put", key):
            self.inner.put(key, body, metadata, progress)

    def abort_unfinished(
        self, prefix: str, before: datetime, could_be_ours: Callable[[str], bool]
    ) -> None:
        """See `ObjectStore.abort_unfinished`."""
        with self._watched("abort", prefix):
            self.inner.abort_unfinished(prefix, before, could_be_ours)

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        with self._watched("get", key):
            self.inner.get(key, sink, progress)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        with self._watched("head", key):
            if key in self.refused:
                raise StoreAccessDenied(f"head {key}: no right to this object")
            return self.inner.head(key)

    def list(self, prefix: str) -> Iterable[ObjectInfo]:
        """See `ObjectStore.list`; all of it at once."""
        with self._watched("list", prefix):
            return [one for one in self.inner.list(prefix) if not self.unlisted(prefix, one.key)]

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._watched("delete", key):
            self.inner.delete(key)

    @contextmanager
    def _watched(self, operation: Operation, key: str) -> Iterator[None]:
        number = len(self.keys(operation))
        self.calls.append((operation, key))
        _act(self._before, operation, key)
        breaks = self._is_away or (
            self._broken is not None and operation == self._broken[0] and number >= self._broken[1]
        )
        done = self._broken is not None and self._broken[2]
        gone = StoreUnreachable(f"{operation} {key}: there was no answer", "Check the network.")
        if breaks and not done:
            raise gone
        try:
            yield
        finally:
            _act(self._after, operation, key)
        if breaks:
            raise gone


def _act(
    waiting: list[tuple[Operation, str, Interference]], operation: Operation, key: str
) -> None:
    for entry in waiting:
        wanted, part, act = entry
        if wanted == operation and part in key:
            waiting.remove(entry)
            act()
            return


def put(store: ObjectStore, key: str, body: bytes = b"of another") -> None:
    """Put an object that this program did not make: it has no metadata."""
    store.put(key, io.BytesIO(body), {})


def fail() -> None:
    """Be away; for `WatchedStore.before` and `after`."""
    raise StoreUnreachable("there was no answer", "Check the network.")
