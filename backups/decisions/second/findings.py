"""Whether the second place has what it should have, and what weakens it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from backups.decisions.due import STORE_FAILURES
from backups.decisions.health import Health
from backups.decisions.order import end_of_present
from backups.decisions.protection import Fact
from backups.model import Finding, Run
from backups.vocabulary.second import MOST_BEHIND, CopyState, DocumentsState, SecondFacts
from shared.clock import format_utc
from shared.words import counted

# What follows from a store that is away, and weighs less while another one has the sets.
_OF_A_STORE_AWAY = frozenset(
    {
        *("last_run_failed", "changes_not_stored", "not_seen", "overdue"),
        *("copy_behind", "copy_failed"),
    }
)

_COPY = "Copy now, and see what stands in the way: ./bot backups copy"


def second_facts(second: SecondFacts | None, now: datetime) -> tuple[Fact, ...]:
    """What green rests on, where a second place is configured."""
    return (_fact(second, now),) if second is not None else ()


def _fact(second: SecondFacts, now: datetime) -> Fact:
    location, state = second.config.location, second.state
    if state is None:
        late = second.begun_at is not None and now - second.begun_at > MOST_BEHIND
        detail = f"nothing was copied to the second place yet ({location})"
        return Fact("second", False if late else None, detail, _behind(detail, None))
    if state.complete_at is not None and state.complete_at > end_of_present(now):
        detail = f"the last copying ended in the future ({format_utc(state.complete_at)})"
        return Fact("second", None, detail, _behind(detail, state))
    since = _late_since(state, second.begun_at, now)
    if since is not None:
        detail = f"the second place ({location}) lacks what was made since {format_utc(since)}"
        return Fact("second", False, detail, _behind(detail, state))
    documents = second.documents
    if documents is not None and documents.versioned:
        since = _late_since(documents, second.begun_at, now)
        if since is not None:
            detail = (
                f"the second place ({location}) lacks documents of users/ that changed since "
                f"{format_utc(since)}"
            )
            return Fact("second", False, detail, _behind(detail, documents))
    when = f", at {format_utc(state.complete_at)}" if state.complete_at else ""
    return Fact("second", True, f"{counted(state.points, 'restore point')} in {location}{when}")


def _late_since(
    state: CopyState | DocumentsState, begun_at: datetime | None, now: datetime
) -> datetime | None:
    """Since when the second place lacks something, if that is too long."""
    since = state.behind_since  # the store's time, which may lie anywhere
    if state.complete_at is None:
        since = min(filter(None, (since, begun_at)), default=None)
    elif now - state.complete_at > MOST_BEHIND:
        since = min(since or state.complete_at, state.complete_at)
    return since if since is not None and now - since > MOST_BEHIND else None


def _behind(detail: str, state: CopyState | DocumentsState | None) -> Finding:
    error = state.error if state is not None else None
    why = f": {error.message} [{error.code}]" if error is not None else ""
    hint = f"{error.hint} Then: ./bot backups copy" if error is not None else _COPY
    return Finding("copy_behind", f"{detail}{why}", hint)


def second_warnings(second: SecondFacts | None) -> Iterator[Finding]:
    """What weakens the second place, and is not urgent."""
    if second is None or second.state is None:
        return
    state, location = second.state, second.config.location
    if second.documents is not None and second.documents.gone:
        yield Finding(
            "documents_gone",
            f"{counted(second.documents.gone, 'conversation')} of merchants, gone from the store "
            f"without a request: the second place has what there was ({location})",
            "See what comes back: ./bot shared versions from-second. Then the same with --yes",
        )
    if state.deletable:
        yield Finding(
            "copy_deletable",
            f"the key of the second place can delete what is there ({location})",
            "Who steals this host can delete the copies, too: docs/two-places.md has what stops "
            "that at each provider. Then: ./bot backups doctor --write",
        )
    if disturbed := state.hidden + state.covered:
        yield Finding(
            "copy_disturbed",
            f"somebody has hidden or covered {counted(disturbed, 'object')} of the second place, "
            f"which are read all the same ({location})",
            "Nobody but this program should have that key: make a new one, and end the old. "
            "docs/two-places.md.",
        )
    if state.refused:
        yield Finding(
            "copy_refused",
            f"{counted(state.refused, 'object')} did not go to the second place: not what the "
            "marks say, or another object is in the way there",
            "See which, and why: ./bot backups copy. Prove the newest set: ./bot backups verify",
        )
    yield from _failures(second)


def _failures(second: SecondFacts) -> Iterator[Finding]:
    """What the last copying did not do."""
    documents = second.documents
    error = second.state.error if second.state is not None else None
    error = error or (documents.error if documents is not None else None)
    if error is not None:
        yield Finding(
            "copy_failed",
            f"the last copying to the second place did not copy all: {error.message} "
            f"[{error.code}]",
            f"{error.hint} The app tries again by itself.",
        )
    elif documents is not None and not documents.versioned and documents.complete_at is not None:
        yield Finding(
            "copy_failed",
            "documents of users/ do not go to the second place any more: its bucket keeps no "
            f"versions ({second.config.location})",
            "Turn its versioning on again: docs/two-places.md.",
        )


def relieved(
    health: Health, second: SecondFacts | None, failure: Run | None, now: datetime
) -> Health:
    """The same where the second place has taken the sets that the first did not: amber, not red."""
    if second is None or second.stand_in is None or not second.takes_sets(now):
        return health
    if failure is not None and failure.error and failure.error.code not in STORE_FAILURES:
        return health
    last = second.stand_in.last_at or second.stand_in.at
    where = f"in the second place, at {format_utc(last)}"
    facts = tuple(
        replace(fact, holds=None, detail=f"{fact.detail}; {where}")
        if fact.finding is not None and fact.finding.code in _OF_A_STORE_AWAY and not fact.holds
        else fact
        for fact in health.facts
    )
    why = f": {failure.error.message}" if failure is not None and failure.error else ""
    away = Finding(
        "first_place_away",
        f"the store is away since {format_utc(second.stand_in.at)}, and the second place takes "
        f"the backups{why}",
        "See what is wrong: ./bot backups doctor. When the store is back, it gets what it lacks.",
    )
    kept = tuple(one for one in health.problems if one.code not in _OF_A_STORE_AWAY)
    calmer = tuple(one for one in health.warnings if one.code not in _OF_A_STORE_AWAY)
    return Health(facts, kept, (away, *calmer))
