"""Proving that stored bytes can be restored: read them back, compare, unseal, open, count.

What a backup has just put is the file that it has opened and counted before, if it has that file's
SHA-256: `read_back` needs no more, and writes no file. Of anything else nobody knows that:
`prove_stored` opens it.

One file, because both compare the same things of an object, and say the same of what differs.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from backups.errors import ProofFailed, SealBroken
from backups.format import naming
from backups.format.naming import is_encrypted
from backups.host.removal import remove_file
from backups.model import DatabaseFacts, Progress, ProgressSink, ProofLevel, StoredObject
from backups.sets.seal import SQLITE_MAGIC, unseal, unseal_into
from backups.sets.seal_streams import HashingWriter
from backups.sources.inspection import read_facts
from backups.sources.room import RESERVE_BYTES, FileSize, free_bytes
from backups.sources.soundness import soundness_of
from shared.databases.schema import KnownSchema, refuse_foreign_schema
from shared.databases.untrusted import with_untrusted
from shared.errors import (
    DatabaseError,
    DatabaseSchemaMismatch,
    DiskFull,
    ObjectMissing,
    ObjectTooLarge,
)
from shared.files import open_private
from shared.store.object_store import CHUNK_BYTES, BoundedSink, ByteProgress, ObjectStore, Sink
from shared.store.pulled import pulled

_HINT = "Do not trust this object. Make a new set now (./bot backups run), or use another."


@dataclass(frozen=True)
class ProofTools:
    """What a proof works with: the store, a scratch folder, and the identity if it is here.

    What is not of one of the `schemas` that are given does not pass. Where it `checks`, SQLite
    looks at what was fetched, also if that is byte for byte what the manifest describes.
    """

    store: ObjectStore
    scratch: Path
    identity_file: Path | None
    progress: ProgressSink
    stage: str = "proof"
    schemas: Mapping[str, KnownSchema] = field(default_factory=dict)
    checks: bool = True

    def ask(self, stored: StoredObject) -> Callable[[], None]:
        """What stops a long check of an object's database, where the run has to stop."""
        opened = Progress(self.stage, stored.source, stored.bytes, stored.bytes)
        return partial(self.progress, opened)


def read_back(tools: ProofTools, stored: StoredObject) -> ProofLevel:
    """Read one object back, and compare what is inside with the snapshot; `full` or `sealed`.

    Without the identity of an encrypted object only its sealed bytes can be compared. Raises
    `ProofFailed` for a definite verdict on the bytes; any other error means that there is no
    verdict.
    """
    suffix = suffix_of(stored)
    if not suffix or (is_encrypted(suffix) and tools.identity_file is None):
        _get(tools, stored, None)
        return "sealed" if suffix or stored.finding else "full"
    inside = HashingWriter(None, stored.snapshot_bytes)
    with pulled(partial(_get, tools, stored)) as source:
        try:
            unseal_into(inside, source, suffix, stored.key, tools.identity_file)
        except SealBroken as error:
            source.drain()  # that other bytes came than were put says more
            raise _unrestorable(stored, error) from error
        source.drain()
    _compare_inside(stored, inside.hexdigest())
    return "sealed" if stored.finding else "full"


def prove_stored(tools: ProofTools, stored: StoredObject) -> ProofLevel:
    """Read one object back and check it against its description; `full` or `sealed`.

    Without the identity of an encrypted object only its sealed bytes can be compared. What
    was downloaded is removed again. Raises `ProofFailed` for a definite verdict on the
    bytes; any other error means that there is no verdict.
    """
    sealed = tools.scratch / f"{stored.source}.sealed"
    opened = tools.scratch / f"{stored.source}.opened"
    try:
        fetch(tools, stored, sealed)
        if is_encrypted(suffix_of(stored)) and tools.identity_file is None:
            return "sealed"
        open_fetched(tools, stored, sealed, opened)
        _refuse_foreign_schema(tools, stored, opened)
        if stored.finding:
            return "sealed"  # it is what was copied; SQLite cannot confirm more
    except SealBroken as error:
        raise _unrestorable(stored, error) from error
    finally:
        remove_file(sealed)
        remove_file(opened)
    return "full"


