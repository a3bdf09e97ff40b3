"""A clock that was wrong, and times that a stranger has planted: what they must not do."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.decisions.protection import GRACE
from backups.decisions.restore_plan import choose
from backups.decisions.retention import RetentionPolicy
from backups.doctor import examine
from backups.errors import NoRestorePoint
from backups.format import naming
from backups.format.acceptance import Acceptance, dump_acceptance
from backups.format.manifest import dump_verdict
from backups.http.metrics import BackupCollector
from backups.model import BackupSet, ProofLevel, Verdict
from backups.page import overview
from backups.scheduling.change_follower import ChangeFollower
from backups.view import restore_text, text
from shared.errors import DatabaseMissing
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import write
from tests.support.installation import settings_of
from tests.support.marks import signed
from tests.support.records import INSTANT, a_manifest, a_set

AHEAD = {"a year": timedelta(days=365), "eight hours": timedelta(hours=8)}
FAR = [
    datetime(2099, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
NEXT_DUE = INSTANT + timedelta(days=1)


@contextmanager
def ahead_once(folder: Path, by: timedelta, **changes: Any) -> Iterator[tuple[Bench, BackupSet]]:
    """A host that made a right set at 01:00, and one under a clock that was ahead since; that one.

    The clock was put right: it is 01:30.
    """
    clock = FixedClock(INSTANT)
    with open_bench(folder, DirectoryStore(folder / "store"), clock=clock, **changes) as bench:
        bench.made("scheduled")
        clock.advance(minutes=20)
        clock.advance(seconds=by.total_seconds())
        ahead = bench.made("catch-up")
        clock.advance(minutes=10, seconds=-by.total_seconds())
        yield bench, ahead


def clock_of(bench: Bench) -> FixedClock:
    """The clock of its service."""
    assert isinstance(bench.service.clock, FixedClock)
    return bench.service.clock


@pytest.mark.parametrize("by", AHEAD.values(), ids=AHEAD)
def test_the_set_of_a_clock_that_was_ahead_does_not_stop_the_schedule(
    tmp_path: Path, by: timedelta
) -> None:
    """A run is owed at the next due instant, overdue after grace, and made when it is tried."""
    with ahead_once(tmp_path, by) as (bench, ahead):
        clock, own_sets = clock_of(bench), bench.service.own_sets
        assert not own_sets.is_owed("scheduled")  # the right set is as young as the due instant
        clock.advance(seconds=(NEXT_DUE - clock.now()).total_seconds())
        assert own_sets.is_owed("scheduled")
        clock.advance(seconds=GRACE.total_seconds() + 1)
        assert "overdue" in bench.problems()

        run = bench.service.backup.run_if_owed("catch-up")

        assert run is not None
        assert run.status == "succeeded", run.error
        assert "overdue" not in bench.problems()
        assert not own_sets.is_owed("scheduled")
        newest = own_sets.latest()
        assert newest is not None
        assert newest.id == run.set_id
        assert (newest.sequence, ahead.sequence) == (3, 2)


@pytest.mark.parametrize("by", AHEAD.values(), ids=AHEAD)
def test_latest_is_the_newest_right_set(tmp_path: Path, by: timedelta) -> None:
    """For status, restores, drills, suspicion and the page; the set of the future is named."""
    with ahead_once(tmp_path, by) as (bench, ahead):
        service, right = bench.service, bench.stored_ids()[0]
        status = service.status()

        assert status.newest_restore_point is not None
        assert status.newest_restore_point.id == right
        assert service.catalogue.future() == (ahead.id,)
        assert service.own_sets.required_latest().id == right
        newest = service.catalogue.newest_protecting(service.own_sets.ours())
        made = service.own_sets.newest_made()
        assert newest is not None
        assert made is not None
        assert (newest.id, made.id) == (right, right)
        assert service.restore.plan().backup_set.id == right
        assert bench.restored("latest").set_id == right
        assert bench.service.drill.begin().execute().set_id == right
        assert service.catalogue.newest_drilled() == right


def test_its_own_id_reaches_it_and_no_age_of_it_is_printed(tmp_path: Path) -> None:
    """It can be restored by its id, or by naming a time; its age reads as what it is."""
    with ahead_once(tmp_path, timedelta(hours=8)) as (bench, ahead):
        plan = bench.service.restore.plan(ahead.id)
        at = bench.service.restore.plan(at=ahead.created_at)
        shown = restore_text.plan(plan, to=None, ask=True)

        assert at.backup_set.id == plan.backup_set.id == ahead.id
        assert "7 h 50 min in the future" in shown
        assert "0 min 0 s" not in shown


def test_when_it_is_past_it_is_older_than_what_was_made_after_it(tmp_path: Path) -> None:
    """Its time comes, and passes: the sets with a higher number stay the newer ones."""
    with ahead_once(tmp_path, timedelta(hours=8)) as (bench, ahead):
        service = bench.service
        after = bench.made("scheduled")
        assert next(service.catalogue.sets()).id == ahead.id
        clock_of(bench).advance(hours=9)

        assert service.catalogue.future() == ()
        assert [one.id for one in service.catalogue.sets()][:2] == [after.id, ahead.id]
        assert service.own_sets.required_latest() == after
        assert service.restore.plan().backup_set == after
        assert [one.id for one in service.catalogue.points()][:2] == [after.id, ahead.id]


def test_change_sets_do_not_thin_out_around_it(tmp_path: Path) -> None:
    """It stands for no period, and is kept even where there is room for nothing."""
    with ahead_once(tmp_path, timedelta(minutes=20), retention=RetentionPolicy()) as (bench, ahead):
        clock = clock_of(bench)
        changes = []
        for _ in range(4):  # of the hour in which the set of the future seems to be made
            clock.advance(seconds=20)
            changes.append(bench.made("change").id)
        plan = bench.service.own_sets.plan_prune()
        kept = {one.backup_set.id: one for one in plan.keep}

        assert set(changes) <= kept.keys()
        assert kept[ahead.id].reasons[0] == "its time lies in the future"
        assert kept[ahead.id].protected
        assert "newest proven" not in kept[ahead.id].reasons
        assert "newest proven" in kept[changes[-1]].reasons


def test_the_follower_begins_with_the_newest_right_set(tmp_path: Path) -> None:
    """A change that nobody watched is not hidden by a set of the future."""
    with ahead_once(tmp_path, timedelta(hours=8)) as (bench, _):
        write(bench.tokens, "DELETE FROM tokens WHERE rowid = 7")
        for file in bench.tokens.parent.glob("tokens.db*"):
            os.utime(file, times=(0, clock_of(bench).now().timestamp()))
        follower = ChangeFollower(bench.service, timedelta(seconds=1))
        try:
            clock_of(bench).advance(minutes=1)
            run = follower.step()
        finally:
            follower.close()
        assert run is not None
        assert run.status == "succeeded"


def plant(store: ObjectStore, one: BackupSet) -> None:
    """Put a manifest and its objects into the store, as anybody with a bucket key can."""
    for stored in one.objects:
        store.put(stored.key, io.BytesIO(bytes(stored.bytes)), {"set-id": one.id})
    store.put(naming.manifest_key(PREFIX, one.id), io.BytesIO(a_manifest(one)), {})


@pytest.mark.parametrize("instant", FAR, ids=str)
def test_a_planted_set_of_the_future_stops_nothing(tmp_path: Path, instant: datetime) -> None:
    """Status, page, metrics, doctor, list, prune and run answer; it counts for nothing."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, settings={}, clock=clock) as bench:
        bench.write("genset")
        service, made = bench.service, bench.made("scheduled")
        forged = a_set(instant, instance=made.instance, sequence=2**53, proven_at=instant)
        plant(bench.store, forged)
        foreign = a_set(instant - timedelta(days=1), instance="another", proven_at=instant)
        plant(bench.store, foreign)
        assert service.own_sets.refresh() is None
        clock.advance(minutes=1)

        status = service.status()
        assert status.newest_restore_point == made
        assert "two_writers" not in bench.problems()
        assert "0 min 0 s" not in text.status(status, clock.now())
        found = overview.gather(service, clock.now())
        assert [point.set_id for point in found.points] == [made.id]
        assert found.suspect_set is None
        assert list(BackupCollector(service).collect())
        lines = examine(settings_of(bench.installation), service).lines
        assert not [line for line in lines if line.level == "problem" and line.subject == "store"]
        assert text.sets(service.list_sets(10)[0], more=False)
        reasons = {one.backup_set.id: one.reasons for one in service.own_sets.plan_prune().keep}
        assert {forged.id, foreign.id} <= {
            set_id for set_id in reasons if "its time lies in the future" in reasons[set_id]
        }
        again = bench.made()
        assert again.sequence == 2**53  # the highest there is
        assert service.own_sets.required_latest() == again
        clock.advance(days=1)
        assert service.own_sets.is_owed("scheduled")
        run = service.backup.run_if_owed("scheduled")
        assert run is not None
        assert run.status == "succeeded", run.error
        assert service.own_sets.required_latest().id == run.set_id
        assert bench.prune().status == "succeeded"
        assert {forged.id, foreign.id} <= set(bench.stored_ids())


