"""Putting objects: under new keys only, documents read back, files of a run taken back.

A key is new in an instant that is free: a second is the id of one set, and the name of one verdict.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.errors import ProofFailed
from backups.format import naming
from backups.model import Progress, ProgressSink, SnapshotFile, StoredObject
from backups.runs.log_files import source_log
from backups.sets.catalogue import Catalogue
from backups.sets.seal import SealedFile
from shared.clock import Clock
from shared.errors import ObjectMissing, ObjectTooLarge, StoreError
from shared.logs import fields
from shared.store.object_store import ObjectStore, get_document

_log = logging.getLogger("backups.run")


def put_document(
    store: ObjectStore, key: str, document: bytes, metadata: Mapping[str, str]
) -> None:
    """Put a document under a new key, and read it back.

    Raises `StoreError`, and `ProofFailed` when it reads back as something else.
    """
    sha256 = hashlib.sha256(document).hexdigest()
    store.put(key, io.BytesIO(document), {**metadata, "sha256": sha256})
    read_back = b""
    with suppress(ObjectMissing, ObjectTooLarge):
        read_back = get_document(store, key, len(document))
    if read_back != document:
        raise ProofFailed(
            f"{key} was accepted by the store, but other bytes were read back",
            "Do not use this store; see the status page of its provider, then run again.",
        )


@dataclass(frozen=True)
class Upload:
    """One sealed snapshot, and the key that it is to have."""

    file: SnapshotFile
    sealed: SealedFile
    key: str


class Puts:
    """The puts of one run, and the way to take them back."""

    def __init__(self, store: ObjectStore, metadata: dict[str, str]) -> None:
        self._store = store
        self._metadata = metadata
        self._keys: list[str] = []

    def put(self, upload: Upload, progress: ProgressSink) -> StoredObject:
        """Put a sealed file under a new key; raises `ObjectExists` when it is taken."""
        key, sealed, source = upload.key, upload.sealed, upload.file.source

        def report(done: int) -> None:
            progress(Progress("store", source, done, sealed.bytes))

        with sealed.path.open("rb") as body:
            self._keys.append(key)  # before the put: it may succeed without our knowing
            self._store.put(key, body, {**self._metadata, "sha256": sealed.sha256}, report)
        source_log(source).info("stored", extra=fields(key=key, bytes=sealed.bytes))
        return _stored(upload)

    def take_back(self) -> None:
        """Delete what this run put, and nothing else; a failure leaves it to the sweep."""
        while self._keys:
            key = self._keys.pop()
            try:
                metadata = self._store.head(key).metadata
                if all(metadata.get(name) == value for name, value in self._metadata.items()):
                    self._store.delete(key)
            except ObjectMissing:
                continue
            except StoreError as error:
                _log.warning(
                    "an object of the failed run could not be deleted: %s",
                    error.message,
                    extra=fields(key=key),
                )


def _stored(upload: Upload) -> StoredObject:
    file, sealed = upload.file, upload.sealed
    return StoredObject(
        source=file.source,
        key=upload.key,
        bytes=sealed.bytes,
        sha256=sealed.sha256,
        snapshot_bytes=file.bytes,
        snapshot_sha256=file.sha256,
        page_size=file.facts.page_size,
        page_count=file.facts.page_count,
        user_version=file.facts.user_version,
        rows=file.facts.rows,
        same_instant=file.same_instant,
        journal_mode=file.journal_mode,
        schema=file.facts.schema,
        finding=file.finding,
    )


class Instants:
    """The instants at which this host may make a set."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock

    def free(self) -> datetime:
        """The present instant, in a second that has no set yet on this host; waits for one."""
        while self._catalogue.has(naming.set_id(self._clock.now())):
            wait_for_next_second(self._clock)
        return self._clock.now()


def wait_for_next_second(clock: Clock) -> None:
    """Sleep until the second of the clock is over."""
    now = clock.now()
    next_second = now.replace(microsecond=0) + timedelta(seconds=1)
    clock.sleep((next_second - now).total_seconds())
