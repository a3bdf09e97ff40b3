"""Files in hand without a manifest: of the old scripts, a copy, a download by itself.

Nothing says what they are but their name, their content, or a person.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from backups.errors import FileUnusable, NoRestorePoint
from backups.format import naming
from backups.sets.hand.files import HandFile, suffix_of, with_side_files
from shared.clock import format_utc
from shared.databases.schema import KnownSchema, foreign_parts
from shared.databases.untrusted import open_untrusted
from shared.errors import DatabaseError

_STAMP = len("20261122T010000Z")


@dataclass(frozen=True)
class LooseFile:
    """A file of a source: `instant` is when it was made, as far as anything says."""

    file: HandFile
    source: str
    instant: datetime
    suffix: str


@dataclass(frozen=True)
class Judge:
    """Says which source a file is of: by its name, or its schema, unless a person has said it.

    `names` are those of the sources, `schemas` what this program writes into its own. Copies are
    made in `scratch`.
    """

    names: Collection[str]
    schemas: Mapping[str, KnownSchema]
    only: str | None
    scratch: Path

    def of(self, file: HandFile) -> LooseFile:
        """What a file is; raises `FileUnusable` where nothing says it, `DatabaseError`."""
        suffix = suffix_of(file)
        if not suffix:
            file = with_side_files(file, self.scratch)
        source = self.only or self.by_name(file.given) or self._by_schema(file, suffix)
        if source is None:
            raise FileUnusable(
                f"neither the name nor the content of {file.given} says which source it is of",
                f"Name the source: --only SOURCE. There are: {', '.join(self.names)}.",
            )
        return LooseFile(file, source, instant_of(file), suffix)

    def by_name(self, path: Path) -> str | None:
        """The source that the name of a file says, if it says one."""
        parsed = naming.parse_data_key("", path.name)
        if parsed is not None:
            return parsed.source
        stem = path.name.partition(".")[0]
        return stem if stem in self.names else None

    def _by_schema(self, file: HandFile, suffix: str) -> str | None:
        if suffix:
            return None
        try:
            with open_untrusted(file.path, str(file.given)) as copy:
                found = [
                    name for name, known in self.schemas.items() if not foreign_parts(copy, known)
                ]
        except sqlite3.Error as error:
            raise DatabaseError(f"{file.given} cannot be read: {error}") from error
        return found[0] if len(found) == 1 else None


def instant_of(file: HandFile) -> datetime:
    """When a file was made: by its name, else by its folder, else its modification.

    A dated file that was copied has a younger modification than its name says.
    """
    parsed = naming.parse_data_key("", file.given.name)
    if parsed is not None:
        day = datetime.combine(parsed.day, time(), UTC)
        last = day + timedelta(days=1, seconds=-1)
        return parsed.instant or min(max(day, file.modified_at), last)
    folder = file.given.absolute().parent.name[:_STAMP]  # copies/<set>, pre-restore/<run>
    return naming.instant_of(folder) if naming.is_set_id(folder) else file.modified_at


def newest_of_each(
    found: Iterable[LooseFile], prefix: str, at: datetime | None, given: Path
) -> dict[str, HandFile]:
    """The newest file of each source up to a time, under the keys of one group of old objects.

    Raises `NoRestorePoint`, and `FileUnusable` for two that nothing tells apart.
    """
    newest: dict[str, LooseFile] = {}
    listed = list(found)
    for one in listed:
        if at is not None and one.instant > at:
            continue
        other = newest.setdefault(one.source, one)
        if other is not one and one.instant == other.instant:
            raise FileUnusable(
                f"{other.file.given} and {one.file.given} are both of {one.source}, and of the "
                "same time",
                "Name the one that is meant: --from FILE.",
            )
        if one.instant > other.instant:
            newest[one.source] = one
    if not newest:
        when = f" of {format_utc(at)} or before" if at else ""
        raise NoRestorePoint(f"{given} has no backup{when}", _oldest(listed))
    day = max(one.instant for one in newest.values())
    return {
        naming.data_key(prefix, one.source, day, dated=True, suffix=one.suffix): replace(
            one.file, modified_at=one.instant
        )
        for one in newest.values()
    }


def _oldest(listed: Sequence[LooseFile]) -> str:
    if not listed:
        return "Name the file, or the folder that has it."
    return f"The oldest in it is of {format_utc(min(one.instant for one in listed))}."
