"""What the commands print for a person. Pure.

One file, because what the commands say should read as if one person had written it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from backups.decisions.chains.points import PointRange
from backups.decisions.health import PUT_KEY_BACK, Status
from backups.decisions.keeping.deletion import DeletionPlan
from backups.decisions.retention import RetentionPlan
from backups.decisions.succession import EarlierInstallation
from backups.format.chain_keys import point_id, set_of
from backups.model import BackupSet, DrillReport, Finding, MissingPoint, ProofLevel, Run
from backups.view import units
from backups.view.headline import Headline, headline
from backups.view.notified import notified
from backups.view.second import texts as second
from backups.vocabulary.examination import Examination
from shared.clock import format_utc
from shared.words import counted

_HOLDS: Mapping[bool | None, str] = {True: "yes", False: "NO", None: "unknown"}


def set_made(made: BackupSet, status: Status) -> str:
    """After a run: what was stored where, and when the next one comes."""
    proven = "read back" if made.suspect else "read back and proven"
    lines = [f"Set {made.id} is stored in {status.location}, {proven}:"]
    lines += [
        f"  {stored.key}  {stored.bytes:,} bytes, {counted(sum(stored.rows.values()), 'row')}"
        for stored in made.objects
    ]
    if not made.complete:
        lines.append("It does not contain all sources, so it does not count as protection.")
    lines.append(f"Next scheduled backup: {format_utc(status.next_run_at)}")
    if made.suspect:
        unreadable = any(stored.unreadable for stored in made.objects)
        lines += [
            f"SUSPECT (the data looks damaged): {'; '.join(made.suspect)}.",
            "The set is stored, but it does not count as protection, and nothing is pruned.",
            *([units.sentence(PUT_KEY_BACK)] if unreadable else []),
            "If data is lost: ./bot backups restore --in-place --yes",
            f"If the data is fine, mark the backup as good: ./bot backups accept {made.id}",
        ]
    return "\n".join(lines)


def status(found: Status, now: datetime) -> str:
    """The state of the backups: the headline, what is wrong, then the facts."""
    newest = found.newest_restore_point
    first = headline(found, now)
    if first.code == "host_is_empty":
        (empty,) = found.health.problems
        return f"{empty.message}: {empty.hint}"
    lines = [
        f"NOT HEALTHY. {first.title}."
        if first.light == "red"
        else f"{first.title}. {first.message}"
    ]
    lines += findings("problem", found.health.problems)
    lines += findings("warning", found.health.warnings)
    owner = f"process {found.owner[1]} on {found.owner[0]}" if found.owner else "no process"
    lines += [
        f"newest restore point  {newest.id}, proven {_when(newest.proven_at)}"
        if newest
        else "newest restore point  none",
        f"restore points        {found.restore_points}",
        f"marks                 {_marks(*found.marks)}",
        f"last run              {_run(found.last_run)}" if found.last_run else "last run  none",
        f"next run              in {units.age(found.next_run_at - now)}, "
        f"{format_utc(found.next_run_at)} ({found.cron} UTC, by {owner})",
        *_next_try(found, now),
        f"stored in             {found.location} (last contact {_when(found.last_contact_at)})",
        f"second place          {second.line(found.second)}",
        f"notified              {notified(found)}",
        f"emergency kit         {_kept(found.kit_kept_at)}",
        f"inbox of the bot      {units.inbox(found.bot.inbox)}",
        f"last polling          {_when(found.bot.last_sync)}",
        "protected by",
    ]
    lines += [
        f"  {_HOLDS[fact.holds]:<8} {fact.name}: {fact.detail}" for fact in found.health.facts
    ]
    if found.last_drill:
        drill = found.last_drill
        outcome = "FAILED" if drill.failure else f"restored in {drill.seconds:.2f} s"
        lines.append(f"last drill            set {drill.set_id}, {_when(drill.at)}, {outcome}")
    if found.running:
        lines.append(f"running now           {_run(found.running)}")
    return "\n".join(lines)


def _next_try(found: Status, now: datetime) -> list[str]:
    if found.retry_at is None:
        return []
    wait = units.age(max(found.retry_at - now, timedelta(0)))
    return [
        f"next try              in {wait}, {format_utc(found.retry_at)}: the last backup failed"
    ]


def _marks(marked: int, owed: int) -> str:
    owing = f", {owed} of them on this host alone until the store takes their marks"
    return f"{counted(marked, 'set')} marked{owing if owed else ''}"


def verified(set_id: str, level: ProofLevel) -> str:
    """After a verification."""
    if level == "sealed":
        return (
            f"Set {set_id}: the stored bytes are those that were uploaded. They were not fully "
            "checked. Either they were not decrypted, because the age identity is not on this host "
            "(to test a restore: ./bot backups drill --identity FILE), or the manifest has a "
            "finding about a source"
        )
    return f"Set {set_id} was read back and is proven."


def adopted(found: EarlierInstallation) -> str:
    """After an adoption."""
    host = f" (host {found.host})" if found.host else ""
    return (
        f"{counted(found.sets, 'set')} of installation {found.instance}{host} now "
        f"{'counts' if found.sets == 1 else 'count'} as this one's: "
        f"`latest`, restores and retention include them. The newest: {format_utc(found.newest_at)}"
    )


def marked(instance: str, count: int) -> str:
    """After an adoption that accepted what had no mark."""
    if not count:
        return f"No set of installation {instance} was marked: see ./bot backups list."
    return (
        f"Marked {counted(count, 'set')} of installation {instance}: now `latest`, restores and "
        "retention take what it made for this one's."
    )


def owed_asides(count: int) -> str:
    """After a restore whose notes could not all be stored."""
    return (
        f"{counted(count, 'set')} that the restore passed over could not be set aside in the store "
        "yet. The next run will do it: ./bot backups run"
    )


def retention(found: RetentionPlan) -> str:
    """What retention would do."""
    lines = [f"keep  {one.backup_set.id}  {', '.join(one.reasons)}" for one in found.keep]
    lines += [f"drop  {one.backup_set.id}  {one.reason}" for one in found.drop]
    for act, of_chains in (("keep", found.chains.kept), ("drop", found.chains.dropped)):
        lines += [
            f"{act}  chain of {set_of(one.chain)}  {counted(one.objects, 'object')}, "
            f"{units.size(one.bytes)}: {one.reason}"
            for one in of_chains
        ]
    if found.warning:
        lines.append(f"warning: {found.warning}")
    return "\n".join(lines) or "There are no restore points."


def pruned(kept: int) -> str:
    """After `prune`."""
    return f"Done. {counted(kept, 'restore point is', 'restore points are')} kept."


def accepted(found: BackupSet, newest: BackupSet | None) -> str:
    """After `accept`; `newest` is the newest complete set: if suspect, `latest` passes over it."""
    line = f"Set {found.id} is accepted."
    if newest is not None and newest.suspect:
        line += (
            f" The newest, {newest.id}, is still suspect. If its data is fine: "
            f"./bot backups accept {newest.id}"
        )
    return line


def pinned(found: BackupSet) -> str:
    """After `pin` or `unpin`."""
    if found.pinned:
        why = f" ({found.label})" if found.label else ""
        return (
            f"Set {found.id} is kept{why}, whatever the rules of retention say. "
            f"To let it go: ./bot backups unpin {found.id}"
        )
    return f"Set {found.id} is kept as long as the rules of retention say."


def deletion(plan: DeletionPlan, points: Sequence[PointRange]) -> str:
    """What `delete` would remove; `points` are those that can be restored, and are made from it."""
    doomed = plan.backup_set
    lines = [
        f"set {doomed.id} of {format_utc(doomed.created_at)} (rows: {_counts(doomed)}, "
        f"{units.size(doomed.bytes)}) goes from the store for good"
    ]
    if plan.again:
        lines[0] += "; it was deleted before, and that is finished now"
    if plan.chain:
        size = units.size(plan.chain.bytes)
        lines.append(
            "with it go all points that are made from it: "
            f"{sum(one.points for one in points):,} that can be restored, {size}"
        )
    lines += [f"  {range_of(one)}" for one in points]
    return "\n".join(lines)


def deleted(set_id: str, kept: int) -> str:
    """After `delete`."""
    return (
        f"Set {set_id} is deleted. {counted(kept, 'restore point is', 'restore points are')} kept."
    )


def accepted_missing(found: Sequence[MissingPoint], *, still: int) -> str:
    """After `accept --missing`; of those found, `still` so many are a problem."""
    if not found:
        return "No restore point is missing."
    lines = [f"{one.kind}  {one.id}" for one in found]
    lines.append(f"The loss of {counted(len(found), 'restore point')} is accepted.")
    if still:
        lines.append(
            "It remains a problem until a newer set is proven. Make one: ./bot backups run"
        )
    return "\n".join(lines)


def drilled(report: DrillReport) -> str:
    """After a drill."""
    return (
        f"Set {report.set_id} was restored from the store into a scratch folder and opened: "
        f"{counted(report.rows, 'row')}, {report.unreadable:,} unreadable, "
        f"{report.seconds:.2f} s (RTO)."
    )


def examination(found: Examination, first: Headline) -> str:
    """Everything the doctor looked at; the last line is the light's."""
    lines = []
    for line in found.lines:
        lines.append(f"{line.level:<8} {line.subject:<10} {line.message}")
        if line.level != "ok" and line.hint:
            lines.append(f"{'':<8} {'':<10} -> {line.hint}")
    warnings = sum(line.level == "warning" for line in found.lines)
    lines.append(
        ("There are no problems." if found.healthy else "There are problems.")
        + (f" {counted(warnings, 'warning')}." if warnings else "")
        + f" The light is {first.light}: {first.title}."
    )
    return "\n".join(lines)


