"""The JSON shapes that CONTRACT.md promises, as checks on documents of either interface."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

RUN = {
    "id",
    "operation",
    "trigger",
    "status",
    "started_at",
    "finished_at",
    "set_id",
    "place",
    "stage",
    "error",
}
FINDING = {"code", "message", "hint"}
SET = {
    "id",
    "kind",
    "created_at",
    "trigger",
    "instance",
    "complete",
    "proven_at",
    "proof",
    "mark",
    "sequence",
    "set_aside",
    "pinned",
    "label",
    "suspect",
    "objects",
}
OBJECT = {
    "source",
    "key",
    "bytes",
    "sha256",
    "snapshot_bytes",
    "snapshot_sha256",
    "rows",
}
STATUS = {
    "healthy",
    "problems",
    "warnings",
    "schedule",
    "target",
    "running",
    "last_run",
    "last_success",
    "newest_restore_point",
    "restore_points",
    "light",
    "protected_by",
    "newest_point_at",
    "follow",
    "second",
    "bot",
}
SCHEDULE = {"cron", "next_run_at", "retry_at", "owner"}
OWNER = {"host", "pid"}
BOT = {"inbox", "last_sync"}
INBOX = {"waiting", "oldest_seconds", "set_aside"}
TARGET = {"kind", "offsite", "location", "last_contact_at"}
PROBLEM = {"type", "title", "status", "detail", "code", "hint"}

# What the documents have beyond the contract, which may be added to.
ADDED_TO_SET = {"hollow", "point"}
ADDED_TO_OBJECT = {"same_instant", "finding"}
ADDED_TO_STATUS = {"last_drill", "kit_kept_at", "notified"}

_SET_ID = re.compile(r"\d{8}T\d{6}Z(\.[1-9]\d*)?")
_BEGINS_LIKE_A_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z")


def check_run(run: Document) -> Document:
    """A run has the contract's names and words; the run itself, for the next check."""
    assert set(run) == RUN
    assert run["operation"] in ("backup", "verify", "drill", "restore", "prune")
    assert run["trigger"] in ("scheduled", "manual", "catch-up", "change", "pre-restore")
    assert run["place"] in ("first", "second")
    assert run["status"] in ("running", "succeeded", "failed", "interrupted")
    if run["error"] is not None:
        assert set(run["error"]) == FINDING
        assert all(run["error"].values())
    assert (run["finished_at"] is None) == (run["status"] == "running")
    check_times(run)
    return run


def check_set(found: Document) -> Document:
    """A set has the contract's names and words; the set itself."""
    assert set(found) == SET | ADDED_TO_SET
    assert _SET_ID.fullmatch(found["id"])
    assert found["kind"] in ("set", "legacy", "pre-restore")
    assert found["proof"] in ("full", "sealed", "none")
    assert isinstance(found["complete"], bool)
    for stored in found["objects"]:
        assert set(stored) == OBJECT | ADDED_TO_OBJECT
        assert re.fullmatch("[0-9a-f]{64}", stored["sha256"])
        assert all(isinstance(count, int) for count in stored["rows"].values())
    check_times(found)
    return found


def check_status(status: Document) -> Document:
    """A status document has the contract's names all the way down; the status itself."""
    assert set(status) == STATUS | ADDED_TO_STATUS
    assert set(status["schedule"]) == SCHEDULE
    assert status["schedule"]["owner"] is None or set(status["schedule"]["owner"]) == OWNER
    assert set(status["target"]) == TARGET
    assert set(status["bot"]) == BOT
    assert status["bot"]["inbox"] is None or set(status["bot"]["inbox"]) == INBOX
    assert status["target"]["kind"] in ("spaces", "directory")
    for finding in (*status["problems"], *status["warnings"]):
        assert set(finding) == FINDING
        assert all(finding.values())
    assert status["healthy"] == (not status["problems"])
    assert status["light"] in (("green", "amber") if status["healthy"] else ("red",))
    assert all(set(fact) == {"holds", "detail"} for fact in status["protected_by"].values())
    for name in ("running", "last_run", "last_success"):
        if status[name] is not None:
            check_run(status[name])
    if status["newest_restore_point"] is not None:
        check_set(status["newest_restore_point"])
    check_times(status)
    return status


def check_problem(problem: Document, *more: str) -> Document:
    """A problem document (RFC 9457) has all names, and `more`; the problem itself."""
    assert set(problem) == PROBLEM | set(more)
    assert problem["code"]
    assert problem["hint"]
    assert problem["detail"]
    return problem


def check_times(document: object) -> None:
    """Every time anywhere in a document is ISO 8601 UTC with `Z`."""
    for text in _texts(document):
        if _BEGINS_LIKE_A_TIME.match(text):
            assert _TIME.fullmatch(text), text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
