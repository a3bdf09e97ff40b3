"""What restores in place have put aside, and what an undo has to put back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Replaced:
    """What a restore in place put aside for one source.

    `kind` is `copy` (a SQLite file at `path`), `quarantine` (the damaged files, moved to
    the folder `path`) or `nothing` (there was no file). Of a quarantine, `main` says whether
    there was more than side files: as long as the main file is not in the folder, it has
    not been moved.
    """

    source: str
    kind: Literal["copy", "quarantine", "nothing"]
    path: Path | None
    main: bool = True


@dataclass(frozen=True)
class Undone:
    """The restore, or the undo, that an undo takes back."""

    run_id: str
    at: datetime


@dataclass(frozen=True)
class RestoreRecord:
    """A restore in place, for undo and for those who look back.

    `replaced` has what was replaced, each source after it was, if the record is `exact`; earlier
    versions of the program named a source there before. `owed` is what an undo puts back: it is
    owed until the run of that undo has succeeded. `back` names the sources that it has put back.
    """

    run_id: str
    set_id: str
    at: datetime
    replaced: tuple[Replaced, ...]
    owed: tuple[Replaced, ...] = ()
    back: tuple[str, ...] = ()
    undoes: Undone | None = None
    exact: bool = False

    @property
    def to_put_back(self) -> tuple[Replaced, ...]:
        """What an undo has to put back now: an undo that did not end is finished first."""
        if not self.owed:
            return self.replaced
        return tuple(one for one in self.owed if one.source not in self.back)

    @property
    def taken_back(self) -> Undone:
        """What an undo takes back now."""
        own = Undone(self.run_id, self.at)
        return self.undoes or own if self.owed else own


@dataclass(frozen=True)
class Switch:
    """A source that a run is about to replace: it is remembered until it was looked at.

    `put_aside` goes away; `record` is true once it has. SQLite raises the `schema_version` of a
    database by one when its content is replaced; `schema` is the fingerprint of the new content.
    """

    record: RestoreRecord
    put_aside: Replaced
    schema_version: int | None = None
    schema: str = ""

    @property
    def at(self) -> datetime:
        """When the run began to replace."""
        return self.record.at