def key_pair(public: str, path: Path) -> str:
    """After `keygen`."""
    return (
        f"The identity (the secret key) is in {path}. Whoever has it can decrypt the backups, and "
        "without it nobody can.\nKeep two copies of it away from this host and the bucket: in a "
        "password manager, and on paper.\nThe server needs only the public key. In .env:\n"
        f"  BACKUP_AGE_RECIPIENTS={public}\n"
        "Leave BACKUP_AGE_IDENTITY_FILE blank to keep the identity off the server. The scheduled "
        "drill cannot run then; from time to time, run:\n  ./bot backups drill --identity FILE"
    )


def sets(found: Sequence[BackupSet], *, more: bool) -> str:
    """A table of restore points."""
    if not found:
        return "There are no restore points. Make one: ./bot backups run"
    rows = [("SET", "KIND", "TRIGGER", "PROOF", "ROWS", "BYTES", "NOTE")]
    for one in found:
        notes = [] if one.complete or one.kind == "pre-restore" else ["not all sources"]
        notes += [units.mark_of(one)] if one.kind != "legacy" and one.mark != "valid" else []
        notes += ["hollow: objects are missing"] if one.hollow else []
        notes += [f"set aside at {format_utc(one.set_aside)}"] if one.set_aside else []
        notes += [units.pin_of(one)] if one.pinned else []
        notes += [f"suspect: {reason}" for reason in one.suspect or ()]
        rows.append(
            (
                one.id,
                one.kind,
                one.trigger,
                one.proof,
                _counts(one),
                f"{sum(o.bytes for o in one.objects):,}",
                ", ".join(notes),
            )
        )
    return _table(rows) + (f"\nFor older ones, add: --before {found[-1].id}" if more else "")


