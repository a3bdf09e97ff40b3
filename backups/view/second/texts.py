"""What is said of copying to the second place. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backups.view import units
from backups.vocabulary.second import CopyState, Differences, DocumentsState, SecondFacts
from shared.clock import format_utc
from shared.words import counted

_MOST_NAMED = 20


def copied(
    state: CopyState,
    objects: int,
    size: int,
    location: str,
    documents: DocumentsState | None = None,
) -> str:
    """After a copying."""
    lines = [f"{counted(objects, 'object')} copied to {location}, {units.size(size)}, read back."]
    newest = f", the newest {state.newest}" if state.newest else ""
    lines.append(f"{counted(state.points, 'restore point')} there{newest}.")
    if state.waiting:
        since = f", since {format_utc(state.behind_since)}" if state.behind_since else ""
        lines.append(
            f"{counted(state.waiting, 'object')} did not go{since}: the log says why, for each."
        )
    if documents is not None:
        lines.append(_documents_copied(documents))
    return "\n".join(lines)


def _documents_copied(documents: DocumentsState) -> str:
    if not documents.versioned:
        return (
            "No documents of users/: the bucket keeps no versions, so one that is covered or "
            "deleted would be gone. Turn versioning on: docs/two-places.md"
        )
    text = f"{counted(documents.documents, 'document')} of users/ in both places"
    if documents.waiting:
        text += f", {documents.waiting:,} not there as it is now"
    if documents.too_large:
        text += f" ({documents.too_large:,} too large to go)"
    return f"{text}."


def differences(found: Differences, location: str) -> str:
    """After a comparison of both places."""
    if not found.compared:
        return "The first place has nothing with a mark of ours: there is nothing to compare."
    if not found.missing and not found.different:
        return f"{location} has all {counted(found.compared, 'object')}, byte for byte."
    lines = [f"Of {counted(found.compared, 'object')}, {location}"]
    lines += _named("lacks", found.missing)
    lines += _named("has with other bytes", found.different)
    if found.missing:
        lines.append("To copy what it lacks: ./bot backups copy")
    return "\n".join(lines)


def _named(what: str, keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    more = f"\n    … and {len(keys) - _MOST_NAMED:,} more" if len(keys) > _MOST_NAMED else ""
    return [
        f"  {what} {len(keys):,}:" + "".join(f"\n    {key}" for key in keys[:_MOST_NAMED]) + more
    ]


def differences_document(found: Differences) -> dict[str, Any]:
    """The same for a script."""
    return {
        "compared": found.compared,
        "missing": list(found.missing),
        "different": list(found.different),
    }


def line(second: SecondFacts | None) -> str:
    """The second place in one line of the status."""
    if second is None:
        return "none; docs/two-places.md"
    state, location = second.state, second.config.location
    if state is None:
        return f"{location}: nothing copied yet"
    complete = f", complete at {format_utc(state.complete_at)}" if state.complete_at else ""
    locked = f", locked for {counted(second.config.lock_days, 'day')}"
    return (
        f"{location}: {counted(state.points, 'restore point')}{_documents(second.documents)}"
        f"{complete}{locked if second.config.lock_days else ''}"
    )


def _documents(documents: DocumentsState | None) -> str:
    if documents is None:
        return ""
    if not documents.versioned:
        return ", no users/ (the bucket keeps no versions)"
    waiting = f", {documents.waiting:,} more wait" if documents.waiting else ""
    return f", {counted(documents.documents, 'document')} of users/{waiting}"
