"""What the commands print for a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backups.health import Status
from backups.model import BackupSet, Finding, Run
from shared.clock import format_utc


def set_made(made: BackupSet, status: Status) -> str:
    """After a run: what was stored where, and when the next one comes."""
    lines = [f"Set {made.id} is stored in {status.location}, read back and proven:"]
    lines += [
        f"  {stored.key}  {stored.bytes:,} bytes, {sum(stored.rows.values()):,} rows"
        for stored in made.objects
    ]
    if not made.complete:
        lines.append("It does not hold all sources, so it does not count as protection.")
    lines.append(f"Next scheduled backup: {format_utc(status.next_run_at)}")
    return "\n".join(lines)


def status(found: Status) -> str:
    """The state of the backups: a headline, what is wrong, then the facts."""
    newest = found.newest_restore_point
    lines = ["Protected." if found.health.healthy else "NOT HEALTHY."]
    lines += _findings("problem", found.health.problems)
    lines += _findings("warning", found.health.warnings)
    owner = f"process {found.owner[1]} on {found.owner[0]}" if found.owner else "no process"
    lines += [
        f"newest restore point  {newest.id}, proven {_when(newest.proven_at)}"
        if newest
        else "newest restore point  none",
        f"restore points        {found.restore_points}",
        f"last run              {_run(found.last_run)}" if found.last_run else "last run  none",
        f"next run              {format_utc(found.next_run_at)} ({found.cron} UTC, by {owner})",
        f"stored in             {found.location} (last contact {_when(found.last_contact_at)})",
    ]
    if found.running:
        lines.append(f"running now           {_run(found.running)}")
    return "\n".join(lines)


def sets(found: Sequence[BackupSet], *, more: bool) -> str:
    """A table of restore points."""
    if not found:
        return "There are no restore points. Make one: python -m backups run"
    rows = [("SET", "KIND", "TRIGGER", "PROOF", "ROWS", "BYTES", "NOTE")]
    for one in found:
        notes = [] if one.complete else ["not all sources"]
        notes += [f"suspect: {reason}" for reason in one.suspect or ()]
        rows.append(
            (
                one.id,
                one.kind,
                one.trigger,
                one.proof,
                " ".join(f"{o.source}={sum(o.rows.values())}" for o in one.objects),
                f"{sum(o.bytes for o in one.objects):,}",
                ", ".join(notes),
            )
        )
    return _table(rows) + (f"\nOlder ones: --before {found[-1].id}" if more else "")


def runs(found: Sequence[Run], *, more: bool) -> str:
    """A table of runs, with the error below each that failed."""
    if not found:
        return "There are no runs yet."
    rows = [("RUN", "OPERATION", "TRIGGER", "STATUS", "STARTED", "SET", "ERROR")]
    rows += [
        (
            run.id,
            run.operation,
            run.trigger,
            run.status,
            format_utc(run.started_at),
            run.set_id or "-",
            f"{run.error.code} in {run.stage}: {run.error.message}" if run.error else "",
        )
        for run in found
    ]
    return _table(rows) + (f"\nOlder ones: --before {found[-1].id}" if more else "")


def _findings(kind: str, found: Sequence[Finding]) -> list[str]:
    return [f"  {kind} {one.code}: {one.message}\n    -> {one.hint}" for one in found]


def _run(run: Run) -> str:
    return f"{run.id} {run.operation} ({run.trigger}) {run.status}"


def _when(instant: datetime | None) -> str:
    return format_utc(instant) if instant else "never"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
