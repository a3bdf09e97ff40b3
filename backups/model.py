"""The frozen records that travel along the way of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

SetKind = Literal["set", "legacy", "pre-restore"]
Trigger = Literal["scheduled", "manual", "catch-up", "change", "pre-restore"]
ProofLevel = Literal["full", "sealed", "none"]
OperationName = Literal["backup", "verify", "drill", "restore", "prune"]
RunStatus = Literal["running", "succeeded", "failed", "interrupted"]


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
    """What a database holds, counted in one transaction. Sizes are in bytes."""

    page_size: int
    page_count: int
    user_version: int
    rows: Mapping[str, int]


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

    A `legacy` object's hashes and counts are unknown until it is read.
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

    @property
    def protects(self) -> bool:
        """Whether it can be what `latest` means: complete, proven, not suspect."""
        proven = self.proof != "none" and self.proven_at is not None
        return self.kind == "set" and self.complete and proven and not self.suspect


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
