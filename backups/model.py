"""The frozen records that travel along the way of the data.

One file, because all rooms share these words and a reader looks them up in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from shared.bounded import (
    Count,
    Key,
    Name,
    PageCount,
    PageSize,
    RowCounts,
    Sha256,
    Size,
    SourceName,
    Text,
    UserVersion,
)

SetKind = Literal["set", "legacy", "pre-restore"]
Trigger = Literal["scheduled", "manual", "catch-up", "change", "pre-restore"]
ProofLevel = Literal["full", "sealed", "none"]
OperationName = Literal["backup", "verify", "drill", "restore", "prune", "delete"]
PlaceName = Literal["first", "second"]
RunStatus = Literal["running", "succeeded", "failed", "interrupted"]
Level = Literal["ok", "warning", "problem"]
Light = Literal["green", "amber", "red"]
RunBy = Literal["app", "cron"]
# How a document is marked (`format/mark.py`). valid: with a key of ours. unknown_key: with one that
# is not here. wrong: with one that is here, but it is not the mark of this document at its place.
Mark = Literal["valid", "unsigned", "unknown_key", "wrong"]


@dataclass(frozen=True)
class Source:
    """A live database: a name for keys and logs, and the real path of its main file.

    `link` is the path that was configured, where that goes over a symbolic link. The rows of a
    `volatile` source come and go within the hour.
    """

    name: str
    path: Path
    volatile: bool = False
    link: Path | None = None


@dataclass(frozen=True)
class DatabaseFacts:
    """What a database holds, counted in one transaction. Sizes are in bytes.

    `schema` is a fingerprint of its tables, indexes, views and triggers; empty when unknown.
    """

    page_size: int
    page_count: int
    user_version: int
    rows: Mapping[str, int]
    schema: str = ""


@dataclass(frozen=True)
class SnapshotFile:
    """A self-contained copy of one source, on this host's disk."""

    source: str
    path: Path
    bytes: int
    sha256: str
    facts: DatabaseFacts
    same_instant: bool
    journal_mode: str
    finding: str = ""


@dataclass(frozen=True)
class Snapshots:
    """The copies of one run, the instant that they show, and their place in the order of points.

    `sequence` is None where nobody took a number at that instant.
    """

    instant: datetime
    files: tuple[SnapshotFile, ...]
    sequence: int | None = None


@dataclass(frozen=True)
class StoredObject:
    """One stored file of a set: `bytes` and `sha256` as stored, `snapshot_*` of what is inside.

    These are the members of an object in a manifest, in their order (`docs/format.md`). Of a
    legacy object only source, key and bytes are known; it is not `described`.
    """

    source: SourceName
    key: Key
    bytes: Size
    sha256: Sha256
    snapshot_bytes: Size
    snapshot_sha256: Sha256
    page_size: PageSize
    page_count: PageCount
    user_version: UserVersion
    rows: RowCounts
    same_instant: bool
    journal_mode: Name
    schema: Name = ""
    unreadable: Count = 0
    finding: Text = ""  # what SQLite could not confirm of it

    @property
    def described(self) -> bool:
        """Whether hashes and counts are known."""
        return bool(self.sha256)

    @property
    def facts(self) -> DatabaseFacts:
        """What is known of the database inside; its `schema` is empty when it is not known."""
        return DatabaseFacts(
            page_size=self.page_size,
            page_count=self.page_count,
            user_version=self.user_version,
            rows=dict(self.rows),
            schema=self.schema,
        )


@dataclass(frozen=True)
class Verdict:
    """What a later proof found about a set: `proof` is `none` when it failed.

    `manifest` is the SHA-256 of the manifest that was proven; earlier versions do not say it.
    """

    set_id: str
    at: datetime
    proof: ProofLevel
    reason: str
    manifest: str | None = None


@dataclass(frozen=True)
class ChainPoint:
    """Which point of a chain a restore point is; the newest one that can be restored is `last`."""

    chain: str
    number: int
    last: int


