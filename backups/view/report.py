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


def report(evidence: Evidence) -> str:
    """The report for a person, on one page."""
    return "\n".join(
        [
            *_header(evidence),
            *_rpo(evidence),
            *_rto(evidence),
            *_runs(evidence),
            *_proofs(evidence),
            *_drills(evidence),
            *_restores(evidence),
            *_alerts(evidence),
            *_sets(evidence),
        ]
    )


def _header(evidence: Evidence) -> list[str]:
    producer = evidence.producer
    start = evidence.start or evidence.asked
    place = "offsite" if producer.offsite else "on this host's own disk only"
    contact = format_utc(producer.last_contact_at) if producer.last_contact_at else "never"
    lines = [
        f"Evidence of the backups of installation {producer.installation} on {producer.host}",
        f"from {format_utc(start)} to {format_utc(evidence.end)} ({_span(evidence.end - start)})",
        f"produced at {format_utc(evidence.end)} by {producer.program}",
        f"stored in {producer.store} ({place}; last contact {contact})",
        f"schedule {evidence.schedule.expression} UTC",
    ]
    if evidence.begin is None:
        lines.append("NO RECORDS: this host has no record of a run, so nothing is known.")
    elif evidence.begin > evidence.asked:
        lines.append(
            f"Records begin at {format_utc(evidence.begin)}. Nothing is said about the time from "
            f"{format_utc(evidence.asked)} to then."
        )
    if evidence.from_future:
        lines.append(
            f"Not counted: {counted(evidence.from_future, 'run')} whose time lies in the future."
        )
    return lines


def _rpo(evidence: Evidence) -> list[str]:
    lines = [
        "",
        "Data loss (RPO)",
        f"  promised  at most {_span(evidence.promised)} between two proven, complete points",
    ]
    if evidence.promised_after_change is not None:
        lines.append(
            f"            a backup {_span(evidence.promised_after_change)} after a change "
            "(volatile sources excepted)"
        )
    if evidence.achieved is None:
        return [*lines, "  achieved  unknown"]
    newest = f", the newest at {format_utc(evidence.newest_point)}" if evidence.newest_point else ""
    lines += [
        f"  achieved  {_gap(evidence.achieved)}",
        f"  promise   {'NOT KEPT' if evidence.late else 'kept'}",
        f"  points    {evidence.points:,} in the period{newest}",
        f"  gaps longer than promised: {len(evidence.late) or 'none'}",
    ]
    return lines + _newest([f"    {_gap(gap)}; {_why(gap)}" for gap in evidence.late])


def _rto(evidence: Evidence) -> list[str]:
    if not evidence.measured:
        measured = "not in this period"
    else:
        newest = evidence.measured[-1]
        measured = (
            f"{_span(newest.measured)} by the newest drill, at {format_utc(newest.at)}; the "
            f"slowest took {_span(evidence.slowest)}"
        )
    return ["", "Time to restore (RTO)", "  promised  none", f"  measured  {measured}"]


def _runs(evidence: Evidence) -> list[str]:
    lines = ["", f"Runs: {sum(tally.count for tally in evidence.counts):,}"]
    lines += [
        f"  {tally.operation:<8} {tally.trigger:<11} {tally.status:<11} {tally.count:>9,}"
        for tally in evidence.counts
    ]
    lines.append(f"  failed or interrupted: {len(evidence.failed) or 'none'}")
    return lines + _newest([f"    {_failure(run)}" for run in evidence.failed])


def _proofs(evidence: Evidence) -> list[str]:
    levels = ", ".join(f"{level} {count:,}" for level, count in evidence.proofs)
    never = evidence.never_again
    since = f"{never.id} ({never.proof})" if never else "none"
    return [
        "",
        f"Proofs of what is kept: {levels}",
        f"  verified again: {evidence.count('verify', 'succeeded'):,} times, failed "
        f"{evidence.count('verify', 'failed', 'interrupted'):,} times",
        f"  oldest set that was not proven again after its run: {since}",
    ]


def _drills(evidence: Evidence) -> list[str]:
    lines = ["", f"Drills (test restores): {len(evidence.drills) or 'none'}"]
    if evidence.drill_schedule is None:
        lines.append("  no schedule: BACKUP_DRILL_SCHEDULE is off")
    else:
        lines.append(
            f"  schedule {evidence.drill_schedule.expression} UTC: {evidence.drill_intervals:,} "
            f"intervals, {evidence.intervals_without_drill:,} without a drill that succeeded"
        )
    if not evidence.drill_possible:
        lines.append("  a scheduled drill is not possible: the age identity is not on this host")
    return lines + _newest([f"    {_drill(drill)}" for drill in evidence.drills])


def _restores(evidence: Evidence) -> list[str]:
    lines = ["", f"Restores and undos: {len(evidence.restores) or 'none'}"]
    return lines + _newest([f"    {_restore(restore)}" for restore in evidence.restores])


def _alerts(evidence: Evidence) -> list[str]:
    failed = sum(not alert.arrived for alert in evidence.alerts)
    lines = ["", f"Alerts: {len(evidence.alerts) - failed:,} sent, {failed:,} failed"]
    return lines + _newest(
        [
            f"    {format_utc(alert.at)} {alert.result} to {alert.receiver}: {alert.title}"
            f" ({', '.join(alert.codes) or 'no problem'})"
            for alert in evidence.alerts
        ]
    )


def _sets(evidence: Evidence) -> list[str]:
    total = sum(of.bytes for of in evidence.kept)
    lines = ["", f"Kept now: {units.size(total)}"]
    lines += [f"  {of.kind:<11} {of.count:>9,}  {units.size(of.bytes)}" for of in evidence.kept]
    if evidence.others:
        lines.append(f"  of other installations: {evidence.others:,}, not counted above")
    if evidence.future:
        lines.append(f"  time in the future, not counted as points: {', '.join(evidence.future)}")
    lines.append(f"  points that the store lost: {len(evidence.missing) or 'none'}")
    return lines + _newest(
        [
            f"    {point.id} {point.kind}, noticed at {format_utc(point.noticed_at)}"
            for point in evidence.missing
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
    words += [f"set {doubtful.set_id} {_DOUBTS[doubtful.doubt]}" for doubtful in named.doubtful[:3]]
    if len(named.doubtful) > 3:
        words.append(f"{len(named.doubtful) - 3} more such sets")
    said = "; ".join(words) or "the run log has no attempt in it"
    return f"due at {format_utc(due)}; {said}" if due else said


def _failure(run: Run) -> str:
    error = run.error
    what = f"{error.code}: {error.message}" if error else run.status
    where = f" in {run.stage}" if run.stage else ""
    at = format_utc(run.started_at)
    return f"{at} {run.act} ({run.trigger}) {run.status}{where}: {what}"


def _drill(drill: DrillEntry) -> str:
    head = f"{format_utc(drill.at)} {drill.status}"
    if drill.failure is not None:
        return f"{head}: {drill.failure}"
    rows = f", {counted(drill.rows, 'row')}" if drill.rows is not None else ""
    took = f" in {_span(drill.measured)}" if drill.measured is not None else ""
    if drill.measured is None and drill.took is not None:
        took = f"; its report is gone, its run took {_span(drill.took)}"
    return f"{head}: set {drill.set_id}{rows}{took}"


def _restore(restore: RestoreEntry) -> str:
    run = restore.run
    error = f": {run.error.code}: {run.error.message}" if run.error else ""
    return (
        f"{format_utc(run.started_at)} {run.status}: set {run.set_id or 'unknown'}, "
        f"{_RESTORES[restore.kind]}, {_span(restore.took)}{error}"
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
