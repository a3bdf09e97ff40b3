"""The documents of a chain: what it begins with, why it ended, what was found later. Pure.

`docs/format.md` describes them. Their marks are the caller's to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from backups.errors import ManifestInvalid
from backups.format.chain_keys import ChainId, chain_id
from backups.format.document import read_as
from backups.format.page_sum import Sum
from shared.adapters import adapter_of
from shared.bounded import (
    MOST_OBJECTS,
    Count,
    Instant,
    Name,
    PageCount,
    PageSize,
    Sequence,
    SetId,
    Sha256,
    SourceName,
    Text,
)

FORMAT = 1
MOST_MARKED = 5_000
_HINT = "Choose another restore point: ./bot backups list"

EndReason = Literal[
    "new_chain",  # a newer full begins another one
    "restore",  # live data was replaced: what follows `restored_to` is set aside
    "clock",  # the clock was set back
    "two_writers",  # another process wrote a number of this chain
    "sources",  # a source was added, taken away, or cannot be followed any more
    "differs",  # the live database was not what the chain made it
]


@dataclass(frozen=True)
class HeadSource:
    """One source of the full, as its stored file is: pages, their sum, and its SHA-256."""

    source: SourceName
    page_size: PageSize
    pages: PageCount
    sum: Sum
    snapshot_sha256: Sha256


@dataclass(frozen=True)
class Head:
    """What a chain begins with: its full. `sequence` is the full's."""

    format: int
    chain: ChainId
    set_id: SetId
    instance: Name
    at: Instant
    sequence: Sequence
    sources: Annotated[tuple[HeadSource, ...], Field(min_length=1, max_length=MOST_OBJECTS)]
    kind: Literal["head"] = "head"


@dataclass(frozen=True)
class RestoredTo:
    """What a restore brought back: the instant in milliseconds since 1970, and its place."""

    point: Name
    instant: Count
    sequence: Sequence | None = None


@dataclass(frozen=True)
class End:
    """Why nothing follows the number `last` of a chain."""

    format: int
    chain: ChainId
    at: Instant
    reason: EndReason
    last: Count
    restored_to: RestoredTo | None = None
    kind: Literal["end"] = "end"


_CheckName = Annotated[str, Field(pattern=r"^check-\d{8}T\d{6}Z\.json$")]


@dataclass(frozen=True)
class Check:
    """A later verdict on a chain: up to `good` it is right; with `reason`, what follows is not.

    With `accepts` a person says so: these verdicts count no more, and neither does what the
    increments up to `good` say against themselves.
    """

    format: int
    chain: ChainId
    at: Instant
    good: Count
    reason: Text | None = None
    accepts: Annotated[tuple[_CheckName, ...] | None, Field(max_length=MOST_MARKED)] = None
    kind: Literal["check"] = "check"


_Marked = Annotated[
    str,
    Field(
        pattern=r"^(head\.json|end\.json|check-\d{8}T\d{6}Z\.json"
        r"|[id]/\d{10}\.inc(\.age)?|p/\d{10}-\d{10}\.pack)$"
    ),
]


@dataclass(frozen=True)
class ChainMark:
    """That these objects of a chain are what we hold for ours: by their keys below the chain.

    The SHA-256 is that of a document, or of the line that an increment, a differential or a pack
    begins with, without its end: that has the SHA-256 of what follows.
    """

    format: int
    chain: ChainId
    at: Instant
    documents: Annotated[Mapping[_Marked, Sha256], Field(min_length=1, max_length=MOST_MARKED)]
    kind: Literal["mark"] = "mark"


_Document = TypeVar("_Document", Head, End, Check, ChainMark)


def dump(document: Head | End | Check | ChainMark) -> bytes:
    """The bytes of a document of a chain, to be signed."""
    dumped: bytes = adapter_of(type(document)).dump_json(document, indent=2, exclude_none=True)
    return dumped + b"\n"


def load(kind: type[_Document], document: bytes, *, key: str, chain: str) -> _Document:
    """The document under `key`; raises `ManifestInvalid` for one of another chain."""
    found: _Document = read_as(adapter_of(kind), document, key, _HINT, fractions=False)
    if found.format != FORMAT or found.chain != chain:
        raise ManifestInvalid(f"{key} speaks of another chain, or in another format", _HINT)
    if isinstance(found, Head) and chain_id(found.set_id, found.instance) != chain:
        raise ManifestInvalid(f"{key} names a set that is not the full of its chain", _HINT)
    return found
