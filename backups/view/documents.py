"""The JSON documents of the interfaces, the same for HTTP and the command line. Pure.

One file, because the documents share their parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from backups.decisions.chains.points import PointRange
from backups.decisions.health import Status
from backups.decisions.restore_plan import RestorePlan
from backups.decisions.retention import RetentionPlan
from backups.decisions.succession import EarlierInstallation
from backups.format.chain_keys import point_id
from backups.model import (
    BackupSet,
    DrillReport,
    Finding,
    MissingPoint,
    Run,
    StoredObject,
)
from backups.view.second.documents import second_document
from backups.vocabulary.bot import BotFacts
from backups.vocabulary.comparison import Comparison
from backups.vocabulary.examination import Examination
from backups.vocabulary.replaced import RestoreRecord
from shared.adapters import adapter_of
from shared.clock import format_utc
from shared.errors import AppError

Document = dict[str, Any]

_SHOWN_OF_AN_OBJECT = {
    "source",
    "key",
    "bytes",
    "sha256",
    "snapshot_bytes",
    "snapshot_sha256",
    "rows",
    "same_instant",
    "finding",
}


def run_document(run: Run) -> Document:
    """A run of the run log."""
    error = run.error
    return {
        "id": run.id,
        "operation": run.operation,
        "trigger": run.trigger,
        "status": run.status,
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "set_id": run.set_id,
        "place": run.place,
        "stage": run.stage,
        "error": {"code": error.code, "message": error.message, "hint": error.hint}
        if error
        else None,
    }


def set_document(backup_set: BackupSet) -> Document:
    """A restore point."""
    return {
        "id": backup_set.id,
        "kind": backup_set.kind,
        "created_at": _time(backup_set.created_at),
        "trigger": backup_set.trigger,
        "instance": backup_set.instance,
        "complete": backup_set.complete,
        "proven_at": _time(backup_set.proven_at),
        "proof": backup_set.proof,
        "mark": backup_set.mark,
        "sequence": backup_set.sequence,
        "hollow": backup_set.hollow,
        "set_aside": _time(backup_set.set_aside),
        "pinned": backup_set.pinned,
        "label": backup_set.label,
        "suspect": list(backup_set.suspect) if backup_set.suspect else None,
        "point": {
            "chain": backup_set.point.chain,
            "number": backup_set.point.number,
            "last": backup_set.point.last,
        }
        if backup_set.point
        else None,
        "objects": [_object_document(stored) for stored in backup_set.objects],
    }


def status_document(status: Status) -> Document:
    """The state of the backups."""
    owner = status.owner
    newest = status.newest_restore_point
    return {
        "light": status.health.light,
        "healthy": status.health.healthy,
        "protected_by": {
            fact.name: {"holds": fact.holds, "detail": fact.detail} for fact in status.health.facts
        },
        "problems": [_finding_document(finding) for finding in status.health.problems],
        "warnings": [_finding_document(finding) for finding in status.health.warnings],
        "schedule": {
            "cron": status.cron,
            "next_run_at": _time(status.next_run_at),
            "retry_at": _time(status.retry_at) if status.retry_at else None,
            "owner": {"host": owner[0], "pid": owner[1]} if owner else None,
        },
        "target": {
            "kind": status.kind,
            "offsite": status.offsite,
            "location": status.location,
            "last_contact_at": _time(status.last_contact_at),
        },
        "running": run_document(status.running) if status.running else None,
        "last_run": run_document(status.last_run) if status.last_run else None,
        "last_success": run_document(status.last_success) if status.last_success else None,
        "newest_restore_point": set_document(newest) if newest else None,
        "newest_point_at": _time(status.newest_point_at),
        "restore_points": status.restore_points,
        "follow": status.follow,
        "notified": {
            "receivers": status.receivers,
            "heartbeat": status.has_heartbeat,
            "last_at": _time(status.last_message.at) if status.last_message else None,
            "last_result": status.last_message.result if status.last_message else None,
        },
        "kit_kept_at": _time(status.kit_kept_at),
        "second": second_document(status.second) if status.second else None,
        "bot": _bot_document(status.bot),
        "last_drill": drill_document(status.last_drill) if status.last_drill else None,
    }


def _bot_document(bot: BotFacts) -> Document:
    """How the bot does; `inbox` is null where that is not known."""
    inbox = bot.inbox
    return {
        "inbox": {
            "waiting": inbox.waiting,
            "oldest_seconds": round(inbox.oldest_seconds, 3),
            "set_aside": inbox.set_aside,
        }
        if inbox
        else None,
        "last_sync": _time(bot.last_sync),
    }


def plan_document(plan: RestorePlan) -> Document:
    """What a restore would do."""
    return {
        "set": set_document(plan.backup_set),
        "age_seconds": int(plan.age.total_seconds()),
        "host": plan.host,
        "made_here": plan.made_here,
        "place": plan.place,
        "from": str(plan.from_path) if plan.from_path else None,
        "local_copies": plan.has_copies,
        "passed_over": [
            {"id": one.id, "created_at": _time(one.created_at), "why": one.why}
            for one in plan.passed_over
        ],
        "estimate": {
            "seconds": round(plan.estimate.seconds, 1),
            "basis": plan.estimate.basis,
        }
        if plan.estimate
        else None,
        "items": [
            {
                "source": item.stored.source,
                "key": item.stored.key,
                "bytes": item.stored.bytes,
                "rows": dict(item.stored.rows) if item.stored.described else None,
                "target": str(item.live.path),
                "state": item.live.state,
                "live_rows": dict(item.live.rows) if item.live.rows is not None else None,
                "action": item.action,
                "comparison": _comparison_document(item.comparison),
            }
            for item in plan.items
        ],
        "blockers": [_finding_document(finding) for finding in plan.blockers],
        "warnings": [_finding_document(finding) for finding in plan.warnings],
        "confirm": plan.backup_set.id,
    }


def _comparison_document(comparison: Comparison | None) -> Document | None:
    """What a restore does to the rows of a source; null where there is nothing to compare with."""
    if comparison is None:
        return None
    return {
        "why_not": comparison.why_not or None,
        "tables": {
            one.table: {
                "only_live": one.only_live,
                "only_stored": one.only_stored,
                "changed": one.changed,
                "newest_at": _time(one.newest_at),
            }
            for one in comparison.tables
        },
    }


def undo_document(record: RestoreRecord) -> Document:
    """What an undo would put back."""
    return {
        "run_id": record.run_id,
        "set_id": record.set_id,
        "restored_at": _time(record.at),
        "items": [
            {
                "source": item.source,
                "kind": item.kind,
                "path": str(item.path) if item.path else None,
            }
            for item in record.to_put_back
        ],
    }


def adopted_document(installation: EarlierInstallation) -> Document:
    """An installation whose sets count as this one's from now on."""
    return {
        "instance": installation.instance,
        "host": installation.host,
        "sets": installation.sets,
        "newest_at": _time(installation.newest_at),
    }


