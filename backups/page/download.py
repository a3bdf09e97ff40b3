"""A stored object as an HTTP answer: streamed from the store, a few chunks ahead of the reader."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator
from pathlib import PurePosixPath

from fastapi.responses import StreamingResponse

from backups.errors import SourceUnknown
from backups.model import BackupSet, StoredObject
from shared.errors import AppError, ObjectMissing
from shared.store.object_store import BoundedSink, ObjectStore

_CHUNKS_AHEAD = 4
_SECONDS_BETWEEN_LOOKS = 0.5

_log = logging.getLogger(__name__)


def stored_object(found: BackupSet, source: str) -> StoredObject:
    """The object of a source in a set; raises `SourceUnknown`."""
    for stored in found.objects:
        if stored.source == source:
            return stored
    names = ", ".join(stored.source for stored in found.objects)
    raise SourceUnknown(f"restore point {found.id} has no source {source!r}", f"It has: {names}.")


def stream(store: ObjectStore, stored: StoredObject) -> StreamingResponse:
    """The bytes as they are stored; raises `StoreError` before the first one is sent.

    A failure later cuts the answer short of its Content-Length, so that no part passes for
    the whole.
    """
    size = store.head(stored.key).size
    if stored.described and size != stored.bytes:
        raise ObjectMissing(
            f"{stored.key} has {size:,} bytes, but its manifest records {stored.bytes:,}",
            "Do not use this object. Check the set: ./bot backups verify SET",
        )
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{PurePosixPath(stored.key).name}"',
    }
    if stored.sha256:
        headers["ETag"] = f'"{stored.sha256}"'
    return StreamingResponse(
        Download(store, stored.key, size).chunks(),
        media_type="application/octet-stream",
        headers=headers,
    )


class _ReaderGone(Exception):
    """Nobody reads any longer."""


class Download:
    """A thread that lets the store write into a short queue, and the reader of that queue."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._queue: queue.Queue[bytes | AppError | None] = queue.Queue(_CHUNKS_AHEAD)
        self._gone = threading.Event()

    def chunks(self) -> Generator[bytes, None, None]:
        """The object's bytes; raises the store's error."""
        threading.Thread(target=self._fetch, name="download", daemon=True).start()
        try:
            while (found := self._queue.get()) is not None:
                if isinstance(found, AppError):
                    raise found
                yield found
        finally:
            self._gone.set()

    def write(self, chunk: bytes) -> None:
        """Take a chunk from the store, as soon as there is room."""
        self._put(bytes(chunk))

    def _put(self, found: bytes | AppError | None) -> None:
        while not self._gone.is_set():
            try:
                self._queue.put(found, timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Full:
                continue
            else:
                return
        raise _ReaderGone

    def _fetch(self) -> None:
        try:
            try:
                self._store.get(self._key, BoundedSink(self, self._key, self._size))
            except AppError as error:
                _log.warning("a download was cut short: %s", error.message)
                self._put(error)
            else:
                self._put(None)
        except _ReaderGone:
            _log.info("a client closed a download before its end")
