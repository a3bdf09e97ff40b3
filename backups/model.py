"""The frozen records that travel along the way of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal

SetKind = Literal["set", "legacy", "pre-restore"]
Trigger = Literal["scheduled", "manual", "catch-up", "change", "pre-restore"]
ProofLevel = Literal["full", "sealed", "none"]
OperationName = Literal["backup", "verify", "drill", "restore", "prune"]
RunStatus = Literal["running", "succeeded", "failed", "interrupted"]
Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Source:
    """A live database: a name for keys and logs, and the path of its main file.

    The rows of a `volatile` source come and go within the hour.
    """

    name: str
    path: Path
    volatile: bool = False


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
    """A checked, self-contained copy of one source, on this host's disk."""

    source: str
    path: Path
    bytes: int
    sha256: str
    facts: DatabaseFacts
    same_instant: bool
    journal_mode: str


@dataclass(frozen=True)
class Snapshots:
    """The copies of one run, the instant they show, and how long writers had to wait."""

    instant: datetime
    files: tuple[SnapshotFile, ...]
    gate_seconds: float


@dataclass(frozen=True)
class StoredObject:
    """One stored file of a set: `bytes` and `sha256` as stored, `snapshot_*` of what is inside.

    Of a legacy object only source, key and bytes are known; it is not `described`.
    """

    source: str
    key: str
    bytes: int
    sha256: str
    snapshot_bytes: int
    snapshot_sha256: str
    page_size: int
    page_count: int
    user_version: int
    rows: Mapping[str, int]
    same_instant: bool
    journal_mode: str
    schema: str = ""
    unreadable: int = 0

    @property
    def described(self) -> bool:
        """Whether hashes and counts are known."""
        return bool(self.sha256)


def legacy_object(source: str, key: str, size: int) -> StoredObject:
    """An object that the old cron scripts left: a copy of which nothing was noted."""
    return StoredObject(source, key, size, "", 0, "", 0, 0, 0, {}, False, "unknown")


@dataclass(frozen=True)
class Verdict:
    """What a later proof found about a set: `proof` is `none` when it failed."""

    set_id: str
    at: datetime
    proof: ProofLevel
    reason: str


@dataclass(frozen=True)
class BackupSet:
    """A restore point, as its manifest and the later verdicts on it tell."""

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

    @property
    def protects(self) -> bool:
        """Whether it can be what `latest` means: complete, proven, not suspect."""
        proven = self.proof != "none" and self.proven_at is not None
        return self.kind == "set" and self.complete and proven and not self.suspect

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


@dataclass(frozen=True)
class ContentReport:
    """How a source looks to the application: its rows, and those that it cannot use."""

    rows: int
    unreadable: int


# Opens a copy of a source as the application would; raises `AppError` when it cannot.
ContentCheck = Callable[[Path], ContentReport]


# The same of a sample of its values, which costs the same at any size; writes nothing.
ReadabilityCheck = Callable[[Path], ContentReport]


@dataclass(frozen=True)
class DrillReport:
    """A rehearsed restore: `seconds` from the first byte to usable data (the measured RTO)."""

    set_id: str
    at: datetime
    seconds: float
    rows: int
    unreadable: int
    failure: str | None


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
class RestoreRecord:
    """A restore in place, for undo and for those who look back.

    `owed` is what an undo is about to put back; it is empty when that is done.
    """

    run_id: str
    set_id: str
    at: datetime
    replaced: tuple[Replaced, ...]
    owed: tuple[Replaced, ...] = ()

    @property
    def to_put_back(self) -> tuple[Replaced, ...]:
        """What an undo has to put back now: an undo that did not end is finished first."""
        return self.owed or self.replaced


@dataclass(frozen=True)
class RunError:
    """Why a run failed, for a script (`code`) and for a person."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Run:
    """One attempt, as the run log tells it."""

    id: str
    operation: OperationName
    trigger: Trigger
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None = None
    set_id: str | None = None
    stage: str | None = None
    error: RunError | None = None


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
class Line:
    """One thing that the doctor looked at; `hint` is the remedy when the level is not `ok`."""

    level: Level
    subject: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Examination:
    """What the doctor found: all lines, in the order in which they were looked at."""

    lines: tuple[Line, ...]

    @property
    def healthy(self) -> bool:
        """Whether no line is a problem."""
        return all(line.level != "problem" for line in self.lines)
