"""Proving that stored bytes can be restored: read them back, compare, open, check, count."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from backups.errors import ProofFailed
from backups.inspection import fault_of, open_copy, read_facts
from backups.model import DatabaseFacts, Progress, ProgressSink, StoredObject
from shared.errors import DatabaseError, DiskFull, ObjectMissing
from shared.object_store import ObjectStore

_STORE_HINT = "Do not trust this object. Make a new set now: python -m backups run"


def prove_stored(
    store: ObjectStore, stored: StoredObject, scratch: Path, progress: ProgressSink
) -> None:
    """Read one object of a set back into `scratch` and check it against its description.

    The file is removed again. Raises `ProofFailed` for a definite verdict on the bytes;
    `StoreError` and `DiskFull` mean that there is no verdict.
    """
    path = scratch / f"proof-{stored.source}.db"
    try:
        fetch(store, stored, path, progress)
        check_database(path, stored)
    finally:
        path.unlink(missing_ok=True)


def fetch(store: ObjectStore, stored: StoredObject, path: Path, progress: ProgressSink) -> None:
    """Download an object to the new 0600 file `path` and compare its size and SHA-256."""

    def report(done: int) -> None:
        progress(Progress("proof", stored.source, done, stored.bytes))

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        sink = _HashingSink(file)
        try:
            store.get(stored.key, sink, report)
        except ObjectMissing as error:
            raise ProofFailed(
                f"{stored.key} is not in the store, which had accepted it", _STORE_HINT
            ) from error
    if sink.size != stored.bytes or sink.hexdigest() != stored.sha256:
        raise ProofFailed(
            f"{stored.key} has {sink.size} bytes with SHA-256 {sink.hexdigest()}, "
            f"{stored.bytes} bytes with {stored.sha256} were put",
            _STORE_HINT,
        )


def check_database(path: Path, stored: StoredObject) -> None:
    """Open the database inside a set's object; raises `ProofFailed` unless it is as described."""
    described = DatabaseFacts(
        stored.page_size, stored.page_count, stored.user_version, dict(stored.rows)
    )
    try:
        with open_copy(path, stored.key) as connection:
            fault = fault_of(connection, "integrity_check")
            found = None if fault else read_facts(connection)
    except DiskFull:
        raise
    except DatabaseError as error:
        fault, found = error.message, None
    if fault:
        raise ProofFailed(f"{stored.key} cannot be restored: {fault}", _STORE_HINT)
    if found != described:
        raise ProofFailed(f"{stored.key} holds {found}, its manifest says {described}", _STORE_HINT)


class _HashingSink:
    """A sink that hashes what passes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> int:
        self._hash.update(chunk)
        self.size += len(chunk)
        return self._file.write(chunk)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
