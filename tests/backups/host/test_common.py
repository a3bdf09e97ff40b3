"""What the hosts of an installation know in common: here two hosts, and a database for both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backups.host.records import open_records
from backups.host.remembered import attempts as module
from backups.host.remembered.attempts import Attempts
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.model import DrillReport, Run, RunError
from backups.vocabulary.replaced import Replaced, RestoreRecord, Switch
from backups.vocabulary.second import CopyState, StandIn
from shared.errors import DatabaseUnreachable
from tests.support.records import INSTANT
from tests.support.shared_live import SharedLive, shared_live

DRILL = DrillReport("20261122T010000Z", INSTANT, 6.25, 12, 0, None)
PLACE = "copies at https://example.com"
FAILED = Run(
    id="20261122T010000Z-ab12cd34",
    operation="backup",
    trigger="scheduled",
    status="failed",
    started_at=INSTANT,
    finished_at=INSTANT,
    error=RunError("store_unavailable", "the store does not answer", "Wait."),
)
LATER = timedelta(minutes=10)


def complete(after: timedelta) -> Run:
    """A run that began so long after the failed one."""
    at = INSTANT + after
    return replace(
        FAILED, id=run_id(at), status="succeeded", started_at=at, finished_at=at, error=None
    )


def failed(after: timedelta) -> Run:
    """The same."""
    at = INSTANT + after
    return replace(FAILED, id=run_id(at), started_at=at, finished_at=at)


def run_id(at: datetime) -> str:
    """As a run that begins then would have it."""
    return f"{at:%Y%m%dT%H%M%SZ}-ab12cd34"


COMPLETE = complete(LATER)


@dataclass
class Host:
    """What one host knows, and its run log."""

    state: HostState
    log: RunLog
    attempts: Attempts

    def made(self, run: Run) -> None:
        """It has made a backup, or tried to."""
        self.log.start(replace(run, status="running", finished_at=None, error=None))
        self.log.finish(run)
        self.attempts.note(run)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedLive]:
    """What the hosts share."""
    with shared_live(tmp_path / "shared") as live:
        yield live


@contextmanager
def host_in(folder: Path, shared: SharedLive | None) -> Iterator[Host]:
    """A host with records of its own; one that is started again knows what it knew."""
    folder.mkdir(exist_ok=True)
    with closing(open_records(folder)) as records:
        state = HostState(records, shared.database("inbox") if shared else None)
        log = RunLog(records)
        attempts = Attempts(
            log,
            state.common,
            lambda: INSTANT + timedelta(days=1),
            lambda run: run.set_id != "one source",
        )
        yield Host(state, log, attempts)


@pytest.fixture
def hosts(tmp_path: Path, shared: SharedLive) -> Iterator[tuple[Host, Host]]:
    with ExitStack() as stack:
        one, other = (stack.enter_context(host_in(tmp_path / name, shared)) for name in "ab")
        yield one, other


def test_what_one_host_notes_the_other_knows(hosts: tuple[Host, Host]) -> None:
    """The rehearsal, the second place, what it took for the first, and who keeps the kit."""
    one, other = (host.state for host in hosts)
    one.set_last_drill(DRILL)
    one.second.begin(PLACE, INSTANT)
    one.second.note(CopyState(INSTANT, INSTANT, points=3))
    one.second.note_stand_in(StandIn(INSTANT, sets=("20261122T010000Z",)), PLACE)
    one.second.note_drill("first")
    one.kit.keep("0123", INSTANT)

    assert other.last_drill() == DRILL
    assert other.second.begun_at(PLACE) == INSTANT
    state = other.second.state(PLACE)
    assert state is not None
    assert state.points == 3
    stand_in = other.second.stand_in(PLACE)
    assert stand_in is not None
    assert stand_in.sets == ("20261122T010000Z",)
    assert other.second.drilled_last() == "first"
    kept = other.kit.kept()
    assert kept is not None
    assert kept.fingerprint == "0123"

    other.second.note_stand_in(None, PLACE)
    assert one.second.stand_in(PLACE) is None


def test_while_the_database_is_away_a_host_knows_what_it_has_noted(
    hosts: tuple[Host, Host], shared: SharedLive
) -> None:
    """And a page that asks for many things waits for it once."""
    one, other = (host.state for host in hosts)
    one.set_last_drill(DRILL)
    shared.away, shared.asked = True, 0
    for _ in range(5):
        assert one.last_drill() == DRILL
    assert shared.asked == 1
    assert other.last_drill() is None
    with pytest.raises(DatabaseUnreachable):
        one.kit.keep("0123", INSTANT)
    assert one.kit.kept() is not None, "noted here before it failed there"


def test_the_only_host_brings_what_it_knew(tmp_path: Path, shared: SharedLive) -> None:
    """It is told once: what the hosts know since then is newer than what a host has in its file."""
    newer = replace(DRILL, set_id="20261123T010000Z")
    with host_in(tmp_path / "a", None) as alone:
        alone.state.set_last_drill(DRILL)
        alone.state.set_swept_at(INSTANT)
    with ExitStack() as stack:
        one, other = (stack.enter_context(host_in(tmp_path / name, shared)) for name in "ab")
        other.state.offer_what_is_common()
        assert other.state.last_drill() is None
        one.state.offer_what_is_common()
        assert other.state.last_drill() == DRILL
        assert other.state.swept_at() is None, "it is that host's own"

        other.state.set_last_drill(newer)
        one.state.offer_what_is_common()
        assert one.state.last_drill() == newer


def test_a_database_that_does_not_answer_keeps_no_host_from_starting(
    hosts: tuple[Host, Host], shared: SharedLive
) -> None:
    """It is told at the next start."""
    shared.away = True
    hosts[0].state.offer_what_is_common()


def test_a_failed_backup_of_one_host_is_known_to_all(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name of that host, until any of them has made a complete one."""
    one, other = hosts
    assert not other.attempts.are_known()
    monkeypatch.setattr(module, "this_host", lambda: "fox")
    one.made(FAILED)
    assert one.attempts.unresolved_failure() == FAILED
    monkeypatch.setattr(module, "this_host", lambda: "owl")
    found = other.attempts.unresolved_failure()
    assert found is not None
    assert found.error is not None
    assert found.error.message == "the store does not answer (on the host fox)"
    assert other.attempts.are_known()

    other.made(replace(complete(LATER / 2), set_id="one source"))
    assert other.attempts.unresolved_failure() is not None
    other.made(COMPLETE)
    assert other.attempts.unresolved_failure() is None
    assert one.attempts.unresolved_failure() is None