@pytest.mark.parametrize("proof", ["full", "none"])
def test_a_verdict_of_the_future_yields_to_the_next_one(tmp_path: Path, proof: ProofLevel) -> None:
    """A failed proof counts until there is another; a good one of then never does."""
    later = INSTANT + timedelta(days=365)
    with open_bench(
        tmp_path, DirectoryStore(tmp_path / "store"), clock=FixedClock(INSTANT)
    ) as bench:
        made = bench.made()
        key = naming.verdict_key(PREFIX, made.id, "proof", later)
        verdict = dump_verdict(Verdict(made.id, later, proof, "as planted"))
        bench.store.put(key, io.BytesIO(signed(key, verdict)), {})
        bench.service.own_sets.refresh()

        judged = bench.service.catalogue.get(made.id)
        assert judged.protects == (proof == "full")
        assert judged.proven_at == (made.proven_at if proof == "full" else None)

        clock_of(bench).advance(minutes=1)
        assert bench.verify(made.id).status == "succeeded"
        proven = bench.service.catalogue.get(made.id)
        assert proven.proven_at == clock_of(bench).now()
        assert bench.service.own_sets.required_latest().id == made.id


def test_an_acceptance_of_the_future_accepts_nothing(tmp_path: Path) -> None:
    """A person accepts what was found up to now, and not what will be."""
    with open_bench(
        tmp_path, DirectoryStore(tmp_path / "store"), clock=FixedClock(INSTANT)
    ) as bench:
        suspect = a_set(INSTANT - timedelta(hours=1), suspect=("empty",))
        plant(bench.store, suspect)
        key = naming.verdict_key(PREFIX, suspect.id, "accept", INSTANT + timedelta(days=9))
        accepted = dump_acceptance(Acceptance(suspect.id, INSTANT, reasons=("empty",)))
        bench.store.put(key, io.BytesIO(signed(key, accepted)), {})
        bench.service.own_sets.refresh()

        assert bench.service.catalogue.get(suspect.id).suspect == ("empty",)
        assert bench.service.catalogue.latest() is None
        clock_of(bench).advance(days=10)
        assert bench.service.catalogue.latest() is not None  # its time has come


