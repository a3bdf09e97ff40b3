"""A note beside a manifest: a person keeps this set, or does so no longer. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from typing import Annotated, Literal

from pydantic import Field

from backups.errors import ManifestInvalid
from backups.format.document import read_as
from shared.adapters import adapter_of
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
    found = replace(pin, at=pin.at.astimezone(UTC))
    return adapter_of(Pin).dump_json(found, indent=2) + b"\n"


def load_pin(document: bytes, *, expected_id: str) -> Pin:
    """The note; raises `ManifestInvalid`."""
    what = f"a note that set {expected_id} is pinned"
    pin = read_as(adapter_of(Pin), document, what, _HINT, fractions=False)
    if pin.format != FORMAT or pin.set_id != expected_id:
        raise ManifestInvalid(f"{what} is of another format, or speaks of another set", _HINT)
    return pin
