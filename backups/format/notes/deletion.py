"""A note beside a manifest: a person has deleted this set on purpose. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from typing import Literal

from backups.errors import ManifestInvalid
from backups.format.document import read_as
from shared.adapters import adapter_of
from shared.bounded import Instant, SetId, Sha256

FORMAT = 1
# What the name of such a note begins with, after that of its set.
DELETED = "deleted-"
_HINT = "Delete the set again: ./bot backups delete SET"


@dataclass(frozen=True)
class Deletion:
    """That the set whose manifest has this SHA-256 is to be gone, whatever is left of it."""

    set_id: SetId
    at: Instant
    manifest: Sha256
    format: int = FORMAT
    kind: Literal["deleted"] = "deleted"


def dump_deletion(deletion: Deletion) -> bytes:
    """The bytes of the note, to be signed."""
    found = replace(deletion, at=deletion.at.astimezone(UTC))
    return adapter_of(Deletion).dump_json(found, indent=2) + b"\n"


def load_deletion(document: bytes, *, expected_id: str) -> Deletion:
    """The note; raises `ManifestInvalid`."""
    what = f"a note that set {expected_id} was deleted"
    found = read_as(adapter_of(Deletion), document, what, _HINT, fractions=False)
    if found.format != FORMAT or found.set_id != expected_id:
        raise ManifestInvalid(f"{what} is of another format, or speaks of another set", _HINT)
    return found
