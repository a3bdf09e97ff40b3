"""What notes beside a manifest have in common: which set they are about, and since when. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from backups.errors import ManifestInvalid
from backups.format.document import read_as
from shared.adapters import adapter_of


class Note(Protocol):
    """A dataclass with these fields."""

    @property
    def set_id(self) -> str:
        """The set that it is about."""

    @property
    def at(self) -> datetime:
        """When it was made."""

    @property
    def format(self) -> int:
        """The version of its form."""


N = TypeVar("N", bound=Note)


def dump_note(note: Note) -> bytes:
    """The bytes of a note, to be signed."""
    kind: Any = note
    found = replace(kind, at=note.at.astimezone(UTC))
    dumped: bytes = adapter_of(type(kind)).dump_json(found, indent=2)
    return dumped + b"\n"


def load_note(
    kind: type[N], document: bytes, *, what: str, hint: str, expected_id: str, version: int
) -> N:
    """The note; raises `ManifestInvalid` for one of another set or version."""
    hashable: Any = kind
    found: N = read_as(adapter_of(hashable), document, what, hint, fractions=False)
    if found.format != version or found.set_id != expected_id:
        raise ManifestInvalid(f"{what} is of another format, or speaks of another set", hint)
    return found
