"""`Contender`: a way to get two databases into a bucket and back, whose times can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# What a backup's times are called. A contender that proves nothing has only the last.
TO_LAST_PUT = "to the last data PUT"
WITH_PROOF = "with the proof"
WHOLE = "end to end"

Times = Mapping[str, float]


class Contender(Protocol):
    """One way, for one pair of databases; what it stored is gone when it is closed."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def backup(self) -> Times:
        """A full backup of both databases; seconds by what they are until."""

    def restore(self, into: Path) -> float:
        """Both databases of the last backup, as files in an empty folder; the seconds."""

    def close(self) -> None:
        """Stop and forget all."""