def fetch(tools: ProofTools, stored: StoredObject, path: Path) -> None:
    """Download an object to the new 0600 file `path`; raises `ProofFailed` if it differs."""
    with open_private(path) as file:
        _get(tools, stored, file)


def _get(tools: ProofTools, stored: StoredObject, into: Sink | None) -> None:
    """Read an object, on into a sink if there is one; raises `ProofFailed` if it differs."""

    def report(done: int) -> None:
        tools.progress(Progress(tools.stage, stored.source, done, stored.bytes))

    sink = _HashingSink(into)
    try:
        tools.store.get(stored.key, BoundedSink(sink, stored.key, stored.bytes), report)
    except ObjectMissing as error:
        raise ProofFailed(
            f"{stored.key} is not in the store, although the store accepted it", _HINT
        ) from error
    except ObjectTooLarge as error:
        raise ProofFailed(
            f"{stored.key} has more than the {stored.bytes} bytes that were uploaded", _HINT
        ) from error
    _compare(stored, sink.size, sink.hexdigest())
    if is_encrypted(suffix_of(stored)) and sink.head == SQLITE_MAGIC:
        raise ProofFailed(
            f"{stored.key} should be encrypted, but is a plain SQLite file",
            "Delete that object: whoever can read the bucket can read it.",
        )


def open_fetched(tools: ProofTools, stored: StoredObject, sealed: Path, target: Path) -> None:
    """Unseal a fetched file to `target`, compare it with the snapshot, and check it if need be.

    Raises `ProofFailed`, `SealBroken`, `IdentityMissing` or `IdentityWrong`.
    """
    suffix = suffix_of(stored)
    if suffix:
        most = stored.snapshot_bytes if stored.described else None
        watch = _watch(tools, stored, target.parent)
        found = unseal(sealed, suffix, target, tools.identity_file, most=most, tick=watch)
        remove_file(sealed)  # both together, of all sources, are more than the disk was asked for
        _compare_inside(stored, found)
    else:
        sealed.rename(target)
    tools.progress(Progress(tools.stage, stored.source, stored.bytes, stored.bytes))
    if tools.checks or not stored.described:
        check_database(target, stored, tools.ask(stored))


def _watch(tools: ProofTools, stored: StoredObject, folder: Path) -> ByteProgress:
    """What stops the unsealing of an object: the end of the run, or of the room in `folder`.

    Nobody knows how large the file in an object of the old scripts is.
    """
    room = None if stored.described else free_bytes(folder) - RESERVE_BYTES

    reported = 0

    def watch(done: int) -> None:
        nonlocal reported
        if done - reported >= CHUNK_BYTES:
            reported = done
            tools.progress(Progress(tools.stage, stored.source, stored.bytes, stored.bytes))
        if room is not None and done > room:
            raise DiskFull(
                f"{stored.key} has more than the {room:,} bytes that {folder} has room for, but "
                f"for a reserve of {RESERVE_BYTES:,}",
                "Make room on that disk, or set BACKUP_DIR to a larger one.",
            )

    return watch


