"""What status says of the second place. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backups.decisions.second.findings import second_facts, second_warnings
from backups.vocabulary.second import (
    CopyError,
    CopyState,
    DocumentsState,
    SecondConfig,
    SecondFacts,
    StandIn,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CONFIG = SecondConfig("copies at https://elsewhere.example", HOUR, 30, 0)
COMPLETE = CopyState(at=NOW, complete_at=NOW, points=3, newest="20261128T010000Z")
DOCUMENTS = DocumentsState(at=NOW, complete_at=NOW, documents=2)


@pytest.mark.parametrize(
    ("state", "begun", "holds"),
    [
        (COMPLETE, NOW - DAY, True),
        (None, NOW - HOUR, None),
        (None, None, None),
        (None, NOW - DAY - HOUR, False),
        (replace(COMPLETE, behind_since=NOW - HOUR, waiting=3), None, True),
        (replace(COMPLETE, behind_since=NOW - DAY - HOUR, waiting=3), None, False),
        (replace(COMPLETE, complete_at=NOW - DAY - HOUR), None, False),
        (replace(COMPLETE, complete_at=None), NOW - HOUR, True),
        (replace(COMPLETE, complete_at=None), NOW - DAY - HOUR, False),
        # What a clock that was ahead has noted is no proof, and what a store says no excuse.
        (replace(COMPLETE, complete_at=NOW + DAY), NOW - HOUR, None),
        (replace(COMPLETE, complete_at=None, behind_since=NOW + DAY), NOW - DAY - HOUR, False),
    ],
)
def test_green_rests_on_copies_of_a_day(
    state: CopyState | None, begun: datetime | None, holds: bool | None
) -> None:
    """What is missing for longer is a problem; before the first copy it is not known."""
    (fact,) = second_facts(SecondFacts(CONFIG, state, begun), NOW)
    assert fact.holds is holds
    if holds is not True:
        assert fact.finding is not None
        assert fact.finding.code == "copy_behind"


@pytest.mark.parametrize(
    ("documents", "holds"),
    [
        (DOCUMENTS, True),
        (replace(DOCUMENTS, behind_since=NOW - HOUR, waiting=1), True),
        (replace(DOCUMENTS, behind_since=NOW - DAY - HOUR, waiting=1), False),
        # They were not even looked at.
        (replace(DOCUMENTS, complete_at=NOW - DAY - HOUR), False),
        (replace(DOCUMENTS, complete_at=None), False),
        # Where nothing can go, the line of the second place says so, and the doctor.
        (replace(DOCUMENTS, complete_at=None, versioned=False), True),
    ],
)
def test_green_rests_on_documents_of_a_day(documents: DocumentsState, holds: bool) -> None:
    """Those of merchants, beside the sets."""
    facts = SecondFacts(CONFIG, COMPLETE, NOW - DAY - HOUR, documents=documents)
    (fact,) = second_facts(facts, NOW)
    assert fact.holds is holds


def test_versioning_that_was_turned_off_is_named() -> None:
    """Documents went there, and do not any more."""
    documents = replace(DOCUMENTS, versioned=False)
    (found,) = second_warnings(SecondFacts(CONFIG, COMPLETE, documents=documents))
    assert (found.code, "keeps no versions" in found.message) == ("copy_failed", True)
    documents = replace(documents, complete_at=None)
    assert not list(second_warnings(SecondFacts(CONFIG, COMPLETE, documents=documents)))


def test_where_there_is_none_nothing_is_said() -> None:
    """Green does not rest on what nobody has asked for."""
    assert second_facts(None, NOW) == ()
    assert list(second_warnings(None)) == []


def test_each_weakness_is_named_with_its_remedy() -> None:
    """A key that can delete, a hand in the bucket, a damaged first place, a place that is away."""
    error = CopyError("store_unreachable", "no connection", "Check COPY_ENDPOINT.")
    state = replace(COMPLETE, deletable=True, hidden=1, covered=2, refused=1, error=error)
    found = list(second_warnings(SecondFacts(CONFIG, state)))
    assert [one.code for one in found] == [
        "copy_deletable",
        "copy_disturbed",
        "copy_refused",
        "copy_failed",
    ]
    assert "3 objects" in found[1].message
    assert "COPY_ENDPOINT" in found[3].hint
    assert all(one.hint for one in found)


def test_why_it_is_behind_is_said_with_the_remedy() -> None:
    """The last error, and what helps against it."""
    error = CopyError("store_unreachable", "no connection", "Check COPY_ENDPOINT.")
    state = replace(COMPLETE, complete_at=NOW - 2 * DAY, error=error)
    (fact,) = second_facts(SecondFacts(CONFIG, state), NOW)
    assert fact.finding is not None
    assert "no connection [store_unreachable]" in fact.finding.message
    assert fact.finding.hint == "Check COPY_ENDPOINT. Then: ./bot backups copy"


@pytest.mark.parametrize(
    ("last", "takes"),
    [(NOW - HOUR, True), (NOW - 3 * HOUR, False), (NOW + DAY, False), (None, False)],
)
def test_a_stand_in_counts_while_its_last_set_is_young(last: datetime | None, takes: bool) -> None:
    """And not while it lies in the future, by a clock that was ahead."""
    facts = SecondFacts(CONFIG, COMPLETE, None, StandIn(NOW - DAY, last))
    assert facts.takes_sets(NOW) is takes
