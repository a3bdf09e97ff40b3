"""Histories of two installations in one place: whose sets are meant, counted and removed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.decisions.restore_plan import LiveState
from backups.decisions.retention import RetentionPolicy
from backups.errors import NoRestorePoint, SeveralInstallations
from backups.format import naming
from backups.format.instance import InstanceDocument, dump_instance, load_instance
from backups.model import BackupSet, Source
from backups.operations.replace import Replacement
from backups.scheduling.due_runs import DueRuns
from shared.errors import DatabaseMissing
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, count_rows, make_database
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore

STRICT = RetentionPolicy(changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@contextmanager
def host(folder: Path, store: WatchedStore, clock: FixedClock, **changes: Any) -> Iterator[Bench]:
    """An installation with databases, and a `BACKUP_DIR` of its own."""
    with open_bench(folder, store, clock=clock, **changes) as bench:
        yield bench


@pytest.fixture
def production(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """Six days of sets."""
    with host(tmp_path / "production", store, clock, rows=90) as bench:
        nightly(bench, clock, nights=6)
        yield bench


@pytest.fixture
def staging(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """Other data, and the strictest retention; no set yet."""
    with host(tmp_path / "staging", store, clock, rows=7, retention=STRICT) as bench:
        yield bench


@pytest.fixture
def fresh(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """A new host, without any database."""
    with host(tmp_path / "fresh", store, clock, retention=STRICT) as bench:
        empty(bench)
        yield bench


def nightly(bench: Bench, clock: FixedClock, *, nights: int = 1) -> list[BackupSet]:
    """A set on each of so many days."""
    made = []
    for _ in range(nights):
        clock.advance(days=1)
        add_rows(bench.tokens, 1)
        made.append(bench.made("scheduled"))
    return made


def empty(bench: Bench) -> None:
    """Remove the live databases."""
    for source in bench.sources:
        source.path.unlink()


def me(bench: Bench) -> str:
    return bench.directory.instance()


def ours(bench: Bench) -> set[str]:
    return set(bench.service.own_sets.ours())


def sets_of(bench: Bench) -> list[str]:
    """The ids of the sets in the store that the installation of `bench` itself made."""
    bench.service.own_sets.refresh()
    found = (bench.service.catalogue.get(set_id) for set_id in bench.stored_ids())
    return [one.id for one in found if one.instance == me(bench) and one.kind == "set"]


def document(bench: Bench) -> InstanceDocument | None:
    """What the store says of this installation."""
    found = []
    for one in bench.store.list(naming.instances_prefix(PREFIX)):
        parsed = naming.parse_instance_document_key(PREFIX, one.key)
        if parsed and parsed[0] == me(bench):
            found.append(load_instance(bench.bytes_of(one.key), instance=parsed[0], at=parsed[1]))
    return max(found, key=lambda one: one.at, default=None)


def begin_empty(bench: Bench, clock: FixedClock) -> BackupSet:
    """Start the app of a host without databases, which makes new ones, and a set; it is suspect."""
    bench.service.restore_on_empty.note_missing()
    clock.advance(minutes=1)
    for source in bench.sources:
        if not source.path.exists():
            make_database(source.path, 1)
    made = bench.made("scheduled")
    assert made.suspect
    return made


# --- latest and --at ----------------------------------------------------------------------------


def test_an_installation_with_sets_never_takes_a_newer_one_of_another(
    production: Bench, staging: Bench, clock: FixedClock
) -> None:
    """Status, restore, `--at`, drill and verify all mean the newest of our own."""
    own = sets_of(production)[-1]
    theirs = nightly(staging, clock)[0]
    production.service.own_sets.refresh()

    restore, now = production.service.restore, clock.now()
    assert restore.plan().backup_set.id == own
    assert restore.plan(at=now).backup_set.id == own
    assert restore.plan(theirs.id).backup_set.id == theirs.id
    newest = production.service.status().newest_restore_point
    assert newest is not None
    assert newest.id == own
    assert production.verify().set_id == own
    assert production.service.drill.begin().execute().set_id == own


def test_at_a_time_before_our_first_set_there_is_none(
    production: Bench, staging: Bench, clock: FixedClock
) -> None:
    """What another installation had then is not ours to take."""
    nightly(staging, clock)
    staging.service.own_sets.refresh()

    with pytest.raises(NoRestorePoint):
        staging.service.restore.plan(at=INSTANT + timedelta(days=3))


def test_what_was_set_aside_is_still_our_own(
    production: Bench, staging: Bench, clock: FixedClock
) -> None:
    """An installation whose good sets were all passed over chooses nothing of another's."""
    nightly(staging, clock)
    clock.advance(days=1)
    staging.restored(sets_of(production)[0])
    assert all(staging.service.catalogue.get(one).set_aside for one in sets_of(staging))

    with pytest.raises(NoRestorePoint):
        staging.service.restore.plan()


