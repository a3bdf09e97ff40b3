"""`WatchedStore`: an `ObjectStore` around a real one, which a test watches or interferes with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO, Literal

from shared.object_store import (
    ByteProgress,
    ObjectInfo,
    ObjectStore,
    Sink,
    StoreKind,
    ignore_bytes,
)

Operation = Literal["check", "put", "get", "head", "list", "delete"]
Interference = Callable[[], None]


class WatchedStore:
    """Records every call as `(operation, key)`, and lets a test act before or after some.

    What the test does there may raise; then the caller meets that, in place of the store.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self.calls: list[tuple[Operation, str]] = []
        self._before: list[tuple[Operation, str, Interference]] = []
        self._after: list[tuple[Operation, str, Interference]] = []

    def before(self, operation: Operation, key: str, act: Interference) -> None:
        """Call `act` once, before the first `operation` on a key that contains `key`."""
        self._before.append((operation, key, act))

    def after(self, operation: Operation, key: str, act: Interference) -> None:
        """Call `act` once, after the first `operation` on a key that contains `key`."""
        self._after.append((operation, key, act))

    def keys(self, operation: Operation) -> list[str]:
        """The keys of the calls of one operation, in order."""
        return [key for called, key in self.calls if called == operation]

    @property
    def kind(self) -> StoreKind:
        """As the store says."""
        return self._inner.kind

    @property
    def location(self) -> str:
        """As the store says."""
        return self._inner.location

    @property
    def offsite(self) -> bool:
        """As the store says."""
        return self._inner.offsite

    def check(self, key: str, body: bytes) -> None:
        """See `ObjectStore.check`."""
        with self._watched("check", key):
            self._inner.check(key, body)

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`."""
        with self._watched("put", key):
            self._inner.put(key, body, metadata, progress)

    def abort_unfinished(self, prefix: str, before: datetime) -> None:
        """See `ObjectStore.abort_unfinished`."""
        self._inner.abort_unfinished(prefix, before)

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        with self._watched("get", key):
            self._inner.get(key, sink, progress)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        with self._watched("head", key):
            return self._inner.head(key)

    def list(self, prefix: str) -> Iterable[ObjectInfo]:
        """See `ObjectStore.list`; all of it at once."""
        with self._watched("list", prefix):
            return list(self._inner.list(prefix))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._watched("delete", key):
            self._inner.delete(key)

    @contextmanager
    def _watched(self, operation: Operation, key: str) -> Iterator[None]:
        self.calls.append((operation, key))
        _act(self._before, operation, key)
        try:
            yield
        finally:
            _act(self._after, operation, key)


def _act(
    waiting: list[tuple[Operation, str, Interference]], operation: Operation, key: str
) -> None:
    for entry in waiting:
        wanted, part, act = entry
        if wanted == operation and part in key:
            waiting.remove(entry)
            act()
            return
