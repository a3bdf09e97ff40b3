"""Who an installation is, as it says it in the store: JSON out, JSON in, everything checked. Pure.

What is read here may have been written by a stranger with a bucket key: sizes, counts and texts
are bounded, and nothing in it is used before it has passed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from backups.format import naming
from backups.format.document import first_fault, read_object
from shared.adapters import adapter_of
from shared.bounded import HIGHEST_SEQUENCE, Instant, Printable, Sha256

FORMAT = 1
MOST_BYTES = 64 * 1024
MOST_PREDECESSORS = 100

# Of `/etc/machine-id` (machine-id(5)): 32 lower-case hexadecimal digits.
_MACHINE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
# The id itself is not to be published, says machine-id(5), but a hash of it with a text of ours.
_OURS = "backups of the messenger bot: the machine of an installation\n"


def _instance(text: str) -> str:
    if not naming.is_instance(text):
        raise ValueError("no id of an installation")
    return text


_Instance = Annotated[str, AfterValidator(_instance)]


@dataclass(frozen=True)
class LastSet:
    """How far an installation had come when it was taken over: what is newer is its own again."""

    at: Instant
    sequence: Annotated[int, Field(ge=1, le=HIGHEST_SEQUENCE)] | None


@dataclass(frozen=True)
class InstanceDocument:
    """An installation at a time: its host, machine and `BACKUP_DIR`, and whose sets it took over.

    `machine` is None where the host has no id: that equals no other. `last_sets` has how far those
    that it `succeeds` had come, `marking_since` since when its documents carry marks, and `rotated`
    the fingerprint of the token key with which all of them were marked again; older versions do
    not say these.
    """

    format: int
    instance: _Instance
    host: Annotated[Printable, Field(max_length=255)]
    machine: Sha256 | None
    directory: Annotated[Printable, Field(max_length=4096)]
    succeeds: Annotated[tuple[_Instance, ...], Field(max_length=MOST_PREDECESSORS)]
    at: Instant
    last_sets: Annotated[Mapping[_Instance, LastSet], Field(max_length=MOST_PREDECESSORS)] = field(
        default_factory=dict
    )
    marking_since: Instant | None = None
    rotated: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None

    def says_the_same(self, other: InstanceDocument) -> bool:
        """Whether both say the same, at whatever time."""
        return replace(self, at=other.at) == other

    def is_same_place(self, other: InstanceDocument) -> bool:
        """Whether both are in the same folder of the same machine, as far as that is known."""
        return self.machine is not None and (self.machine, self.directory) == (
            other.machine,
            other.directory,
        )


def machine_hash(machine_id: str) -> str | None:
    """What stands for a machine in a document; None of a text that is no machine id."""
    found = machine_id.strip()
    if not _MACHINE_ID.fullmatch(found):
        return None
    return hashlib.sha256(f"{_OURS}{found}".encode()).hexdigest()


def dump_instance(document: InstanceDocument) -> bytes:
    """The bytes of a document."""
    return adapter_of(InstanceDocument).dump_json(document, indent=2) + b"\n"


def load_instance(document: bytes, *, instance: str, at: datetime) -> InstanceDocument:
    """The document under the key of `instance` and `at`; raises `ValueError` for any other."""
    if len(document) > MOST_BYTES:
        raise ValueError("too large")
    read_object(document)
    try:
        found = adapter_of(InstanceDocument).validate_json(document, strict=True)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
    if found.format != FORMAT:
        raise ValueError(f"format {found.format}")
    if found.instance != instance or naming.stamp(found.at) != naming.stamp(at):
        raise ValueError("it is not what its key says")
    return found
