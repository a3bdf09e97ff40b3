"""Proving that stored bytes can be restored: read them back, compare, unseal, open, count.

What a backup has just put is the file that it has opened and counted before, if it has that file's
SHA-256: `read_back` needs no more, and writes no file. Of anything else nobody knows that:
`prove_stored` opens it.

One file, because both compare the same things of an object, and say the same of what differs.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from backups.errors import IdentityWrong, ProofFailed, SealBroken
from backups.format import naming
from backups.format.naming import is_encrypted
from backups.host.removal import remove_file
from backups.model import DatabaseFacts, Progress, ProgressSink, ProofLevel, StoredObject
from backups.sets.seal import SQLITE_MAGIC, unseal_into
from backups.sets.seal_streams import HashingWriter
from backups.sources.checking.inspection import read_facts
from backups.sources.checking.soundness import soundness_of
from backups.sources.room import RESERVE_BYTES, free_bytes
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
from shared.store.object_store import (
    CHUNK_BYTES,
    BoundedSink,
    ByteProgress,
    ObjectStore,
    Sink,
    ignore_bytes,
)
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
    try:
        _unsealed(tools, stored, HashingWriter(None, stored.snapshot_bytes))
    except SealBroken as error:
        raise _unrestorable(stored, error) from error
    return "sealed" if stored.finding else "full"


def prove_stored(tools: ProofTools, stored: StoredObject) -> ProofLevel:
    """Read one object back and check it against its description; `full` or `sealed`.

    Without the identity of an encrypted object only its sealed bytes can be compared. What
    was downloaded is removed again. Raises `ProofFailed` for a definite verdict on the
    bytes; any other error means that there is no verdict.
    """
    if is_encrypted(suffix_of(stored)) and tools.identity_file is None:
        return read_back(tools, stored)
    opened = tools.scratch / f"{stored.source}.opened"
    try:
        bring(tools, stored, opened)
        _refuse_foreign_schema(tools, stored, opened)
    except SealBroken as error:
        raise _unrestorable(stored, error) from error
    finally:
        remove_file(opened)
    return "sealed" if stored.finding else "full"  # SQLite cannot confirm more than it was


def bring(tools: ProofTools, stored: StoredObject, target: Path) -> None:
    """Write the database in an object to the new 0600 file `target`, unsealed on its way.

    It is compared with the snapshot, and checked if need be. Raises `ProofFailed`, `SealBroken`,
    `IdentityMissing` or `IdentityWrong`.
    """
    with open_private(target) as file, _removed_if_it_fails(target):
        if suffix_of(stored):
            most = stored.snapshot_bytes if stored.described else None
            _unsealed(tools, stored, HashingWriter(file, most, _watch(tools, stored, target)))
        else:
            _get(tools, stored, file)
    tools.ask(stored)()
    if tools.checks or not stored.described:
        check_database(target, stored, tools.ask(stored))


@contextmanager
def _removed_if_it_fails(target: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        remove_file(target)
        raise


def _unsealed(tools: ProofTools, stored: StoredObject, inside: HashingWriter) -> None:
    """Write what is inside an object to `inside` as it comes, and compare it with the snapshot."""
    with pulled(partial(_get, tools, stored)) as source:
        try:
            unseal_into(inside, source, suffix_of(stored), stored.key, tools.identity_file)
        except (SealBroken, IdentityWrong):
            source.drain()  # that other bytes came than were put says more
            raise
        source.drain()
    if stored.described and inside.hexdigest() != stored.snapshot_sha256:
        raise ProofFailed(
            f"the content of {stored.key} is not what was compressed and encrypted", _HINT
        )


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


def _watch(tools: ProofTools, stored: StoredObject, target: Path) -> ByteProgress:
    """What stops the unsealing of an object beside what reads it: the end of the room for `target`.

    Nobody knows how large the file in an object of the old scripts is.
    """
    if stored.described:
        return ignore_bytes
    folder = target.parent
    room, reported = free_bytes(folder) - RESERVE_BYTES, 0

    def watch(done: int) -> None:
        nonlocal reported
        if done - reported >= CHUNK_BYTES:
            reported = done
            tools.ask(stored)()
        if done > room:
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


def size_of(stored: StoredObject) -> int:
    """The bytes of the database in an object, on this host."""
    return max(stored.snapshot_bytes, 0 if suffix_of(stored) else stored.bytes)


def size_to_prove(stored: StoredObject, identity_file: Path | None) -> int:
    """The same for a proof, which writes nothing of what it has no identity for."""
    if is_encrypted(suffix_of(stored)) and identity_file is None:
        return 0
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
