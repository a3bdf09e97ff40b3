"""The JSON documents of the faces, the same for HTTP and the command line. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backups.health import Status
from backups.model import BackupSet, Finding, Run, StoredObject
from shared.clock import format_utc
from shared.errors import AppError

Document = dict[str, Any]


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
        "suspect": list(backup_set.suspect) if backup_set.suspect else None,
        "objects": [_object_document(stored) for stored in backup_set.objects],
    }


def status_document(status: Status) -> Document:
    """The state of the backups."""
    owner = status.owner
    newest = status.newest_restore_point
    return {
        "healthy": status.health.healthy,
        "problems": [_finding_document(found) for found in status.health.problems],
        "warnings": [_finding_document(found) for found in status.health.warnings],
        "schedule": {
            "cron": status.cron,
            "next_run_at": _time(status.next_run_at),
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
        "restore_points": status.restore_points,
    }


def sets_document(sets: list[BackupSet], *, more: bool) -> Document:
    """A page of restore points; `next` is what to give as `before` for the following page."""
    return {
        "sets": [set_document(found) for found in sets],
        "next": sets[-1].id if more else None,
    }


def runs_document(runs: list[Run], *, more: bool) -> Document:
    """A page of the run log; `next` is what to give as `before` for the following page."""
    return {
        "runs": [run_document(found) for found in runs],
        "next": runs[-1].id if more else None,
    }


def problem_document(
    status: int, title: str, detail: str, code: str, hint: str, **more: object
) -> Document:
    """A problem document (RFC 9457)."""
    return {
        "type": f"urn:backup:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        **more,
    }


def error_document(status: int, title: str, error: AppError, **more: object) -> Document:
    """The problem document of an error."""
    return problem_document(status, title, error.message, error.code, error.hint, **more)


def _object_document(stored: StoredObject) -> Document:
    return {
        "source": stored.source,
        "key": stored.key,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "snapshot_bytes": stored.snapshot_bytes,
        "snapshot_sha256": stored.snapshot_sha256,
        "rows": dict(stored.rows),
        "same_instant": stored.same_instant,
    }


def _finding_document(found: Finding) -> Document:
    return {"code": found.code, "message": found.message, "hint": found.hint}


def _time(instant: datetime | None) -> str | None:
    return format_utc(instant) if instant else None
