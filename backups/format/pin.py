"""A note beside a manifest: a person keeps this set, or does so no longer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from backups.format.notes.note import dump_note, load_note
from shared.bounded import Instant, SetId

FORMAT = 1
MOST_LABEL = 100
_HINT = "Pin the set again: ./bot backups pin SET"


@dataclass(frozen=True)
class Pin:
    """That retention keeps a set whatever its rules say, and why; `pinned` false: no longer."""

    set_id: SetId
    at: Instant
    pinned: bool
    label: Annotated[str, Field(max_length=MOST_LABEL)] = ""
    format: int = FORMAT
    kind: Literal["pin"] = "pin"


def dump_pin(pin: Pin) -> bytes:
    """The bytes of the note, to be signed."""
    return dump_note(pin)


def load_pin(document: bytes, *, expected_id: str) -> Pin:
    """The note; raises `ManifestInvalid`."""
    what = f"a note that set {expected_id} is pinned"
    return load_note(Pin, document, what=what, hint=_HINT, expected_id=expected_id, version=FORMAT)
