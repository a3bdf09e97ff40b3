"""What an auditor asks for: what was promised in a period, and what the records show. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from backups.decisions.gaps import Doubtful, Gap, Points, gaps_of, largest, longest_interval, within
from backups.decisions.protection import GRACE
from backups.decisions.rehearsals import DrillEntry, drills_of, duration, intervals_without
from backups.model import (
    DrillReport,
    MissingPoint,
    ProofLevel,
    RestorePoint,
    Run,
    SetKind,
)
from shared.crontab import Crontab

RestoreKind = Literal["undo", "in_place", "into_folder", "not_known"]


@dataclass(frozen=True)
class Producer:
    """Who says so: the installation, its host, its store and its program."""

    installation: str
    host: str
    program: str
    store: str
    offsite: bool
    last_contact_at: datetime | None


@dataclass(frozen=True)
class RunCount:
    """How many runs of a kind there were."""

    operation: str
    trigger: str
    status: str
    count: int


@dataclass(frozen=True)
class KeptProof:
    """What is known of the proof of a point that is kept; `again`: proven again after its run."""

    id: str
    proof: ProofLevel
    again: bool


@dataclass(frozen=True)
class Alert:
    """A message, to a receiver that a hash names, and what became of it."""

    at: datetime
    receiver: str
    title: str
    codes: tuple[str, ...]
    result: str

    @property
    def arrived(self) -> bool:
        """Whether the receiver took it."""
        return self.result == "sent"


@dataclass(frozen=True)
class EvidenceFacts:
    """What `report_on` goes by.

    `begin` is since when this host has records, at most `now`. Of the period are `counts`,
    `alerts` and the runs: `failed` (interrupted ones too, and those of the gap that leads into
    the period, oldest first), `drills` and `restores`. `from_future` counts runs whose time is
    later than `now`.
    """

    producer: Producer
    now: datetime
    since: datetime
    begin: datetime | None
    schedule: Crontab
    change_delay: timedelta
    drill_schedule: Crontab | None
    drill_possible: bool
    points: Points
    kept: Sequence[RestorePoint] = ()
    ours: frozenset[str] = frozenset()
    proofs: Sequence[KeptProof] = ()
    counts: Sequence[RunCount] = ()
    from_future: int = 0
    failed: Sequence[Run] = ()
    drills: Sequence[Run] = ()
    drill_reports: Sequence[DrillReport] = ()
    restores: Sequence[Run] = ()
    undos: frozenset[str] = frozenset()
    alerts: Sequence[Alert] = ()
    missing: Sequence[MissingPoint] = ()


@dataclass(frozen=True)
class NamedGap:
    """A gap, and what the run log has of it: failures by their code, and sets in doubt."""

    gap: Gap
    failures: tuple[tuple[str, int], ...]
    doubtful: tuple[Doubtful, ...]


@dataclass(frozen=True)
class RestoreEntry:
    """One restore or undo."""

    run: Run
    kind: RestoreKind
    took: timedelta | None


@dataclass(frozen=True)
class KindTotal:
    """How many points of a kind are kept, and their stored bytes."""

    kind: SetKind
    count: int
    bytes: int


@dataclass(frozen=True)
class Evidence:
    """The report. The period goes from `start` to `end`; `start` is None without any records.

    `achieved` is the largest gap, `late` are all that were longer than promised.
    """

    producer: Producer
    asked: datetime
    begin: datetime | None
    start: datetime | None
    end: datetime
    schedule: Crontab
    drill_schedule: Crontab | None
    drill_possible: bool
    promised: timedelta
    promised_after_change: timedelta | None
    points: int
    newest_point: datetime | None
    achieved: NamedGap | None
    late: tuple[NamedGap, ...]
    counts: tuple[RunCount, ...]
    from_future: int
    failed: tuple[Run, ...]
    proofs: tuple[tuple[ProofLevel, int], ...]
    never_again: KeptProof | None
    drills: tuple[DrillEntry, ...]
    drill_intervals: int
    intervals_without_drill: int
    restores: tuple[RestoreEntry, ...]
    alerts: tuple[Alert, ...]
    kept: tuple[KindTotal, ...]
    others: int
    missing: tuple[MissingPoint, ...]
    future: tuple[str, ...]

    @property
    def measured(self) -> tuple[DrillEntry, ...]:
        """The drills that measured an RTO, oldest first."""
        return tuple(one for one in self.drills if one.measured is not None)

    @property
    def slowest(self) -> timedelta | None:
        """The longest RTO that a drill measured."""
        return max((one.measured for one in self.drills if one.measured is not None), default=None)

    def count(self, operation: str, *statuses: str) -> int:
        """How many runs of an operation ended in one of `statuses`."""
        return sum(
            one.count
            for one in self.counts
            if one.operation == operation and one.status in statuses
        )


def reach(facts_begin: datetime | None, since: datetime, points: Points) -> datetime:
    """From when on the run log is needed: where the gap begins that leads into the period."""
    start = max(since, facts_begin or since)
    return max((at for at in points.proven if at <= start), default=start)


def report_on(facts: EvidenceFacts) -> Evidence:
    """The report on a period. It claims nothing of the time before the records begin."""
    now = facts.now
    start = None if facts.begin is None else max(facts.since, facts.begin)
    proven = facts.points.proven
    gaps = gaps_of(proven, start, now, facts.schedule) if start is not None else ()
    widest = largest(gaps)
    failed_at = [run.started_at for run in facts.failed]
    drills = drills_of(facts.drills, facts.drill_reports, facts.since, now)
    intervals, without = intervals_without(drills, facts.drill_schedule, start or now, now)
    ours = [one for one in facts.kept if one.kind == "legacy" or one.instance in facts.ours]
    proofs = {one.id: one for one in facts.proofs}
    own_proofs = [proofs[one.id] for one in ours if one.id in proofs]
    return Evidence(
        producer=facts.producer,
        asked=facts.since,
        begin=facts.begin,
        start=start,
        end=now,
        schedule=facts.schedule,
        drill_schedule=facts.drill_schedule,
        drill_possible=facts.drill_possible,
        promised=longest_interval(facts.schedule, start or now, now) + GRACE,
        promised_after_change=facts.change_delay or None,
        points=sum(1 for at in proven if start is not None and at >= start),
        newest_point=proven[-1] if proven else None,
        achieved=_named(widest, facts, failed_at) if widest else None,
        late=tuple(_named(gap, facts, failed_at) for gap in gaps if gap.late),
        counts=tuple(facts.counts),
        from_future=facts.from_future,
        failed=tuple(run for run in facts.failed if run.started_at >= facts.since),
        proofs=_levels(own_proofs),
        never_again=_oldest_never_again(ours, proofs),
        drills=drills,
        drill_intervals=intervals,
        intervals_without_drill=without,
        restores=tuple(
            RestoreEntry(run, _kind(run, facts.undos), duration(run)) for run in facts.restores
        ),
        alerts=tuple(facts.alerts),
        kept=_totals(ours),
        others=len(facts.kept) - len(ours),
        missing=tuple(facts.missing),
        future=facts.points.future,
    )


def _named(gap: Gap, facts: EvidenceFacts, failed_at: Sequence[datetime]) -> NamedGap:
    failures = Counter(
        run.error.code if run.error else run.status
        for run in facts.failed[within(gap, failed_at)]
        if run.operation == "backup"
    )
    doubtful_at = [one.at for one in facts.points.doubtful]
    return NamedGap(
        gap,
        tuple(sorted(failures.items(), key=lambda one: (-one[1], one[0]))),
        facts.points.doubtful[within(gap, doubtful_at)],
    )


def _kind(run: Run, undos: frozenset[str]) -> RestoreKind:
    """What a restore was; of one that ended before it put anything in place, nobody knows."""
    if run.id in undos:
        return "undo"
    if run.stage in ("keep", "seal", "store", "proof", "manifest"):
        return "in_place"
    return "into_folder" if run.status == "succeeded" else "not_known"


def _oldest_never_again(
    kept: Sequence[RestorePoint], proofs: Mapping[str, KeptProof]
) -> KeptProof | None:
    never = (one for one in kept if one.kind == "set" and one.id in proofs)
    oldest = min(
        (one for one in never if not proofs[one.id].again),
        key=lambda one: one.created_at,
        default=None,
    )
    return proofs[oldest.id] if oldest is not None else None


def _levels(proofs: Sequence[KeptProof]) -> tuple[tuple[ProofLevel, int], ...]:
    found = Counter(one.proof for one in proofs)
    levels: tuple[ProofLevel, ...] = ("full", "sealed", "none")
    return tuple((level, found[level]) for level in levels)


def _totals(kept: Sequence[RestorePoint]) -> tuple[KindTotal, ...]:
    kinds: tuple[SetKind, ...] = ("set", "pre-restore", "legacy")
    return tuple(
        KindTotal(kind, len(these), sum(one.bytes for one in these))
        for kind in kinds
        if (these := [one for one in kept if one.kind == kind])
    )