def test_what_the_others_could_not_be_told_is_told_later(
    hosts: tuple[Host, Host], shared: SharedLive
) -> None:
    """The database did not answer when the run ended."""
    one, other = hosts
    other.made(complete(-LATER))
    shared.away = True
    with pytest.raises(DatabaseUnreachable):
        one.made(FAILED)
    shared.away = False
    assert one.attempts.unresolved_failure() == FAILED
    assert other.attempts.unresolved_failure() is None

    one.attempts.tell()
    assert other.attempts.unresolved_failure() is not None


def test_what_was_not_told_is_outdone_by_a_later_run_of_another_host(
    hosts: tuple[Host, Host], shared: SharedLive
) -> None:
    """A failure by a complete one, and a complete one by a failure."""
    one, other = hosts
    shared.away = True
    with pytest.raises(DatabaseUnreachable):
        one.made(FAILED)
    shared.away = False
    other.made(COMPLETE)
    assert one.attempts.unresolved_failure() is None
    one.attempts.tell()
    assert other.attempts.unresolved_failure() is None, "the older one is told too late"

    shared.away = True
    with pytest.raises(DatabaseUnreachable):
        one.made(complete(2 * LATER))
    shared.away = False
    other.made(failed(3 * LATER))
    assert one.attempts.unresolved_failure() is not None