# --- what makes a successor ---------------------------------------------------------------------


@pytest.mark.parametrize("only", ["sessions", "tokens", None])
def test_a_restore_onto_data_of_its_own_makes_no_successor(
    production: Bench, staging: Bench, clock: FixedClock, only: str | None
) -> None:
    """Staging takes production's data, in part or whole: it prunes none, and both still warn."""
    nightly(staging, clock)
    before = sets_of(production)

    staging.restored(before[-1], only=only)

    assert ours(staging) == {me(staging)}
    nightly(staging, clock, nights=2)
    assert staging.prune().status == "succeeded"
    assert sets_of(production) == before
    nightly(production, clock)
    staging.service.own_sets.refresh()
    assert "two_writers" in staging.problems()


@pytest.mark.parametrize("only", ["sessions", "tokens"])
def test_a_part_makes_no_successor_on_an_empty_host(
    production: Bench, fresh: Bench, only: str
) -> None:
    """Neither one source of two, nor the other one after it."""
    fresh.restored(only=only)
    assert ours(fresh) == {me(fresh)}

    fresh.restored(only={"tokens": "sessions", "sessions": "tokens"}[only])
    assert ours(fresh) == {me(fresh)}


def test_data_that_was_never_backed_up_is_data_of_its_own(
    production: Bench, staging: Bench
) -> None:
    """A host that works, and made no set yet, does not become another by a restore."""
    staging.restored(sets_of(production)[-1])

    assert ours(staging) == {me(staging)}


