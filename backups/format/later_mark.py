"""A mark that was made later: it vouches for documents that lie in the store already. Pure.

`sets/<id>/mark-<time>.json` names documents of one set by their SHA-256: those that an earlier
version wrote without a mark, or those whose marks were made with a key that was rotated away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from backups.errors import ManifestInvalid
from backups.format.document import read_as
from shared.adapters import adapter_of
from shared.bounded import Instant, SetId, Sha256

FORMAT = 1
MOST_DOCUMENTS = 5_000

_Name = Annotated[str, Field(pattern=r"^[a-z]+(-\d{8}T\d{6}Z)?$")]


@dataclass(frozen=True)
class LaterMark:
    """That these documents of a set (`manifest`, `proof-…`: SHA-256) are what we hold for ours."""

    format: int
    set_id: SetId
    at: Instant
    documents: Annotated[Mapping[_Name, Sha256], Field(max_length=MOST_DOCUMENTS)]


def dump_later_mark(set_id: str, at: datetime, documents: Mapping[str, str]) -> bytes:
    """The bytes of the document, to be signed."""
    found = LaterMark(FORMAT, set_id, at.astimezone(UTC), dict(sorted(documents.items())))
    return adapter_of(LaterMark).dump_json(found, indent=2) + b"\n"


def load_later_mark(document: bytes, *, expected_id: str) -> LaterMark:
    """The document; its own mark is the caller's to check. Raises `ManifestInvalid`."""
    what = f"a later mark of set {expected_id}"
    found = read_as(adapter_of(LaterMark), document, what, "", fractions=False)
    if found.format != FORMAT or found.set_id != expected_id:
        raise ManifestInvalid(f"{what} speaks of another set, or in another format", "")
    return found
