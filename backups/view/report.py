"""The evidence of a period as one page of text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from backups.decisions.evidence import Evidence, NamedGap, RestoreEntry
from backups.decisions.rehearsals import DrillEntry
from backups.model import Run
from backups.view import units
from shared.clock import format_utc
from shared.words import counted

# More than so many of a kind do not fit on a page; the JSON document has them all.
MOST_LINES = 20

_DOUBTS = {
    "vanished": "vanished from the store",
    "hollow": "lost objects in the store",
    "does_not_protect": "lacks a source, or looks damaged",
    "not_known": "was removed, and may not have had all sources",
}
_RESTORES = {
    "undo": "undo",
    "in_place": "in place",
    "into_folder": "into a folder",
    "not_known": "it is not known where to",
}


def report(found: Evidence) -> str:
    """The report for a person, on one page."""
    return "\n".join(
        [
            *_header(found),
            *_rpo(found),
            *_rto(found),
            *_runs(found),
            *_proofs(found),
            *_drills(found),
            *_restores(found),
            *_alerts(found),
            *_sets(found),
        ]
    )


def _header(found: Evidence) -> list[str]:
    producer = found.producer
    start = found.start or found.asked
    place = "offsite" if producer.offsite else "on this host's own disk only"
    contact = format_utc(producer.last_contact_at) if producer.last_contact_at else "never"
    lines = [
        f"Evidence of the backups of installation {producer.installation} on {producer.host}",
        f"from {format_utc(start)} to {format_utc(found.end)} ({_span(found.end - start)})",
        f"produced at {format_utc(found.end)} by {producer.program}",
        f"stored in {producer.store} ({place}; last contact {contact})",
        f"schedule {found.schedule.expression} UTC",
    ]
    if found.begin is None:
        lines.append("NO RECORDS: this host has no record of a run, so nothing is known.")
    elif found.begin > found.asked:
        lines.append(
            f"Records begin at {format_utc(found.begin)}. Nothing is said about the time from "
            f"{format_utc(found.asked)} to then."
        )
    if found.from_future:
        lines.append(
            f"Not counted: {counted(found.from_future, 'run')} whose time lies in the future."
        )
    return lines


def _rpo(found: Evidence) -> list[str]:
    lines = [
        "",
        "Data loss (RPO)",
        f"  promised  at most {_span(found.promised)} between two proven, complete points",
    ]
    if found.promised_after_change is not None:
        lines.append(
            f"            a backup {_span(found.promised_after_change)} after a change (volatile "
            "sources excepted)"
        )
    if found.achieved is None:
        return [*lines, "  achieved  unknown"]
    newest = f", the newest at {format_utc(found.newest_point)}" if found.newest_point else ""
    lines += [
        f"  achieved  {_gap(found.achieved)}",
        f"  promise   {'NOT KEPT' if found.late else 'kept'}",
        f"  points    {found.points:,} in the period{newest}",
        f"  gaps longer than promised: {len(found.late) or 'none'}",
    ]
    return lines + _newest([f"    {_gap(gap)}; {_why(gap)}" for gap in found.late])


def _rto(found: Evidence) -> list[str]:
    if not found.measured:
        measured = "not in this period"
    else:
        newest = found.measured[-1]
        measured = (
            f"{_span(newest.measured)} by the newest drill, at {format_utc(newest.at)}; the "
            f"slowest took {_span(found.slowest)}"
        )
    return ["", "Time to restore (RTO)", "  promised  none", f"  measured  {measured}"]


def _runs(found: Evidence) -> list[str]:
    lines = ["", f"Runs: {sum(one.count for one in found.counts):,}"]
    lines += [
        f"  {one.operation:<8} {one.trigger:<11} {one.status:<11} {one.count:>9,}"
        for one in found.counts
    ]
    lines.append(f"  failed or interrupted: {len(found.failed) or 'none'}")
    return lines + _newest([f"    {_failure(run)}" for run in found.failed])


def _proofs(found: Evidence) -> list[str]:
    levels = ", ".join(f"{level} {count:,}" for level, count in found.proofs)
    never = found.never_again
    since = f"{never.id} ({never.proof})" if never else "none"
    return [
        "",
        f"Proofs of what is kept: {levels}",
        f"  verified again: {found.count('verify', 'succeeded'):,} times, failed "
        f"{found.count('verify', 'failed', 'interrupted'):,} times",
        f"  oldest set that was not proven again after its run: {since}",
    ]


def _drills(found: Evidence) -> list[str]:
    lines = ["", f"Drills (test restores): {len(found.drills) or 'none'}"]
    if found.drill_schedule is None:
        lines.append("  no schedule: BACKUP_DRILL_SCHEDULE is off")
    else:
        lines.append(
            f"  schedule {found.drill_schedule.expression} UTC: {found.drill_intervals:,} "
            f"intervals, {found.intervals_without_drill:,} without a drill that succeeded"
        )
    if not found.drill_possible:
        lines.append("  a scheduled drill is not possible: the age identity is not on this host")
    return lines + _newest([f"    {_drill(one)}" for one in found.drills])


def _restores(found: Evidence) -> list[str]:
    lines = ["", f"Restores and undos: {len(found.restores) or 'none'}"]
    return lines + _newest([f"    {_restore(one)}" for one in found.restores])


def _alerts(found: Evidence) -> list[str]:
    failed = sum(not one.arrived for one in found.alerts)
    lines = ["", f"Alerts: {len(found.alerts) - failed:,} sent, {failed:,} failed"]
    return lines + _newest(
        [
            f"    {format_utc(one.at)} {one.result} to {one.receiver}: {one.title}"
            f" ({', '.join(one.codes) or 'no problem'})"
            for one in found.alerts
        ]
    )


def _sets(found: Evidence) -> list[str]:
    total = sum(one.bytes for one in found.kept)
    lines = ["", f"Kept now: {units.size(total)}"]
    lines += [f"  {one.kind:<11} {one.count:>9,}  {units.size(one.bytes)}" for one in found.kept]
    if found.others:
        lines.append(f"  of other installations: {found.others:,}, not counted above")
    if found.future:
        lines.append(f"  time in the future, not counted as points: {', '.join(found.future)}")
    lines.append(f"  points that the store lost: {len(found.missing) or 'none'}")
    return lines + _newest(
        [
            f"    {one.id} {one.kind}, noticed at {format_utc(one.noticed_at)}"
            for one in found.missing
        ]
    )


def _newest(lines: Sequence[str]) -> list[str]:
    """The last lines, newest first, and how many older ones there are."""
    shown = list(lines[: -MOST_LINES - 1 : -1])
    left = len(lines) - len(shown)
    return [*shown, f"    and {left:,} older ones, in the report with --json"] if left else shown


def _gap(named: NamedGap) -> str:
    gap = named.gap
    end = "now" if gap.until_now else format_utc(gap.end)
    before = "" if gap.after_point else " (no point before)"
    return f"{_span(gap.length)}, from {format_utc(gap.start)}{before} to {end}"


def _why(named: NamedGap) -> str:
    due = named.gap.due_at
    parts = [f"{code} x{count}" for code, count in named.failures]
    words = [f"failed runs: {', '.join(parts)}"] if parts else []
    words += [f"set {one.set_id} {_DOUBTS[one.doubt]}" for one in named.doubtful[:3]]
    if len(named.doubtful) > 3:
        words.append(f"{len(named.doubtful) - 3} more such sets")
    said = "; ".join(words) or "the run log has no attempt in it"
    return f"due at {format_utc(due)}; {said}" if due else said


def _failure(run: Run) -> str:
    error = run.error
    what = f"{error.code}: {error.message}" if error else run.status
    where = f" in {run.stage}" if run.stage else ""
    at = format_utc(run.started_at)
    return f"{at} {run.operation} ({run.trigger}) {run.status}{where}: {what}"


def _drill(one: DrillEntry) -> str:
    head = f"{format_utc(one.at)} {one.status}"
    if one.failure is not None:
        return f"{head}: {one.failure}"
    rows = f", {counted(one.rows, 'row')}" if one.rows is not None else ""
    took = f" in {_span(one.measured)}" if one.measured is not None else ""
    if one.measured is None and one.took is not None:
        took = f"; its report is gone, its run took {_span(one.took)}"
    return f"{head}: set {one.set_id}{rows}{took}"


def _restore(one: RestoreEntry) -> str:
    run = one.run
    error = f": {run.error.code}: {run.error.message}" if run.error else ""
    return (
        f"{format_utc(run.started_at)} {run.status}: set {run.set_id or 'unknown'}, "
        f"{_RESTORES[one.kind]}, {_span(one.took)}{error}"
    )


def _span(span: timedelta | None) -> str:
    """`3 d 2 h 5 min 4 s`, `26 min`, `4.21 s`: nothing is left out that is not zero."""
    if span is None:
        return "duration unknown"
    if span < timedelta(minutes=1):
        return f"{span.total_seconds():.2f} s"
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts: Iterable[tuple[int, str]] = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