def test_a_whole_restore_onto_an_empty_host_makes_a_successor(
    production: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """It is said in the store at once, the numbers go on, and retention covers both."""
    before = sets_of(production)
    clock.advance(days=1)

    fresh.restored()

    assert ours(fresh) == {me(fresh), me(production)}
    said = document(fresh)
    assert said is not None
    assert said.succeeds == (me(production),)
    assert nightly(fresh, clock, nights=2)[0].sequence == 7
    assert fresh.prune().status == "succeeded"
    assert sets_of(production) == []
    assert len(before) == 6
    assert "two_writers" not in fresh.problems()


def test_a_host_that_was_begun_empty_becomes_the_successor(
    production: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """Whatever suspect sets it has made since: `latest` is the newest of the one line."""
    newest = sets_of(production)[-1]
    begin_empty(fresh, clock)
    begin_empty(fresh, clock)
    assert ours(fresh) == {me(fresh)}

    run = fresh.restored()

    assert run.set_id == newest
    assert ours(fresh) == {me(fresh), me(production)}
    assert count_rows(fresh.tokens) == count_rows(production.tokens)


def test_a_start_that_restores_makes_a_successor(
    production: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """BACKUP_RESTORE_ON_EMPTY carries the line on as the command does."""
    run = fresh.service.restore_on_empty.restore_missing()

    assert run is not None
    assert ours(fresh) == {me(fresh), me(production)}


@pytest.mark.parametrize("finished_by", ["the command", "the start"])
def test_a_restore_that_stopped_between_the_databases_is_finished_to_a_successor(
    production: Bench, fresh: Bench, finished_by: str
) -> None:
    """The first database is there then, and is no data of its own."""

    install = Replacement.install

    def only_the_first(
        self: Replacement, source: Source, staged: Path, seen: LiveState | None = None
    ) -> None:
        if fresh.tokens.exists():
            raise OSError(5, "the disk has a fault", "staged")
        install(self, source, staged, seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replacement, "install", only_the_first)
        assert fresh.restore().status == "failed"
    assert fresh.tokens.exists()
    assert not fresh.sessions.exists()
    assert ours(fresh) == {me(fresh)}

    if finished_by == "the command":
        fresh.restored()
    else:
        assert fresh.service.restore_on_empty.restore_missing() is not None

    assert ours(fresh) == {me(fresh), me(production)}


def test_the_right_set_after_the_wrong_one(
    production: Bench, staging: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """A host that restored staging by mistake, and then production, carries on production alone."""
    (wrong,) = nightly(staging, clock)
    right = sets_of(production)[-1]

    fresh.restored(wrong.id)
    assert ours(fresh) == {me(fresh), me(staging)}
    fresh.restored(right)

    assert ours(fresh) == {me(fresh), me(production)}
    said = document(fresh)
    assert said is not None
    assert said.succeeds == (me(production),)


# --- it ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["restore", "adopt"])
def test_succession_ends_when_the_predecessor_publishes_again(
    production: Bench, fresh: Bench, staging: Bench, clock: FixedClock, by: str
) -> None:
    """Its sets are its own again: `two_writers` is back, and retention leaves them alone."""
    heir = fresh if by == "restore" else staging
    clock.advance(days=3)
    if by == "restore":
        heir.restored()
    else:
        heir.service.adoption.adopt(me(production))
    assert me(production) in ours(heir)
    assert "two_writers" not in heir.problems()

    before = [*sets_of(production), *(one.id for one in nightly(production, clock))]
    heir.service.own_sets.refresh()

    assert ours(heir) == {me(heir)}
    assert "two_writers" in heir.problems()
    nightly(heir, clock, nights=2)
    assert heir.prune().status == "succeeded"
    assert sets_of(production) == before
    said = document(heir)
    assert said is not None
    assert said.succeeds == ()
    assert heir.facts.predecessors() == {}


def test_a_living_one_loses_nothing_before_it_publishes_again(
    production: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """A new host that restores the data of one that works has to wait before it prunes for it."""
    before = sets_of(production)
    fresh.restored()
    clock.advance(minutes=5)
    add_rows(fresh.tokens, 1)
    assert fresh.made().protects

    assert fresh.prune().status == "succeeded"

    assert sets_of(production) == before
    reasons = [one.reasons for one in fresh.service.own_sets.plan_prune().keep]
    assert any("its installation was taken over, and may still make sets" in one for one in reasons)


def test_a_set_from_before_the_takeover_that_is_learnt_late_ends_nothing(
    production: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """Records that are made anew learn the same succession from the store, and it goes on."""
    clock.advance(days=3)
    fresh.restored()
    nightly(fresh, clock)
    for file in fresh.directory.path.glob("runs.db*"):
        file.unlink()

    nightly(fresh, clock)

    assert ours(fresh) == {me(fresh), me(production)}


# --- what an older version left -----------------------------------------------------------------


def forget_documents(bench: Bench) -> None:
    """The store as an older version left it: nobody says who he is."""
    for one in list(bench.store.list(naming.instances_prefix(PREFIX))):
        if naming.parse_instance_document_key(PREFIX, one.key):
            bench.store.delete(one.key)
    bench.facts.set_instances("")


def test_the_first_start_says_what_runs_db_knows(
    production: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """An older version noted a predecessor on the host alone; the next host must know it too."""
    clock.advance(days=3)
    fresh.restored()
    fresh.facts.succeed(me(production))
    forget_documents(fresh)

    DueRuns(fresh.service)._begin()

    said = document(fresh)
    assert said is not None
    assert said.succeeds == (me(production),)
    assert said.last_sets[me(production)].sequence == 6
    nightly(production, clock)
    fresh.service.own_sets.refresh()
    assert ours(fresh) == {me(fresh)}


def test_a_start_whose_store_is_away_goes_on(
    production: Bench, fresh: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """What cannot be said now is said by the next run."""
    fresh.restored()
    forget_documents(fresh)
    store.calls.clear()
    store.break_at("put", 0)

    DueRuns(fresh.service)._begin()

    store.mend()
    assert document(fresh) is None
    nightly(fresh, clock)
    assert document(fresh) is not None


def test_a_living_predecessor_of_an_older_version_is_left_alone(
    production: Bench, staging: Bench, clock: FixedClock
) -> None:
    """A restore of one source had made staging its successor, and nothing said since when."""
    nightly(staging, clock)
    nightly(production, clock)
    staging.facts.succeed(me(production))
    forget_documents(staging)
    before = sets_of(production)

    nightly(staging, clock, nights=2)
    assert staging.prune().status == "succeeded"

    assert sets_of(production) == before
    assert ours(staging) == {me(staging)}
    assert staging.facts.predecessors() == {}


# --- BACKUP_DIR is lost -------------------------------------------------------------------------


def test_the_sets_from_before_backup_dir_was_lost_are_adopted_not_orphaned(
    tmp_path: Path, production: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The remedy of `two_writers` adopts them; then they are pruned as our own."""
    with host(
        tmp_path, store, clock, sources=production.sources, directory="anew", retention=STRICT
    ) as after:
        clock.advance(hours=1)
        assert after.made().protects
        (hint,) = [
            one.hint for one in after.service.status().health.problems if one.code == "two_writers"
        ]
        assert f"./bot backups adopt {me(production)}." in hint

        after.service.adoption.adopt(me(production))
        nightly(after, clock, nights=3)

        assert after.prune().status == "succeeded"
        assert sets_of(production) == []
        assert after.problems() == []


# --- an installation without sets ---------------------------------------------------------------


def test_the_line_of_one_that_was_itself_restored(
    tmp_path: Path, production: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The third host means the second one's newest, and carries on the first one's sets too."""
    clock.advance(days=3)
    with host(tmp_path / "second", store, clock) as second:
        empty(second)
        second.restored()
        newest = nightly(second, clock, nights=2)[-1]
    with host(tmp_path / "third", store, clock) as third:
        empty(third)

        plan = third.service.restore.plan()

        assert plan.backup_set.id == newest.id
        assert plan.made_elsewhere
        assert plan.host is not None
        assert third.restored().set_id == newest.id
        assert ours(third) == {me(third), me(second), me(production)}


def test_the_line_of_older_versions_is_told_by_the_time(
    tmp_path: Path, production: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Nobody said anything: what ended before another began is its predecessor."""
    clock.advance(days=3)
    with host(tmp_path / "second", store, clock) as second:
        newest = nightly(second, clock)[0]
        forget_documents(second)
    with host(tmp_path / "third", store, clock) as third:
        empty(third)

        assert third.service.restore.plan().backup_set.id == newest.id
        assert third.service.restore.plan().host is None
        third.restored()
        assert ours(third) == {me(third), me(second), me(production)}


def test_between_two_installations_nothing_is_chosen(
    production: Bench, staging: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """Restore, `--at`, drill, verify and a start name both with their commands; status has none."""
    nightly(staging, clock)
    nightly(production, clock)
    expected = {
        f"./bot backups restore {sets_of(bench)[-1]} --in-place --yes or "
        f"./bot backups adopt {me(bench)}"
        for bench in (production, staging)
    }
    service, now = fresh.service, clock.now()

    for choose in (
        service.restore.plan,
        lambda: service.restore.plan(at=now),
        service.drill.begin,
        service.verify.begin,
        service.restore_on_empty.restore_missing,
    ):
        with pytest.raises(SeveralInstallations) as caught:
            choose()
        assert all(line in caught.value.hint for line in expected)
    assert service.status().newest_restore_point is None
    assert not fresh.tokens.exists()

    service.adoption.adopt(me(production))

    assert service.restore.plan().backup_set.id == sets_of(production)[-1]


def test_in_a_copy_of_their_bucket_nothing_is_chosen_either(
    tmp_path: Path, production: Bench, staging: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """The commands for each name the folder in hand."""
    nightly(staging, clock)
    nightly(production, clock)
    hand = tmp_path / "in hand"
    for key, content in production.everything().items():
        (hand / key).parent.mkdir(parents=True, exist_ok=True)
        (hand / key).write_bytes(content)
    with fresh.service.given.open(hand) as given, pytest.raises(SeveralInstallations) as caught:
        given.plan("latest", in_place=True, accept_unsigned=False, compares=False)
    for bench in (production, staging):
        line = f"./bot backups restore {sets_of(bench)[-1]} --from '{hand}' --in-place --yes"
        assert line in caught.value.hint


def test_a_successor_whose_predecessor_lives_is_another_line(
    tmp_path: Path,
    production: Bench,
    fresh: Bench,
    store: WatchedStore,
    clock: FixedClock,
) -> None:
    """What the store says of a succession that has ended joins nobody to a line."""
    clock.advance(days=3)
    fresh.restored()
    nightly(fresh, clock)
    nightly(production, clock)
    with host(tmp_path / "third", store, clock) as third:
        empty(third)
        with pytest.raises(SeveralInstallations):
            third.service.restore.plan()


def test_one_that_has_only_suspect_sets_is_no_second_line(
    tmp_path: Path,
    production: Bench,
    fresh: Bench,
    store: WatchedStore,
    clock: FixedClock,
) -> None:
    """A host that was begun empty and died has nothing to choose."""
    begin_empty(fresh, clock)
    with host(tmp_path / "third", store, clock) as third:
        empty(third)
        assert third.service.restore.plan().backup_set.id == sets_of(production)[-1]


def test_a_document_of_a_stranger_is_bounded(
    production: Bench, staging: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """One that claims what others have yet to make joins no line."""
    nightly(staging, clock)
    nightly(production, clock)
    said = document(staging)
    assert said is not None
    last = replace(
        production.service.catalogue.by_instance()[0].last_set, at=clock.now() + timedelta(days=9)
    )
    clock.advance(seconds=1)
    planted = replace(
        said, succeeds=(me(production),), last_sets={me(production): last}, at=clock.now()
    )
    key = naming.instance_document_key(PREFIX, planted.instance, planted.at)
    fresh.store.put(key, io.BytesIO(dump_instance(planted)), {})

    with pytest.raises(SeveralInstallations):
        fresh.service.restore.plan()


def test_a_start_begins_empty_only_where_there_is_no_point_of_any_kind(
    staging: Bench, fresh: Bench, clock: FixedClock
) -> None:
    """A set of one source is no `latest`, and no reason to forget it either."""
    assert fresh.service.restore_on_empty.restore_missing() is None
    clock.advance(days=1)
    part = staging.made(only="tokens")

    with pytest.raises(DatabaseMissing) as caught:
        fresh.service.restore_on_empty.restore_missing()

    assert f"the newest restore point, {part.id}, does not have all sources" in str(caught.value)
    assert f"./bot backups restore {part.id} --in-place --yes" in caught.value.hint
    assert not fresh.tokens.exists()
