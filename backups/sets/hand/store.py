"""`FilesInHand`: files on this host as an `ObjectStore` that can only be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NoReturn

from backups.sets.hand.files import HandFile, chunks
from shared.errors import ObjectMissing, StoreAccessDenied
from shared.store.object_store import (
    ByteProgress,
    ObjectInfo,
    Sink,
    StoreKind,
    ignore_bytes,
)


class FilesInHand:
    """The `files` by their keys; `given` is what a person named. Nothing is ever written."""

    kind: StoreKind = "directory"
    offsite = False

    def __init__(self, given: Path, files: Mapping[str, HandFile]) -> None:
        self._given = given
        self._files = files

    @property
    def location(self) -> str:
        """What a person named."""
        return str(self._given)

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`; raises `FileUnusable`."""
        file, done = self._file(key), 0
        for chunk in chunks(file):
            sink.write(chunk)
            done += len(chunk)
            progress(done)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`; a file has no metadata."""
        file = self._file(key)
        return ObjectInfo(key, file.size, file.modified_at)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        for key in sorted(self._files):
            if key.startswith(prefix):
                yield self.head(key)

    def check(self, key: str, body: bytes) -> None:  # noqa: ARG002
        """Refused: files in hand are only read."""
        self._refuse(key)

    def put(
        self,
        key: str,
        body: BinaryIO,  # noqa: ARG002
        metadata: Mapping[str, str],  # noqa: ARG002
        progress: ByteProgress = ignore_bytes,  # noqa: ARG002
    ) -> None:
        """Refused."""
        self._refuse(key)

    def delete(self, key: str) -> None:
        """Refused."""
        self._refuse(key)

    def abort_unfinished(
        self,
        prefix: str,
        before: datetime,  # noqa: ARG002
        could_be_ours: Callable[[str], bool],  # noqa: ARG002
    ) -> None:
        """Refused."""
        self._refuse(prefix)

    def _file(self, key: str) -> HandFile:
        file = self._files.get(key)
        if file is None:
            raise ObjectMissing(f"{key} is not in {self._given}", "Put it there, and try again.")
        return file

    def _refuse(self, key: str) -> NoReturn:
        raise StoreAccessDenied(
            f"{key} was not written to {self._given}: files in hand are only read",
            "This is a bug of this program.",
        )