def test_a_frozen_host_that_ends_its_run_late_changes_nothing(hosts: tuple[Host, Host]) -> None:
    """Another has begun a run since, and ended it."""
    one, other = hosts
    other.made(COMPLETE)
    one.made(replace(FAILED, finished_at=INSTANT + 2 * LATER))
    assert one.attempts.unresolved_failure() is None
    assert other.attempts.unresolved_failure() is None

    other.made(failed(3 * LATER))
    one.made(replace(complete(2 * LATER), finished_at=INSTANT + 4 * LATER))
    assert one.attempts.unresolved_failure() is not None


def test_a_run_that_began_in_the_future_is_outdone_by_the_next(hosts: tuple[Host, Host]) -> None:
    """The clock of that host was wrong."""
    one, other = hosts
    one.made(failed(timedelta(days=4000)))
    assert other.attempts.unresolved_failure() is not None
    other.made(COMPLETE)
    assert one.attempts.unresolved_failure() is None


def test_each_host_notes_what_all_know(hosts: tuple[Host, Host], shared: SharedLive) -> None:
    """So that it is not far behind when the database is away, and knows what is over."""
    one, other = (host.state for host in hosts)
    other.common.mirror()  # there is nothing yet
    one.set_last_drill(DRILL)
    one.succeed("0123abcd")
    one.second.note_stand_in(StandIn(INSTANT), PLACE)
    one.set_swept_at(INSTANT)
    other.common.mirror()
    one.second.note_stand_in(None, PLACE)
    one.set_last_drill(replace(DRILL, rows=13))
    other.common.mirror()

    shared.away = True
    assert other.last_drill() == replace(DRILL, rows=13)
    assert other.predecessors() == {"0123abcd": None}
    assert other.second.stand_in(PLACE) is None
    assert other.swept_at() is None


def test_a_set_that_one_host_removes_is_missed_by_none(hosts: tuple[Host, Host]) -> None:
    """For a year."""
    one, other = (host.state.deeds for host in hosts)
    assert not other.is_doomed("20261122T010000Z")
    one.note_doomed("20261122T010000Z", INSTANT)
    assert other.is_doomed("20261122T010000Z")
    one.note_doomed("20271101T010000Z", INSTANT + timedelta(days=364))
    assert other.is_doomed("20261122T010000Z")
    one.note_doomed("20271130T010000Z", INSTANT + timedelta(days=366))
    assert not other.is_doomed("20261122T010000Z")
    assert other.is_doomed("20271101T010000Z")


def test_an_older_restore_is_not_undone(hosts: tuple[Host, Host]) -> None:
    """Another host has restored since; what this one has put aside is older than that."""
    one, other = (host.state for host in hosts)
    restore = RestoreRecord("20261122T010000Z-ab12", "20261121T010000Z", INSTANT, ())
    one.set_last_restore(restore)
    assert not one.deeds.was_restored_elsewhere(restore.run_id)
    later = replace(restore, run_id="20261122T020000Z-ab12")
    other.begin_switch(Switch(later, Replaced("tokens", "nothing", None)))
    assert not one.deeds.was_restored_elsewhere(restore.run_id)
    other.end_switch(later)
    assert one.deeds.was_restored_elsewhere(restore.run_id)
    assert not other.deeds.was_restored_elsewhere(later.run_id)


def test_a_host_alone_writes_no_outcome(tmp_path: Path) -> None:
    """Its run log says it."""
    with host_in(tmp_path / "a", None) as alone:
        alone.made(FAILED)
        assert alone.attempts.unresolved_failure() == FAILED
        alone.made(COMPLETE)
        assert alone.attempts.unresolved_failure() is None
        alone.state.deeds.note_doomed("20261122T010000Z", INSTANT)
        alone.state.deeds.note_restore(FAILED.id)
        rows = alone.state.common.read_own(
            lambda own: own.execute("SELECT name FROM facts").fetchall()
        )
        assert rows == []