def ranges(found: Sequence[PointRange]) -> str:
    """What can be restored between the sets; empty where nothing can."""
    if not found:
        return ""
    lines = ["\n", "Points in time (./bot backups restore --at TIME, or by the id of a point):"]
    return "\n".join([*lines, *(f"  {range_of(one)}" for one in found)])


def range_of(one: PointRange) -> str:
    """Points that can be restored, in a line."""
    begin = format_utc(one.begin) if one.begin else "unknown"
    end = format_utc(one.end) if one.end else "unknown"
    return (
        f"{begin} to {end}, {counted(one.points, 'point')}, the newest "
        f"{point_id(one.chain, one.last)}{'' if one.proven else ', not proven'}"
    )


def runs(found: Sequence[Run], *, more: bool) -> str:
    """A table of runs, with the error below each that failed."""
    if not found:
        return "There are no runs yet."
    rows = [("RUN", "OPERATION", "TRIGGER", "STATUS", "STARTED", "SET", "ERROR")]
    rows += [
        (
            run.id,
            run.act,
            run.trigger,
            run.status,
            format_utc(run.started_at),
            f"{run.set_id or '-'}{', second place' if run.place == 'second' else ''}",
            _error(run),
        )
        for run in found
    ]
    return _table(rows) + (f"\nFor older ones, add: --before {found[-1].id}" if more else "")


def _error(run: Run) -> str:
    if run.error is None:
        return ""
    where = f"in {run.stage}" if run.stage else "before its first stage"
    return f"{run.error.code} {where}: {run.error.message}"


def _counts(one: BackupSet) -> str:
    if not any(stored.described for stored in one.objects):
        return "not counted"
    return " ".join(f"{o.source}={sum(o.rows.values())}" for o in one.objects)


def rows_of(rows: Mapping[str, int]) -> str:
    """The rows of each table, in words."""
    return (
        ", ".join(f"{table} {counted(count, 'row')}" for table, count in rows.items())
        or "no tables"
    )


def findings(kind: str, found: Sequence[Finding]) -> list[str]:
    """Findings of a kind, each with its remedy below."""
    return [f"  {kind} {one.code}: {one.message}\n    -> {one.hint}" for one in found]


def _run(run: Run) -> str:
    return f"{run.id} {run.act} ({run.trigger}) {run.status}"


def _kept(at: datetime | None) -> str:
    return f"kept elsewhere, confirmed {format_utc(at)}" if at else "not confirmed"


def _when(instant: datetime | None) -> str:
    return format_utc(instant) if instant else "never"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