@dataclass(frozen=True)
class BackupSet:
    """A restore point, from its manifest and the later verdicts on it."""

    id: str
    kind: SetKind
    created_at: datetime
    trigger: Trigger
    instance: str
    complete: bool
    proven_at: datetime | None
    proof: ProofLevel
    suspect: tuple[str, ...] | None
    objects: tuple[StoredObject, ...]
    token_key: str | None = None
    recipients: tuple[str, ...] = ()
    # The place in the line of its installation, from 1; None for a set of an older version.
    sequence: int | None = None
    # When a restore passed it over for an older one; `latest` does not mean it.
    set_aside: datetime | None = None
    # Whether a person keeps it, whatever the rules of retention say, and why.
    pinned: bool = False
    label: str = ""
    # Whether the store lost its objects, or has them with another size; its proof is `none` then.
    hollow: bool = False
    # When this host saw it while its time still lay in the future.
    seen_ahead_at: datetime | None = None
    # How its manifest is marked, and the fingerprint of the key that the mark names.
    mark: Mark = "unsigned"
    mark_key: str | None = None
    # The program that made it, as its manifest says.
    application: str = field(default="", compare=False)
    # Where it is a point of a chain: the objects are then those of the full, before the changes.
    point: ChainPoint | None = None

    @property
    def holds_until(self) -> datetime:
        """The latest instant of which it can hold the data, as far as this host knows.

        Where the clock was ahead when it was made, its own instant comes after its data.
        """
        return min(self.created_at, self.seen_ahead_at or self.created_at)

    @property
    def protects(self) -> bool:
        """Whether it can be what `latest` means: marked, complete, proven, not suspect."""
        proven = self.proof != "none" and self.proven_at is not None
        is_believed = self.kind == "set" and self.mark == "valid"
        return is_believed and self.complete and proven and not self.suspect

    @property
    def bytes(self) -> int:
        """What its objects have in the store."""
        return sum(stored.bytes for stored in self.objects)


@dataclass(frozen=True)
class RestorePoint:
    """What a plan for all restore points needs of each: a `BackupSet` without its objects."""

    id: str
    kind: SetKind
    created_at: datetime
    trigger: Trigger
    instance: str
    protects: bool
    bytes: int
    sequence: int | None = None
    # Whether it protects, but was passed over by a restore.
    set_aside: bool = False
    # How its manifest is marked.
    mark: Mark = "unsigned"


@dataclass(frozen=True)
class ContentReport:
    """How a source looks to the application: its rows, and those that it cannot use.

    `about` says what is wrong with these; empty: the keys of today do not open them.
    """

    rows: int
    unreadable: int
    about: str = ""


# Opens a copy of a source as the application would; raises `AppError` when it cannot.
ContentCheck = Callable[[Path], ContentReport]


# The same of a sample of its values, which costs the same at any size; writes nothing.
ReadabilityCheck = Callable[[Path], ContentReport]

# Adds to the second copy of a source, which is about to be restored, the rows of the first, newer
# one that no restore takes back; how many. Raises `AppError`.
CarryOver = Callable[[Path, Path, Callable[[], None]], int]


@dataclass(frozen=True)
class DrillReport:
    """A rehearsed restore: `seconds`, to the millisecond, from the first byte to usable data (the
    measured RTO)."""

    set_id: str
    at: datetime
    seconds: float
    rows: int
    unreadable: int
    failure: str | None


@dataclass(frozen=True)
class Baseline:
    """What a restore in place has put into the place of a source: what its next sets are
    compared with, in place of any set made before.
    """

    set_id: str
    at: datetime


@dataclass(frozen=True)
class RunError:
    """Why a run failed, for a script (`code`) and for a person."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Refusal:
    """What the store said when it was asked for its restore points, and would not list them."""

    at: datetime
    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Run:
    """One attempt, as the run log has it; `undo` of a restore that undid one.

    `place` is where its set went, `first` or `second`: the second stands in for a store that is
    away.
    """

    id: str
    operation: OperationName
    trigger: Trigger
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None = None
    set_id: str | None = None
    stage: str | None = None
    error: RunError | None = None
    undo: bool = False
    place: PlaceName = "first"

    @property
    def act(self) -> str:
        """What it does, for a person: an undo is logged as the restore that it is."""
        return "undo" if self.undo else self.operation


@dataclass(frozen=True)
class FailedBeginning:
    """An attempt at a run that could not even begin: the run log knows nothing of it."""

    operation: OperationName
    at: datetime
    error: RunError


@dataclass(frozen=True)
class DayOfRuns:
    """How many backup runs of a day (UTC) ended in one way."""

    day: date
    status: RunStatus
    count: int


@dataclass(frozen=True)
class Progress:
    """How far a stage is with one source; `done` and `total` are bytes, 0 when unknown."""

    stage: str
    source: str = ""
    done: int = 0
    total: int = 0


ProgressSink = Callable[[Progress], None]


@dataclass(frozen=True)
class Finding:
    """A problem or a warning in status."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Beat:
    """The last sign of life of a thread that has to live.

    `name` is `scheduler`, `follower`, `packer`, `alerts` or `inbox`;
    `age` is the time since then by the monotonic clock, `most` how long it may be. `failure` is
    what its last step raised, None after one that went well, and `failing_for` since how long.
    """

    name: str
    age: timedelta
    most: timedelta
    failure: str | None = None
    failing_for: timedelta = timedelta(0)


@dataclass(frozen=True)
class MissingPoint:
    """A restore point that the store lost without our prune.

    `vanished`: its manifest is gone. `hollow`: objects are gone, or have another size.
    """

    id: str
    kind: Literal["vanished", "hollow"]
    created_at: datetime
    noticed_at: datetime
