"""Reading a pack from the store, in one pass: its index, then each member with its SHA-256.

A replay needs the members of an hour in order, and so a pack is fetched once, up to the last one
that is needed: a range for each member would be a request for each.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from backups.errors import IncrementBroken, ManifestInvalid
from backups.format import pack
from backups.format.chain_keys import ChainKey, increment_key, parse_chain_key
from backups.format.mark import Marks
from backups.format.pack import Member, PackIndex
from shared.errors import ObjectMissing
from shared.files import open_private
from shared.store.object_store import BoundedSink, ObjectStore

_HINT = "Choose another restore point: ./bot backups list"


class OpenPack:
    """A pack, or its beginning, in a file of this host; its members were checked as they came."""

    def __init__(self, file: BinaryIO, index: PackIndex, prefix: str, key: str) -> None:
        self.index = index
        self.key = key
        self._file = file
        self._prefix = prefix
        self._places = {member.number: (member, start) for member, start in pack.offsets(index)}

    def member(self, number: int) -> bytes:
        """The increment `number` as it was stored; raises `IncrementBroken` if it is not here."""
        if number not in self._places:
            raise IncrementBroken(f"{self.key} has no increment {number}", _HINT)
        member, start = self._places[number]
        self._file.seek(start)
        found = self._file.read(member.bytes)
        if sha256(found).hexdigest() != member.sha256:
            raise IncrementBroken(f"{self.key}: increment {number} was not fetched", _HINT)
        return found

    def key_of(self, number: int) -> str:
        """The key under which a member was stored, and marked, before it was packed."""
        member, _ = self._places[number]
        return increment_key(self._prefix, self.index.chain, number, sealed=member.sealed)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def fetch_pack(
    store: ObjectStore, marks: Marks, key: str, into: Path, *, upto: int | None = None
) -> OpenPack:
    """Fetch a pack into the new 0600 file `into`, with `upto` no further than that member.

    Raises `StoreError`; `ManifestInvalid` for one whose index is not marked with a key of ours, or
    is not what its key says; `IncrementBroken` where a member is not what the index says.
    """
    with open_private(into) as file:
        index = read_pack(store, marks, key, file.write, upto=upto)
    return OpenPack(into.open("rb"), index, marks.prefix, key)


def read_pack(
    store: ObjectStore,
    marks: Marks,
    key: str,
    take: Callable[[bytes], object] = lambda _: None,
    *,
    upto: int | None = None,
) -> PackIndex:
    """Read a pack through, and give the bytes of its members to `take`; the same errors."""
    sink = _PackSink(marks, key, take, upto)
    try:
        store.get(key, BoundedSink(sink, key, pack.MOST_LINE_BYTES + 1 + pack.MOST_BYTES))
    except _Enough:
        pass
    except ObjectMissing as error:
        raise IncrementBroken(f"{key} is not in the store any more", _HINT) from error
    return sink.finish()


def read_index(store: ObjectStore, marks: Marks, key: str) -> PackIndex:
    """The index of a pack, without its members; the same errors."""
    return read_pack(store, marks, key, upto=0)


class _Enough(Exception):
    """All that was wanted of a pack has come."""


class _PackSink:
    """Takes a pack as it comes, and raises where it is not one."""

    def __init__(
        self, marks: Marks, key: str, take: Callable[[bytes], object], upto: int | None
    ) -> None:
        self._marks, self._key, self._take, self._upto = marks, key, take, upto
        self._line = io.BytesIO()
        self._index: PackIndex | None = None
        self._waiting: list[Member] = []
        self._hash = sha256()
        self._left = 0

    def write(self, chunk: bytes, /) -> None:
        """See `Sink.write`."""
        rest = memoryview(chunk)
        if self._index is None:
            line, newline, _ = chunk.partition(b"\n")
            self._line.write(line)
            if not newline and self._line.tell() <= pack.MOST_LINE_BYTES:
                return
            self._index = self._begin(self._line.getvalue() + newline)
            rest = rest[len(line) + 1 :]
        self._pass_on(rest)

    def finish(self) -> PackIndex:
        """The index, after the last byte; raises for a pack that was cut."""
        if self._index is None:
            self._index = self._begin(self._line.getvalue())
        if self._left or self._waiting:
            number = self._waiting[0].number if self._waiting else 0
            raise IncrementBroken(f"{self._key} was cut within increment {number}", _HINT)
        return self._index

    def _begin(self, start: bytes) -> PackIndex:
        of = _parsed(self._marks.prefix, self._key)
        line = pack.line_of(start, self._key)
        if self._marks.check(self._key, line).outcome != "valid":
            raise ManifestInvalid(f"{self._key} is not marked with a key of this host", _HINT)
        index = pack.load_line(line, key=self._key, chain=of.chain, first=of.first, last=of.last)
        self._waiting = [
            member for member in index.members if self._upto is None or member.number <= self._upto
        ]
        self._next()
        return index

    def _next(self) -> None:
        self._left = self._waiting[0].bytes if self._waiting else 0
        self._hash = sha256()

    def _pass_on(self, rest: memoryview) -> None:
        while self._waiting and rest:
            part = rest[: self._left]
            self._hash.update(part)
            self._take(bytes(part))
            self._left -= len(part)
            rest = rest[len(part) :]
            if not self._left:
                member = self._waiting.pop(0)
                if self._hash.hexdigest() != member.sha256:
                    raise IncrementBroken(
                        f"{self._key}: increment {member.number} is not what the index describes",
                        _HINT,
                    )
                self._next()
        if not self._waiting and self._upto is not None:
            raise _Enough
        if rest:
            raise IncrementBroken(f"{self._key} has bytes after its last increment", _HINT)


def _parsed(prefix: str, key: str) -> ChainKey:
    found = parse_chain_key(prefix, key)
    if found is None or found.kind != "pack":
        raise ManifestInvalid(f"{key} is no key of a pack", _HINT)
    return found
