"""An increment: one JSON line, then the changed pages of each source. Pure.

    {"format":1,"kind":"increment",…,"sources":[{"source":"tokens",…,"bytes":812,"sha256":…}]} LF
    body of the first source | body of the second source | …

A body is zstd of the numbers of the changed pages (4 bytes each, big-endian, ascending), then of
those pages, each XOR what it was before, a new page XOR zeros; or an age file of that. A
differential has the same form, and changes the full itself. The mark covers the line, and with it
the SHA-256 of each body. `docs/format.md` has all members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from backups.errors import ManifestInvalid
from backups.format.chain_keys import ChainId
from backups.format.document import read_as
from backups.format.page_sum import Sum
from shared.adapters import adapter_of
from shared.bounded import (
    MOST_OBJECTS,
    Count,
    Name,
    PageCount,
    PageSize,
    Sha256,
    Size,
    SourceName,
    Texts,
)
from shared.bounded import (
    Sequence as SequenceNumber,
)

FORMAT = 1
MOST_LINE_BYTES = 64 * 1024
# Of the changed pages of one source, unfolded; more than that is stored as a full.
MOST_CHANGED_BYTES = 64 * 1024 * 1024
# A line, and what zstd and age can make of eight such changes at worst.
MOST_BYTES = MOST_LINE_BYTES + MOST_OBJECTS * (MOST_CHANGED_BYTES + 4 * 1024 * 1024)
_HINT = "Choose another restore point: ./bot backups list"

IncrementKind = Literal["increment", "differential"]
How = Literal["wal", "compare"]


@dataclass(frozen=True)
class SourceChange:
    """What an increment does to one source: its pages and sum before and after it.

    `changed` pages are in its body, which has `bytes` bytes with this `sha256`, as stored.
    """

    source: SourceName
    page_size: PageSize
    pages_before: PageCount
    pages_after: PageCount
    changed: PageCount
    before: Sum
    after: Sum
    bytes: Size
    sha256: Sha256


@dataclass(frozen=True)
class Proven:
    """The highest number of a chain that was proven, and when: milliseconds since 1970."""

    seq: Count
    at: Count


@dataclass(frozen=True)
class Increment:
    """The line of an increment.

    `seq` is its number in its `chain`, from 1; `sequence` its place among all points of the line;
    `instant` is in milliseconds since 1970; `prev` the SHA-256 of the object before it, as stored
    (of the head for the first; of the increment `seq` itself for a differential). It changes the
    state after number `base_seq`: the full is 0. `proven` is what was proven before it.
    """

    format: int
    kind: IncrementKind
    chain: ChainId
    seq: SequenceNumber
    sequence: SequenceNumber
    instant: Count
    prev: Sha256
    base_seq: Count
    trigger: Name
    how: How
    instance: Name
    same_instant: bool
    sources: Annotated[tuple[SourceChange, ...], Field(min_length=1, max_length=MOST_OBJECTS)]
    suspect: Texts | None = None
    proven: Proven | None = None

    @property
    def bytes_of_bodies(self) -> int:
        """How many bytes follow the line."""
        return sum(change.bytes for change in self.sources)


def dump_line(increment: Increment) -> bytes:
    """The line without its end and its mark, to be signed (`Marks.sign_line`)."""
    return adapter_of(Increment).dump_json(increment, exclude_none=True)


def assemble(line: bytes, bodies: Sequence[bytes]) -> bytes:
    """The object: a signed line, and the bodies in the order of its sources."""
    return b"".join((line, b"\n", *bodies))


def line_of(stored: bytes | bytearray | memoryview, key: str) -> bytes:
    """The line of an object, or of its beginning; raises `ManifestInvalid` where there is none."""
    head = bytes(stored[: MOST_LINE_BYTES + 1])
    line, newline, _ = head.partition(b"\n")
    if not newline:
        raise ManifestInvalid(
            f"{key} cannot be read: it does not begin with a line of at most "
            f"{MOST_LINE_BYTES:,} bytes",
            _HINT,
        )
    return line


def load_line(line: bytes, *, key: str, chain: str, number: int, kind: IncrementKind) -> Increment:
    """The line of the object under `key`; its mark is the caller's to check.

    Raises `ManifestInvalid` for one that is not what its key says, or contradicts itself.
    """
    found = read_as(adapter_of(Increment), line, key, _HINT, fractions=False)
    if fault := _fault_of(found, chain, number, kind):
        raise ManifestInvalid(f"{key} cannot be read: {fault}", _HINT)
    return found


def _fault_of(found: Increment, chain: str, number: int, kind: IncrementKind) -> str | None:
    if found.format != FORMAT:
        return f"format {found.format} is not {FORMAT}"
    if (found.chain, found.seq, found.kind) != (chain, number, kind):
        return "it is another object than its key says"
    if found.base_seq != (number - 1 if kind == "increment" else 0):
        return f"it does not change the state before it, but that after number {found.base_seq}"
    names = [change.source for change in found.sources]
    if len(set(names)) != len(names):
        return "it has a source twice"
    for change in found.sources:
        if change.page_size & (change.page_size - 1):
            return f"{change.page_size} is no page size"
        if change.changed > change.pages_after:
            return f"it changes more pages of {change.source} than there are"
        if change.changed * change.page_size > MOST_CHANGED_BYTES:
            return f"it changes more than {MOST_CHANGED_BYTES:,} bytes of {change.source}"
        if change.bytes > MOST_CHANGED_BYTES + 4 * 1024 * 1024:
            return f"its body of {change.source} is too large"
    return None


def split(stored: bytes | bytearray, increment: Increment, key: str) -> list[memoryview]:
    """The bodies of an object, in the order of its sources.

    Raises `ManifestInvalid` unless they are as long as its line says. Their SHA-256 is the
    caller's to compare.
    """
    start = stored.index(b"\n") + 1
    if len(stored) - start != increment.bytes_of_bodies:
        raise ManifestInvalid(
            f"{key} has {len(stored) - start:,} bytes after its line, which says "
            f"{increment.bytes_of_bodies:,}",
            _HINT,
        )
    view, bodies = memoryview(stored), []
    for change in increment.sources:
        bodies.append(view[start : start + change.bytes])
        start += change.bytes
    return bodies
