"""A note beside a manifest: a person has deleted this set on purpose. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backups.format.notes.note import dump_note, load_note
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
    return dump_note(deletion)


def load_deletion(document: bytes, *, expected_id: str) -> Deletion:
    """The note; raises `ManifestInvalid`."""
    what = f"a note that set {expected_id} was deleted"
    return load_note(
        Deletion, document, what=what, hint=_HINT, expected_id=expected_id, version=FORMAT
    )