def doctor_document(examination: Examination) -> Document:
    """Everything that was looked at."""
    return {
        "healthy": examination.healthy,
        "lines": [
            {
                "level": line.level,
                "subject": line.subject,
                "message": line.message,
                "hint": line.hint,
            }
            for line in examination.lines
        ],
    }


def retention_document(plan: RetentionPlan) -> Document:
    """What retention would keep and drop."""
    return {
        "keep": [
            {
                "id": choice.backup_set.id,
                "reasons": list(choice.reasons),
                "protected": choice.protected,
            }
            for choice in plan.keep
        ],
        "drop": [{"id": choice.backup_set.id, "reason": choice.reason} for choice in plan.drop],
        "chains": {
            "keep": [vars(line) for line in plan.chains.kept],
            "drop": [vars(line) for line in plan.chains.dropped],
        },
        "warning": plan.warning,
    }


def drill_document(report: DrillReport) -> Document:
    """A rehearsed restore."""
    return {
        "set_id": report.set_id,
        "at": _time(report.at),
        "seconds": round(report.seconds, 3),
        "rows": report.rows,
        "unreadable": report.unreadable,
        "failure": report.failure,
    }


def missing_document(missing: Sequence[MissingPoint]) -> Document:
    """The restore points whose loss was accepted."""
    return {
        "missing": [
            {
                "id": point.id,
                "kind": point.kind,
                "created_at": _time(point.created_at),
                "noticed_at": _time(point.noticed_at),
            }
            for point in missing
        ]
    }


def range_document(points: PointRange) -> Document:
    """Points of a chain without a gap."""
    return {
        "chain": points.chain,
        "from": _time(points.begin),
        "to": _time(points.end),
        "points": points.points,
        "newest": point_id(points.chain, points.last),
        "proven": points.proven,
    }


def sets_document(
    sets: list[BackupSet],
    *,
    more: bool,
    ranges: Sequence[PointRange] = (),
    listed_at: datetime | None = None,
    error: AppError | None = None,
) -> Document:
    """A page of restore points; `next` is what to give as `before` for the following page.

    With an `error` the store could not be asked now, and this is what it had at `listed_at`.
    """
    return {
        "sets": [set_document(backup_set) for backup_set in sets],
        "ranges": [range_document(one) for one in ranges],
        "next": sets[-1].id if more else None,
        "listed_at": _time(listed_at),
        "error": {"code": error.code, "message": error.message, "hint": error.hint}
        if error
        else None,
    }


def runs_document(runs: list[Run], *, more: bool) -> Document:
    """A page of the run log; `next` is what to give as `before` for the following page."""
    return {
        "runs": [run_document(run) for run in runs],
        "next": runs[-1].id if more else None,
    }


def _object_document(stored: StoredObject) -> Document:
    document: Document = adapter_of(StoredObject).dump_python(stored, include=_SHOWN_OF_AN_OBJECT)
    return document


def _finding_document(finding: Finding) -> Document:
    return {"code": finding.code, "message": finding.message, "hint": finding.hint}


def _time(instant: datetime | None) -> str | None:
    return format_utc(instant) if instant else None
