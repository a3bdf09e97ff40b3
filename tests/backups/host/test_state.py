"""Tests of `backups.host.state`: what this host remembers, and what it makes of a bad row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.format.instance import LastSet
from backups.host.records import open_records
from backups.host.state import HostState
from backups.model import DrillReport
from backups.vocabulary.replaced import Replaced, RestoreRecord, Switch
from shared.databases.sqlite import Database
from tests.support.records import INSTANT

DRILL = DrillReport("20261122T010000Z", INSTANT, 6.25, 12, 0, None)
RESTORE = RestoreRecord(
    "20261122T010000Z-ab12",
    "20261121T010000Z",
    INSTANT,
    (Replaced("tokens", "copy", Path("/b/pre-restore/one/tokens.db")),),
    (Replaced("sessions", "nothing", None),),
)

# What earlier versions have written: a name, a text, how it is read, what it means.
STORED: list[tuple[str, str, Callable[[HostState], Any], Any]] = [
    (
        "last_drill",
        '{"set_id":"20261122T010000Z","at":"2026-11-22T01:00:00Z","seconds":6.25,"rows":12,'
        '"unreadable":0,"failure":null}',
        HostState.last_drill,
        DRILL,
    ),
    (
        "last_restore",
        '{"run_id":"20261122T010000Z-ab12","set_id":"20261121T010000Z",'
        '"at":"2026-11-22T01:00:00Z","replaced":[{"source":"tokens","kind":"copy",'
        '"path":"/b/pre-restore/one/tokens.db","main":true}],"owed":[{"source":"sessions",'
        '"kind":"nothing","path":null,"main":true}]}',
        HostState.last_restore,
        RESTORE,
    ),
    ("time:begun", "2026-11-22T01:00:00Z", HostState.begun_at, INSTANT),
    ("time:swept", "2026-11-22T01:00:00Z", HostState.swept_at, INSTANT),
    ("started_empty:tokens", "2026-11-22T01:00:00Z", HostState.started_empty, {"tokens": INSTANT}),
    ("successor_of:0123abcd", "1", HostState.predecessors, {"0123abcd": None}),
]
IDS = [name for name, *_ in STORED]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Database]:
    """The records of a new host."""
    with closing(open_records(tmp_path)) as records:
        yield records


@pytest.fixture
def state(records: Database) -> HostState:
    """What a new host remembers."""
    return HostState(records)


def put(records: Database, name: str, value: object) -> None:
    """Write a row as an earlier version, or a fault, would have left it."""
    with records.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO facts(name, value) VALUES (?, ?)", (name, value))


def rows(records: Database) -> dict[str, str]:
    """All rows of the table."""
    with records.reading() as connection:
        return dict(connection.execute("SELECT name, value FROM facts").fetchall())


@pytest.mark.parametrize(("name", "text", "read", "meaning"), STORED, ids=IDS)
def test_what_earlier_versions_stored_is_read(
    records: Database,
    state: HostState,
    name: str,
    text: str,
    read: Callable[[HostState], Any],
    meaning: object,
) -> None:
    """Names and texts in `runs.db` keep their meaning from version to version."""
    put(records, name, text)
    assert read(state) == meaning


def test_what_is_stored_has_the_names_and_texts_of_earlier_versions(
    records: Database, state: HostState
) -> None:
    """Each writing method writes its own row, in the form that the table above has."""
    state.set_last_drill(DRILL)
    state.set_last_restore(RESTORE)
    state.note_begun(INSTANT)
    state.set_swept_at(INSTANT)
    state.note_started_empty("tokens", INSTANT)
    state.succeed("0123abcd")

    stored = {name: text for name, text, _, _ in STORED}
    # Members that earlier versions do not know, and pass over, come last.
    stored["last_restore"] = stored["last_restore"][:-1] + ',"back":[],"undoes":null,"exact":false}'
    assert rows(records) == stored


@pytest.mark.parametrize(("name", "read"), [(name, read) for name, _, read, _ in STORED[:-1]])
@pytest.mark.parametrize(
    "value",
    ["", "nonsense", "{}", "[1]", "null", b"\xff\x00", "2026-11-22T01:00:00", "2026-13-22T01:00Z"],
)
def test_a_row_that_cannot_be_read_counts_as_absent(
    records: Database,
    state: HostState,
    caplog: pytest.LogCaptureFixture,
    name: str,
    read: Callable[[HostState], Any],
    value: object,
) -> None:
    """A bad row raises nothing: it reads as on a new host, and a line of the log names it."""
    new = read(state)
    put(records, name, value)
    with caplog.at_level(logging.WARNING):
        assert read(state) == new
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} in runs.db cannot be read, and counts as absent"
    ]


@pytest.mark.parametrize("name", ["last_drill", "last_restore"])
def test_a_time_without_a_zone_in_a_document_counts_as_absent(
    records: Database, state: HostState, name: str
) -> None:
    """Such a time would fail at the first comparison with the clock, in status."""
    text, read = next((text, read) for stored, text, read, _ in STORED if stored == name)
    put(records, name, text.replace("01:00:00Z", "01:00:00"))
    assert read(state) is None


def test_the_first_beginning_counts(records: Database, state: HostState) -> None:
    """Later starts do not move the time since when backups are due; a bad row is replaced."""
    state.note_begun(INSTANT)
    state.note_begun(INSTANT + timedelta(days=1))
    assert state.begun_at() == INSTANT
    put(records, "time:begun", "nonsense")
    state.note_begun(INSTANT + timedelta(days=2))
    assert state.begun_at() == INSTANT + timedelta(days=2)


def test_what_an_undo_needs_is_told_from_what_nobody_knows(
    records: Database, state: HostState
) -> None:
    """No restore needs nothing; of a record that cannot be read nobody knows what it needs."""
    assert state.needed_for_undo() == ()
    state.set_last_restore(RESTORE)
    assert state.needed_for_undo() == (Path("/b/pre-restore/one/tokens.db"),)
    two = Path("/b/pre-restore/two/tokens.db")
    state.begin_switch(Switch(RESTORE, Replaced("tokens", "copy", two), 1, ""))
    assert two in (state.needed_for_undo() or ())
    state.end_switch(None)
    assert two not in (state.needed_for_undo() or ())
    put(records, "last_restore", "nonsense")
    assert state.needed_for_undo() is None


def test_an_ended_login_stays_ended_whatever_its_row_says(
    records: Database, state: HostState
) -> None:
    """That a login was ended counts, not when: a bad row opens nothing."""
    assert not state.login_is_ended("one")
    put(records, "ended_login:one", "nonsense")
    assert state.login_is_ended("one")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    state.end_login("two", long_ago, long_ago)
    state.end_login("three", INSTANT, INSTANT - timedelta(days=1))
    assert not state.login_is_ended("two")
    assert state.login_is_ended("three")


def test_names_that_look_alike_are_kept_apart(state: HostState) -> None:
    """What is remembered of one source or instance says nothing of another."""
    state.note_started_empty("a_b", INSTANT)
    state.note_started_empty("axb", INSTANT)
    state.forget_started_empty("a_b")
    assert set(state.started_empty()) == {"axb"}


def test_a_predecessor_is_remembered_with_how_far_it_had_come(
    records: Database, state: HostState
) -> None:
    """Under the name that older versions read; a row that cannot be read counts as not noted."""
    state.succeed("0123abcd", LastSet(INSTANT, 17))
    state.succeed("4567abcd", LastSet(INSTANT, None))
    assert rows(records)["successor_of:0123abcd"] == '{"at":"2026-11-22T01:00:00Z","sequence":17}'
    assert state.predecessors() == {
        "0123abcd": LastSet(INSTANT, 17),
        "4567abcd": LastSet(INSTANT, None),
    }

    put(records, "successor_of:0123abcd", "nonsense")
    state.forget_predecessor("4567abcd")

    assert state.predecessors() == {"0123abcd": None}