def test_a_proof_of_the_future_proves_as_of_the_set(tmp_path: Path) -> None:
    """The clock was ahead between snapshot and proof: the set counts, with no later time."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=clock) as bench:
        plant(bench.store, a_set(proven_at=INSTANT + timedelta(days=365)))
        bench.service.own_sets.refresh()
        latest = bench.service.catalogue.latest()
        assert latest is not None
        assert latest.proven_at == INSTANT


def test_a_host_whose_clock_is_behind_does_not_begin_empty(tmp_path: Path) -> None:
    """All restore points lie in its future: the start names the clock and the id to restore."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=clock) as bench:
        made = bench.made()
        bench.tokens.unlink()
        clock.advance(days=-300)

        with pytest.raises(DatabaseMissing, match=made.id) as caught:
            bench.service.restore_on_empty.restore_missing()
        assert "clock" in caught.value.hint
        with pytest.raises(NoRestorePoint, match=made.id):
            bench.service.own_sets.required_latest()
        assert choose([made], made.id, None) == made


def test_when_the_backups_began_is_corrected_by_a_clock_put_right(tmp_path: Path) -> None:
    """A host that began under a clock of next year is overdue all the same."""
    clock = FixedClock(INSTANT + timedelta(days=365))
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=clock) as bench:
        bench.facts.note_begun(clock.now())
        clock.advance(days=-365)
        bench.facts.note_begun(clock.now())
        assert bench.facts.begun_at() == INSTANT
        clock.advance(days=2)
        assert "overdue" in bench.problems()


def test_runs_of_one_second_have_ids_of_their_own(tmp_path: Path) -> None:
    """Under a clock that stands, an id has enough that is random for many thousand runs."""
    with open_bench(
        tmp_path, DirectoryStore(tmp_path / "store"), clock=FixedClock(INSTANT)
    ) as bench:
        run = bench.run()
        assert len(run.id.removeprefix(f"{naming.stamp(INSTANT)}-")) == 8
