"""The evidence of a period as one JSON document: times in ISO 8601 with Z, durations in seconds.

Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.decisions.evidence import Evidence, NamedGap
from backups.decisions.rehearsals import DrillEntry, duration
from backups.view.documents import Document, run_document
from shared.clock import format_utc


def report_document(evidence: Evidence) -> Document:
    """The report for programs, with every failed run, drill, restore and alert in it."""
    producer = evidence.producer
    newest = evidence.measured[-1] if evidence.measured else None
    return {
        "produced_at": format_utc(evidence.end),
        "program": producer.program,
        "installation": producer.installation,
        "host": producer.host,
        "store": {
            "location": producer.store,
            "offsite": producer.offsite,
            "last_contact_at": _time(producer.last_contact_at),
        },
        "period": {
            "asked_from": format_utc(evidence.asked),
            "records_begin_at": _time(evidence.begin),
            "from": _time(evidence.start),
            "to": format_utc(evidence.end),
        },
        "schedule": {
            "cron": evidence.schedule.expression,
            "drill_cron": evidence.drill_schedule.expression if evidence.drill_schedule else None,
        },
        "rpo": {
            "promised_seconds": evidence.promised.total_seconds(),
            "promised_after_change_seconds": _seconds(evidence.promised_after_change),
            "kept": not evidence.late if evidence.achieved else None,
            "achieved": _gap_document(evidence.achieved) if evidence.achieved else None,
            "late": [_gap_document(gap) for gap in evidence.late],
            "points": evidence.points,
            "newest_point_at": _time(evidence.newest_point),
        },
        "rto": {
            "promised_seconds": None,
            "measured_seconds": _seconds(newest.measured) if newest else None,
            "measured_at": format_utc(newest.at) if newest else None,
            "slowest_seconds": _seconds(evidence.slowest),
        },
        "runs": {
            "counts": [vars(count) for count in evidence.counts],
            "failed": [
                {**run_document(run), "seconds": _seconds(duration(run))} for run in evidence.failed
            ],
            "from_future": evidence.from_future,
        },
        "proofs": {
            "verified": evidence.count("verify", "succeeded"),
            "failed": evidence.count("verify", "failed", "interrupted"),
            "kept": dict(evidence.proofs),
            "oldest_never_proven_again": evidence.never_again.id if evidence.never_again else None,
        },
        "drills": {
            "possible": evidence.drill_possible,
            "intervals": evidence.drill_intervals,
            "intervals_without": evidence.intervals_without_drill,
            "each": [_drill_document(drill) for drill in evidence.drills],
        },
        "restores": [
            {
                **run_document(restore.run),
                "kind": restore.kind,
                "seconds": _seconds(restore.took),
            }
            for restore in evidence.restores
        ],
        "alerts": [
            {**vars(alert), "at": format_utc(alert.at), "codes": list(alert.codes)}
            for alert in evidence.alerts
        ],
        "sets": {
            "kinds": [vars(of) for of in evidence.kept],
            "bytes": sum(of.bytes for of in evidence.kept),
            "of_other_installations": evidence.others,
            "from_future": list(evidence.future),
        },
        "missing_points": [
            {
                "id": point.id,
                "kind": point.kind,
                "created_at": format_utc(point.created_at),
                "noticed_at": format_utc(point.noticed_at),
            }
            for point in evidence.missing
        ],
    }


def _gap_document(named: NamedGap) -> Document:
    gap = named.gap
    return {
        "from": format_utc(gap.start),
        "to": format_utc(gap.end),
        "seconds": gap.length.total_seconds(),
        "due_at": _time(gap.due_at),
        "until_now": gap.until_now,
        "after_point": gap.after_point,
        "failures": [{"code": code, "count": count} for code, count in named.failures],
        "in_doubt": [{"set_id": one.set_id, "reason": one.doubt} for one in named.doubtful],
    }


def _drill_document(drill: DrillEntry) -> Document:
    return {
        "at": format_utc(drill.at),
        "run_id": drill.run_id,
        "set_id": drill.set_id,
        "status": drill.status,
        "seconds": _seconds(drill.measured),
        "run_seconds": _seconds(drill.took),
        "rows": drill.rows,
        "failure": drill.failure,
    }


def _seconds(span: timedelta | None) -> float | None:
    return round(span.total_seconds(), 3) if span is not None else None


def _time(instant: datetime | None) -> str | None:
    return format_utc(instant) if instant else None