def check_database(path: Path, stored: StoredObject, ask: Callable[[], None]) -> DatabaseFacts:
    """Open a database that came from a set; raises `ProofFailed` unless it is as described.

    What `ask` raises stops the check.
    """
    found: DatabaseFacts | None = None

    def look(connection: sqlite3.Connection) -> tuple[str | None, DatabaseFacts | None]:
        soundness = soundness_of(connection, "integrity_check")
        fault = soundness.fault
        if fault is None and not stored.finding:  # nobody said so before it was stored
            fault = soundness.wrong_index or soundness.unchecked or None
        return fault, None if fault else read_facts(connection)

    try:
        if path.stat().st_size == 0:
            raise ProofFailed(f"{stored.key} cannot be restored: it is empty", _HINT)
        fault, found = with_untrusted(path, stored.key, look, ask)
    except DiskFull:
        raise
    except DatabaseError as error:
        fault = error.message
    if fault or found is None:
        raise ProofFailed(f"{stored.key} cannot be restored: {fault}", _HINT)
    described = stored.facts
    if not described.schema:
        described = replace(described, schema=found.schema)
    if stored.described and found != described:
        raise ProofFailed(
            f"{stored.key} holds {found}, but its manifest records {described}", _HINT
        )
    return found


def check_sound(path: Path, point: str, ask: Callable[[], None]) -> None:
    """Raise `ProofFailed` unless SQLite finds the database at `path`, made for `point`, sound."""

    def look(connection: sqlite3.Connection) -> str:
        soundness = soundness_of(connection, "integrity_check")
        return soundness.fault or soundness.wrong_index or ""

    try:
        fault = with_untrusted(path, point, look, ask)
    except DiskFull:
        raise
    except DatabaseError as error:
        fault = error.message
    if fault:
        raise ProofFailed(f"{path.name} of restore point {point} is damaged: {fault}", _HINT)


def _refuse_foreign_schema(tools: ProofTools, stored: StoredObject, opened: Path) -> None:
    """Raise `ProofFailed` for a database that a restore in place refuses; of a newer version of
    this program nobody can tell here."""
    known = tools.schemas.get(stored.source)
    if known is None or stored.user_version > len(known.migrations):
        return
    try:
        refuse_foreign_schema(opened, stored.source, known, tools.ask(stored))
    except DatabaseSchemaMismatch as error:
        raise ProofFailed(
            f"{stored.key} can only be restored into a folder: {error.message}", _HINT
        ) from error


def size_of(stored: StoredObject) -> FileSize:
    """The room that an object takes on this host: fetched, and unsealed if it is sealed."""
    database = max(stored.snapshot_bytes, 0 if suffix_of(stored) else stored.bytes)
    return FileSize(database, stored.bytes if suffix_of(stored) else 0)


def size_to_prove(stored: StoredObject, identity_file: Path | None) -> FileSize:
    """The same for a proof, which cannot unseal what it has no identity for."""
    if is_encrypted(suffix_of(stored)) and identity_file is None:
        return FileSize(0, stored.bytes)
    return size_of(stored)


def suffix_of(stored: StoredObject) -> str:
    """What follows `.db` in an object's key: how it was sealed."""
    return naming.seal_suffix(stored.key)


def _compare(stored: StoredObject, size: int, sha256: str) -> None:
    if stored.described and (size, sha256) != (stored.bytes, stored.sha256):
        raise ProofFailed(
            f"{stored.key} has {size} bytes with SHA-256 {sha256}, "
            f"but {stored.bytes} bytes with {stored.sha256} were uploaded",
            _HINT,
        )


def _compare_inside(stored: StoredObject, sha256: str) -> None:
    if stored.described and sha256 != stored.snapshot_sha256:
        raise ProofFailed(
            f"the content of {stored.key} is not what was compressed and encrypted", _HINT
        )


def _unrestorable(stored: StoredObject, error: SealBroken) -> ProofFailed:
    return ProofFailed(f"{stored.key} cannot be restored: {error.message}", _HINT)


class _HashingSink:
    """A sink that hashes what it passes on, if to anything, and remembers how it began."""

    def __init__(self, into: Sink | None) -> None:
        self._into = into
        self._hash = hashlib.sha256()
        self.size = 0
        self.head = b""

    def write(self, chunk: bytes, /) -> None:
        missing = len(SQLITE_MAGIC) - len(self.head)
        self.head += chunk[:missing]
        self._hash.update(chunk)
        self.size += len(chunk)
        if self._into is not None:
            self._into.write(chunk)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
