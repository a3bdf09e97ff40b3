"""The second place as JSON. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backups.vocabulary.second import CopyState, DocumentsState, SecondFacts
from shared.clock import format_utc

Document = dict[str, Any]


def second_document(second: SecondFacts) -> Document:
    """The second place, as the last copying found it."""
    state = second.state
    return {
        "location": second.config.location,
        "lock_days": second.config.lock_days,
        **(copy_document(state) if state else {"at": None}),
        "documents": documents_document(second.documents),
    }


def documents_document(state: DocumentsState | None) -> Document | None:
    """What a copying of the application's documents found; None where there was none."""
    if state is None:
        return None
    return {
        "at": _time(state.at),
        "complete_at": _time(state.complete_at),
        "behind_since": _time(state.behind_since),
        "documents": state.documents,
        "waiting": state.waiting,
        "too_large": state.too_large,
        "gone": state.gone,
        "versioned": state.versioned,
        "error": vars(state.error) if state.error else None,
    }


def copy_document(state: CopyState) -> Document:
    """What a copying found."""
    return {
        "at": _time(state.at),
        "complete_at": _time(state.complete_at),
        "behind_since": _time(state.behind_since),
        "waiting": state.waiting,
        "refused": state.refused,
        "hidden": state.hidden,
        "covered": state.covered,
        "points": state.points,
        "newest": state.newest,
        "deletable": state.deletable,
        "error": vars(state.error) if state.error else None,
    }


def _time(instant: datetime | None) -> str | None:
    return format_utc(instant) if instant else None
