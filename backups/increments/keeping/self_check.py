"""The check that a chain makes of itself: is the shadow what the live database is?

The follower calls, in its own thread, while no step is under way:

- `check_hour` once an hour in which something changed, directly after a step, with the copies that
  this step took of the live databases (a step that does not compare takes them for this one time):
  they show the instant of the newest point, as the shadows do after it;
- `look_at` once a minute in which something changed, with the shadows as they are, and
  `note_suspicion` when it finds a reason;
- `pack_chain` (`pack.py`) once an hour, which waits for the store: in a thread of its own.

After `Differs` the follower ends the chain with the reason `differs` and begins with a new full at
once; after `FullNeeded` it asks for a full when that is cheap for it, and goes on until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backups.decisions.suspicion import Measures, suspicions
from backups.format import chain
from backups.format.chain import Check
from backups.increments.keeping.differential import (
    ChainTools,
    FollowedSource,
    FullNeeded,
    put_differential,
)
from backups.increments.shadow import Shadow, same_first_page
from backups.model import ReadabilityCheck, SnapshotFile, StoredObject
from backups.sets.chains import objects_table
from backups.sets.chains.check_puts import put_check
from backups.sets.chains.table import PointRow
from backups.sources.checking.inspection import read_facts
from backups.sources.checking.soundness import soundness_of
from shared.databases.untrusted import open_untrusted, with_untrusted
from shared.errors import DatabaseCorrupt, DatabaseError

_log = logging.getLogger("backups.follow")

_CHUNK_BYTES = 1024 * 1024  # a whole number of pages of any size


@dataclass(frozen=True)
class Differs:
    """What follows number `good` of a chain is not to be trusted, and why."""

    good: int
    reason: str


@dataclass(frozen=True)
class Good:
    """The shadows are what the live databases are; `differential` is the key of what was put."""

    differential: str | None = None


def ask_nobody() -> None:
    """The `ask` of a caller that never stops the check."""


def check_hour(
    tools: ChainTools,
    point: PointRow,
    sources: Sequence[FollowedSource],
    at: datetime,
    ask: Callable[[], None] = ask_nobody,
) -> Good | Differs | FullNeeded:
    """Compare the shadows with SQLite's own copies at the instant of `point`, have SQLite check
    these, and put a differential.

    `ask` is called a few times a second, and stops it by raising. A chain that `Differs` has a
    verdict in the store, and its points after the last good check are suspect here. Raises
    `StoreError`, `OSError`, `DatabaseError`, `ProofFailed`, `IncrementBroken`.
    """
    for one in sources:
        reason = _fault_of(one, ask)
        if reason is not None:
            found = Differs(last_good(tools, point.chain), reason)
            note_suspicion(tools, point.chain, found.good, (reason,), at)
            return found
    made = put_differential(tools, point, sources)
    if isinstance(made, FullNeeded):
        note_good(tools, point, at)
        return made
    if made is None:
        note_good(tools, point, at)
    return Good(made)


def _fault_of(one: FollowedSource, ask: Callable[[], None]) -> str | None:
    if one.copy is None:
        return None
    page = first_difference(one.shadow, one.copy)
    if page is not None:
        return f"page {page} of {one.source} is not what the chain made it"
    try:
        fault = with_untrusted(
            one.copy,
            f"the copy of source {one.source}",
            lambda connection: soundness_of(connection, "integrity_check").fault,
            ask,
        )
    except DatabaseCorrupt as error:
        fault = error.message
    return f"{one.source} is damaged: {fault}" if fault else None


def first_difference(shadow: Shadow, copy: Path) -> int | None:
    """The first page in which a shadow is not what a copy of the live database is; None if it is.

    What copying sets itself in the first page does not count.
    """
    size, number = shadow.page_size, 0
    with copy.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            mine = shadow.chunk(number * size, _CHUNK_BYTES)
            if mine != chunk and (found := _differing(mine, chunk, size, number)) is not None:
                return found
            number += len(chunk) // size
    return number + 1 if shadow.pages > number else None


def _differing(mine: bytes, theirs: bytes, size: int, before: int) -> int | None:
    for start in range(0, len(theirs), size):
        one, other = mine[start : start + size], theirs[start : start + size]
        number = before + start // size + 1
        if one != other and not (number == 1 and one and same_first_page(one, other)):
            return number
    return None


def last_good(tools: ChainTools, chain_id: str) -> int:
    """The highest number of a chain that a check of this host has found good; 0 is the full."""
    with tools.known.reading() as connection:
        rows = objects_table.objects(connection, chain_id, "differential", "check")
    good = [0]
    for row in rows:
        if row.mark != "valid":
            continue
        if row.kind == "differential":
            good.append(row.last)
        elif row.document is not None:
            found = chain.load(Check, row.document, key=row.key, chain=chain_id)
            good += [] if found.reason else [found.good]
    return max(good)


def note_good(tools: ChainTools, point: PointRow, at: datetime) -> None:
    """Leave that a chain was found good up to a point, where no differential says it."""
    check = Check(chain.FORMAT, point.chain, at, point.number)
    put_check(tools.store, tools.known, tools.marks, check)


def note_suspicion(
    tools: ChainTools, chain_id: str, good: int, reasons: Sequence[str], at: datetime
) -> None:
    """Leave that what follows a good number should not be trusted: here, then in the store.

    Raises `DatabaseError`, and `StoreError` where the store is away; it is suspect here then, too.
    """
    text = "; ".join(reasons)
    with tools.known.transaction() as connection:
        objects_table.suspect_after(connection, chain_id, good, text)
    _log.warning("chain %s is suspect after number %d: %s", chain_id, good, text)
    check = Check(chain.FORMAT, chain_id, at, good, text)
    put_check(tools.store, tools.known, tools.marks, check)


@dataclass(frozen=True)
class Look:
    """How the shadows look: `files`, values that nobody can read by source, what cannot be read."""

    files: tuple[SnapshotFile, ...]
    unreadable: Mapping[str, int]
    faults: tuple[str, ...]

    def reasons(self, compared: Measures, volatile: frozenset[str]) -> tuple[str, ...]:
        """Why the newest point should not be trusted, as a set is judged
        (`decisions/suspicion.py`); `compared` are the measures of new sets."""
        return (*self.faults, *suspicions(self.files, compared, volatile, self.unreadable))

    @property
    def as_measure(self) -> Measures:
        """The same as what is compared with from now on."""
        return {one.source: (self._stored(one),) for one in self.files}

    def _stored(self, one: SnapshotFile) -> StoredObject:
        facts = one.facts
        return StoredObject(
            source=one.source,
            key="",
            bytes=one.bytes,
            sha256="",
            snapshot_bytes=one.bytes,
            snapshot_sha256="",
            page_size=facts.page_size,
            page_count=facts.page_count,
            user_version=facts.user_version,
            rows=facts.rows,
            same_instant=True,
            journal_mode="wal",
            schema=facts.schema,
            unreadable=self.unreadable[one.source],
        )


def look_at(shadows: Mapping[str, Path], readable: Mapping[str, ReadabilityCheck]) -> Look:
    """Look at the newest point.

    `shadows` are files that nobody writes meanwhile, `readable` samples the values of a source.
    SQLite opens no shadow for writing.
    """
    files, unreadable, faults = [], {}, []
    for source, path in shadows.items():
        try:
            with open_untrusted(path, f"the shadow of source {source}") as connection:
                facts = read_facts(connection)
            check = readable.get(source)
            unreadable[source] = check(path).unreadable if check else 0
        except DatabaseError as error:
            faults.append(error.message)
            continue
        files.append(SnapshotFile(source, path, path.stat().st_size, "", facts, True, "wal"))
    return Look(tuple(files), unreadable, tuple(faults))
