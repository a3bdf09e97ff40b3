"""The evidence of a period as one JSON document: times in ISO 8601 with Z, durations in seconds.

Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.decisions.evidence import Evidence, NamedGap
from backups.decisions.rehearsals import DrillEntry, duration
from backups.view.documents import Document, run_document
from shared.clock import format_utc


def report_document(found: Evidence) -> Document:
    """The report for programs, with every failed run, drill, restore and alert in it."""
    producer = found.producer
    newest = found.measured[-1] if found.measured else None
    return {
        "produced_at": format_utc(found.end),
        "program": producer.program,
        "installation": producer.installation,
        "host": producer.host,
        "store": {
            "location": producer.store,
            "offsite": producer.offsite,
            "last_contact_at": _time(producer.last_contact_at),
        },
        "period": {
            "asked_from": format_utc(found.asked),
            "records_begin_at": _time(found.begin),
            "from": _time(found.start),
            "to": format_utc(found.end),
        },
        "schedule": {
            "cron": found.schedule.expression,
            "drill_cron": found.drill_schedule.expression if found.drill_schedule else None,
        },
        "rpo": {
            "promised_seconds": found.promised.total_seconds(),
            "promised_after_change_seconds": _seconds(found.promised_after_change),
            "kept": not found.late if found.achieved else None,
            "achieved": _gap_document(found.achieved) if found.achieved else None,
            "late": [_gap_document(gap) for gap in found.late],
            "points": found.points,
            "newest_point_at": _time(found.newest_point),
        },
        "rto": {
            "promised_seconds": None,
            "measured_seconds": _seconds(newest.measured) if newest else None,
            "measured_at": format_utc(newest.at) if newest else None,
            "slowest_seconds": _seconds(found.slowest),
        },
        "runs": {
            "counts": [vars(count) for count in found.counts],
            "failed": [
                {**run_document(run), "seconds": _seconds(duration(run))} for run in found.failed
            ],
            "from_future": found.from_future,
        },
        "proofs": {
            "verified": found.count("verify", "succeeded"),
            "failed": found.count("verify", "failed", "interrupted"),
            "kept": dict(found.proofs),
            "oldest_never_proven_again": found.never_again.id if found.never_again else None,
        },
        "drills": {
            "possible": found.drill_possible,
            "intervals": found.drill_intervals,
            "intervals_without": found.intervals_without_drill,
            "each": [_drill_document(one) for one in found.drills],
        },
        "restores": [
            {**run_document(one.run), "kind": one.kind, "seconds": _seconds(one.took)}
            for one in found.restores
        ],
        "alerts": [
            {**vars(one), "at": format_utc(one.at), "codes": list(one.codes)}
            for one in found.alerts
        ],
        "sets": {
            "kinds": [vars(one) for one in found.kept],
            "bytes": sum(one.bytes for one in found.kept),
            "of_other_installations": found.others,
            "from_future": list(found.future),
        },
        "missing_points": [
            {
                "id": one.id,
                "kind": one.kind,
                "created_at": format_utc(one.created_at),
                "noticed_at": format_utc(one.noticed_at),
            }
            for one in found.missing
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


def _drill_document(one: DrillEntry) -> Document:
    return {
        "at": format_utc(one.at),
        "run_id": one.run_id,
        "set_id": one.set_id,
        "status": one.status,
        "seconds": _seconds(one.measured),
        "run_seconds": _seconds(one.took),
        "rows": one.rows,
        "failure": one.failure,
    }


def _seconds(span: timedelta | None) -> float | None:
    return round(span.total_seconds(), 3) if span is not None else None


def _time(instant: datetime | None) -> str | None:
    return format_utc(instant) if instant else None
