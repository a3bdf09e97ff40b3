"""Packing: the increments of an hour become one object, which is proven before they are deleted.

    fetch and check each member -> put the pack -> read it back -> note its row
    -> delete each member that says that it is one -> forget the rows of its points

A process that dies at any arrow loses nothing, and the next packing goes on: a pack that is there
already is read, and used if it is the right one; one that is not keeps its members. From its row on
a reader takes a pack in place of its members.

One file, because each arrow relies on the one before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import file_digest, sha256
from pathlib import Path
from shutil import copyfileobj

from backups.decisions.chains.packing import due
from backups.errors import BackupError, IncrementBroken, ManifestInvalid
from backups.format import increment, pack
from backups.format.chain_keys import pack_key
from backups.format.mark import Marks
from backups.format.pack import Member, PackIndex
from backups.host.removal import remove_file
from backups.increments.keeping.own_objects import is_of
from backups.sets.chains import objects_table, table
from backups.sets.chains.lost import lost_since, note_lost, usable
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.pack_reader import read_pack
from backups.sets.chains.table import PointRow
from backups.sets.chains.vouched import vouched
from shared.databases.sqlite import Database
from shared.errors import ObjectExists, ObjectMissing, ObjectTooLarge, StoreError
from shared.files import open_private
from shared.logs import fields
from shared.store.object_store import ObjectStore, get_document

_log = logging.getLogger("backups.follow")

_WORKERS = 8
# What the members of one batch, which are in memory together, have at most; a larger one is alone.
_BATCH_BYTES = 16 * 1024 * 1024
_BATCH_MEMBERS = 64
_HINT = "Choose another restore point: ./bot backups list"


def _go_on() -> None:
    """The `stop` of a caller that never stops the packing."""


@dataclass(frozen=True)
class Packing:
    """What packing works with: the store and its keys, what this host knows of it, a scratch folder
    on a disk with room for two packs. `instance` is this installation. `stop` is called between two
    requests, and ends the packing by raising."""

    store: ObjectStore
    known: Database
    marks: Marks
    instance: str
    scratch: Path
    stop: Callable[[], None] = _go_on

    @property
    def prefix(self) -> str:
        """Below which all keys are."""
        return self.marks.prefix


class _NotPackable(Exception):
    """A member that is not what it should be: it stays, and what is beside it is packed."""

    def __init__(self, number: int, error: BackupError, *, is_lost: bool = False) -> None:
        super().__init__(error.message)
        self.number = number
        self.error = error
        self.is_lost = is_lost  # the store does not have what was proven any more


def pack_chain(packing: Packing, chain: str, now: int, *, ended: bool) -> int:
    """Pack what is due of a chain of this installation; how many packs were made.

    `now` is in milliseconds since 1970; `ended` says that nothing follows in the chain. First what
    an earlier packing has left is finished. Call it each hour, beside the steps: it takes a request
    for the pack, and three for each member. Raises `StoreError`, `DatabaseError`, `OSError`.
    """
    with packing.known.reading() as connection:
        objects = objects_table.objects(connection, chain)
    packing = replace(packing, marks=vouched(packing.marks, chain, objects))
    finish(packing, chain)
    with packing.known.reading() as connection:
        points = [
            one for one in table.points(connection, chain) if one.proven and one.mark == "valid"
        ]
    made = 0
    for group in due(points, now, ended=ended):
        made += _pack_group(packing, chain, group, now)
    return made


def finish(packing: Packing, chain: str) -> None:
    """Delete the members of packs that are proven and noted, and forget their rows."""
    with packing.known.reading() as connection:
        packs = objects_table.objects(connection, chain, "pack")
        points = list(table.points(connection, chain)) if packs else []
    for row in packs:
        left = [one for one in points if row.first <= one.number <= row.last]
        if not left or row.mark != "valid":
            continue
        try:
            index = read_pack(packing.store, packing.marks, row.key)
        except (ManifestInvalid, IncrementBroken) as error:
            _log.warning("the increments of a pack are kept: %s", error.message)
            continue
        _delete_members(packing, index, left)


def _pack_group(packing: Packing, chain: str, group: Sequence[PointRow], now: int) -> int:
    """Pack `group`, around what cannot be packed; how many packs were made."""
    try:
        _make(packing, chain, group)
    except _NotPackable as found:
        _log.warning(
            "increment %d of chain %s is not packed: %s", found.number, chain, found.error.message
        )
        if found.is_lost:
            _note_lost(packing, next(one for one in group if one.number == found.number), now)
        before = [one for one in group if one.number < found.number]
        after = [one for one in group if one.number > found.number]
        return sum(_pack_group(packing, chain, part, now) for part in (before, after) if part)
    except BackupError as error:
        _log.warning("the increments of a pack are kept: %s", error.message)
        return 0
    return 1


def _note_lost(packing: Packing, row: PointRow, now: int) -> None:
    """What was proven is not in the store any more: its point is missing from now on."""
    broken = ObjectRow(row.key, row.chain, "increment", row.number, row.number, row.bytes, "wrong")
    with packing.known.transaction() as connection:
        before = usable(connection, row.chain)
        objects_table.forget_points(connection, row.chain, row.number, row.number)
        objects_table.note_object(connection, broken)
        lost = lost_since(connection, row.chain, before)
        note_lost(connection, lost, {packing.instance}, datetime.fromtimestamp(now / 1000, UTC))


def _make(packing: Packing, chain: str, group: Sequence[PointRow]) -> None:
    key = pack_key(packing.prefix, chain, group[0].number, group[-1].number)
    body, whole = packing.scratch / "pack.body", packing.scratch / "pack.whole"
    remove_file(body)  # of a process that died
    remove_file(whole)
    try:
        with open_private(body) as file:
            members = []
            for member, stored in _fetched(packing, group):
                members.append(member)
                file.write(stored)
        index = pack.index_of(chain, members)
        with open_private(whole) as file, body.open("rb") as stored_members:
            file.write(packing.marks.sign_line(key, pack.dump_line(index)) + b"\n")
            copyfileobj(stored_members, file, 1024 * 1024)
        size, found = _put(packing, key, whole, index)
    finally:
        remove_file(body)
        remove_file(whole)
    row = ObjectRow(
        key,
        chain,
        "pack",
        index.first,
        index.last,
        size,
        "valid",
        first_instant=index.members[0].instant,
        last_instant=index.members[-1].instant,
        points=len(index.members),
        sha256=found,
    )
    with packing.known.transaction() as connection:
        objects_table.note_object(connection, row)
    _log.info("packed", extra=fields(chain=chain, first=index.first, last=index.last, bytes=size))
    _delete_members(packing, index, group)


def _fetched(packing: Packing, group: Sequence[PointRow]) -> Iterator[tuple[Member, bytes]]:
    """Each member with its bytes, checked; raises `_NotPackable` for one that is not right."""
    before: PointRow | None = None
    with ThreadPoolExecutor(_WORKERS, "pack") as workers:
        for batch in _batches(group):
            packing.stop()
            for row, stored in zip(batch, workers.map(partial(_get, packing), batch), strict=True):
                yield _checked(packing, row, stored, before), stored
                before = row


def _batches(group: Iterable[PointRow]) -> Iterator[list[PointRow]]:
    batch: list[PointRow] = []
    size = 0
    for row in group:
        if batch and (len(batch) == _BATCH_MEMBERS or size + row.bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row.bytes
    if batch:
        yield batch


def _get(packing: Packing, row: PointRow) -> bytes:
    try:
        return get_document(packing.store, row.key, row.bytes)
    except (ObjectMissing, ObjectTooLarge) as error:
        gone = IncrementBroken(error.message, _HINT)
        raise _NotPackable(row.number, gone, is_lost=True) from error


def _checked(packing: Packing, row: PointRow, stored: bytes, before: PointRow | None) -> Member:
    """What the index says of a member that is as its row and its own mark say."""
    digest = sha256(stored).hexdigest()
    if digest != row.sha256:
        broken = IncrementBroken(f"{row.key} is not what was proven", _HINT)
        raise _NotPackable(row.number, broken, is_lost=True)
    try:
        line = increment.line_of(stored, row.key)
        if packing.marks.check(row.key, line).outcome != "valid":
            raise ManifestInvalid(f"{row.key} is not marked with a key of this host", _HINT)
        found = increment.load_line(
            line, key=row.key, chain=row.chain, number=row.number, kind="increment"
        )
        if before is not None and found.prev != before.sha256:
            raise IncrementBroken(f"{row.key} does not follow on increment {before.number}", _HINT)
    except BackupError as error:
        raise _NotPackable(row.number, error) from error
    sealed = row.key.endswith(".age")
    return Member(row.number, len(stored), digest, found.instant, found.sequence, sealed)


def _put(packing: Packing, key: str, whole: Path, index: PackIndex) -> tuple[int, str | None]:
    """Put a pack and read it back; its size, and its SHA-256 if it was not there before.

    Raises `ManifestInvalid` or `IncrementBroken` where something else is there, or came back.
    """
    with whole.open("rb") as file:
        found: str | None = file_digest(file, "sha256").hexdigest()
        size = file.tell()
        try:
            packing.store.put(key, file, _metadata(packing, index, str(found)))
        except ObjectExists:  # of an earlier packing, which was interrupted: it is read
            size, found = packing.store.head(key).size, None
    packing.stop()
    if read_pack(packing.store, packing.marks, key).members != index.members:
        raise ManifestInvalid(f"{key} has other increments than those of this chain", _HINT)
    return size, found


def _metadata(packing: Packing, index: PackIndex, digest: str) -> dict[str, str]:
    return {
        "chain": index.chain,
        "first": str(index.first),
        "last": str(index.last),
        "instance": packing.instance,
        "sha256": digest,
    }


def _delete_members(packing: Packing, index: PackIndex, rows: Sequence[PointRow]) -> None:
    """Delete the increments that a proven pack has, and forget their rows.

    Each only where the object itself says that it is this one of this chain. What the store refuses
    is left to the next packing, with its row.
    """
    members = {member.number: member for member in index.members}

    def delete(row: PointRow) -> bool:
        return remove_member(packing.store, row.key, index.chain, members[row.number])

    with ThreadPoolExecutor(_WORKERS, "unpack") as workers:
        for batch in _batches(rows):
            packing.stop()
            done = list(workers.map(delete, batch))
            gone = [row for row, is_gone in zip(batch, done, strict=True) if is_gone]
            with packing.known.transaction() as connection:
                for row in gone:
                    objects_table.forget_points(connection, index.chain, row.number, row.number)


def remove_member(store: ObjectStore, key: str, chain: str, member: Member) -> bool:
    """Delete an increment that a pack has; False where the store refused, and it may be there.

    One whose metadata does not say that it is this increment of this chain is kept, and named.
    """
    try:
        metadata = store.head(key).metadata
        if not is_of(metadata, chain) or metadata.get("sha256") != member.sha256:
            _log.warning(
                "kept an object whose metadata does not say that it is increment %d of chain %s: "
                "delete it by hand",
                member.number,
                chain,
                extra=fields(key=key),
            )
            return True
        store.delete(key)
    except ObjectMissing:
        return True
    except StoreError as error:
        _log.warning("%s", error.message, extra=fields(key=key))
        return False
    return True
