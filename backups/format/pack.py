"""A pack: one JSON line, then increments of a chain end to end, each as it was stored. Pure.

    {"format":1,"kind":"pack",…,"members":[{"number":1,"bytes":812,"sha256":…},…]} LF
    first member | second member | …

The mark covers the line, and with it the SHA-256 of each member, whose own mark still says under
which key it was stored. Where a member begins follows from the lengths of those before it, so that
two members cannot overlap. `docs/format.md` has all members of the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from backups.errors import ManifestInvalid
from backups.format import increment
from backups.format.chain_keys import ChainId
from backups.format.document import PACK_INDEX, read_as
from shared.adapters import adapter_of
from shared.bounded import Count, Sha256
from shared.bounded import Sequence as SequenceNumber

FORMAT = 1
MOST_MEMBERS = 4096
MOST_LINE_BYTES = PACK_INDEX.bytes
MOST_BYTES = 512 * 1024 * 1024
_HINT = "Choose another restore point: ./bot backups list"


@dataclass(frozen=True)
class Member:
    """An increment in a pack: `bytes` with this `sha256`, as stored; `sealed` ones were under a key
    that ends in `.age`. `instant` is in milliseconds since 1970."""

    number: SequenceNumber
    bytes: Annotated[int, Field(ge=1, le=increment.MOST_BYTES)]
    sha256: Sha256
    instant: Count
    sequence: SequenceNumber
    sealed: bool = False


@dataclass(frozen=True)
class PackIndex:
    """The line of a pack: the increments `first` to `last` of a chain, without a gap."""

    format: int
    chain: ChainId
    first: SequenceNumber
    last: SequenceNumber
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=MOST_MEMBERS)]
    kind: Literal["pack"] = "pack"

    @property
    def bytes_of_members(self) -> int:
        """How many bytes follow the line."""
        return sum(member.bytes for member in self.members)


def index_of(chain: str, members: Sequence[Member]) -> PackIndex:
    """The index of a pack of `members`, which follow one upon the other; at least one."""
    return PackIndex(FORMAT, chain, members[0].number, members[-1].number, tuple(members))


def dump_line(index: PackIndex) -> bytes:
    """The line without its end and its mark, to be signed (`Marks.sign_line`)."""
    return adapter_of(PackIndex).dump_json(index)


def line_of(stored: bytes | memoryview, key: str) -> bytes:
    """The line of a pack, or of its beginning; raises `ManifestInvalid` where there is none."""
    line, newline, _ = bytes(stored[: MOST_LINE_BYTES + 1]).partition(b"\n")
    if not newline:
        raise ManifestInvalid(
            f"{key} cannot be read: it does not begin with a line of at most "
            f"{MOST_LINE_BYTES:,} bytes",
            _HINT,
        )
    return line


def load_line(line: bytes, *, key: str, chain: str, first: int, last: int) -> PackIndex:
    """The line of the pack under `key`; its mark is the caller's to check.

    Raises `ManifestInvalid` for one that is not what its key says, or contradicts itself.
    """
    found = read_as(adapter_of(PackIndex), line, key, _HINT, fractions=False, limits=PACK_INDEX)
    if fault := _fault_of(found, chain, first, last):
        raise ManifestInvalid(f"{key} cannot be read: {fault}", _HINT)
    return found


def _fault_of(found: PackIndex, chain: str, first: int, last: int) -> str | None:
    if found.format != FORMAT:
        return f"format {found.format} is not {FORMAT}"
    if (found.chain, found.first, found.last) != (chain, first, last):
        return "it is another pack than its key says"
    numbers = range(first, last + 1)  # of a key; it may say any two
    if len(numbers) != len(found.members) or any(
        member.number != number for member, number in zip(found.members, numbers, strict=True)
    ):
        return f"its members are not the increments {first} to {last}, each once and in order"
    for before, after in zip(found.members, found.members[1:], strict=False):
        if after.instant < before.instant:
            return f"increment {after.number} is older than the one before it"
        if after.sequence <= before.sequence:
            return f"increment {after.number} comes before the one before it"
    if found.bytes_of_members > MOST_BYTES:
        return f"its members have more than {MOST_BYTES:,} bytes"
    return None


def offsets(index: PackIndex) -> Iterator[tuple[Member, int]]:
    """Each member, and where it begins: bytes after the end of the line."""
    start = 0
    for member in index.members:
        yield member, start
        start += member.bytes
