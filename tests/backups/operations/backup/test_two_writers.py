"""Tests of two installations that store in one place: a mistake that is told, and harms nobody."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backups.decisions.retention import RetentionPolicy
from shared.crontab import Crontab
from shared.errors import ObjectExists
from shared.store.directory import DirectoryStore
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, count_rows, make_sources
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@contextmanager
def host(
    tmp_path: Path,
    name: str,
    store: WatchedStore,
    clock: FixedClock,
    *,
    schedule: str = "0 1 * * *",
    retention: RetentionPolicy | None = None,
) -> Iterator[Bench]:
    """An installation with databases and a `BACKUP_DIR` of its own."""
    with open_bench(
        tmp_path / name,
        store,
        clock=clock,
        schedule=Crontab(schedule),
        retention=retention or RetentionPolicy(),
    ) as bench:
        yield bench


@pytest.fixture
def one(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    with host(tmp_path, "one", store, clock) as bench:
        yield bench


@pytest.fixture
def two(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    with host(tmp_path, "two", store, clock) as bench:
        yield bench


def night(*benches: Bench) -> list[str]:
    """Each makes the set that it owes, and looks at what there is; the ids of the sets."""
    made = []
    for bench in benches:
        run = bench.service.backup.run_if_owed("scheduled")
        assert run is not None
        assert run.status == "succeeded", run.error
        assert run.set_id is not None
        made.append(run.set_id)
    for bench in benches:
        assert bench.service.own_sets.refresh() is None
        bench.service.alerts.send_alerts()
    return made


def test_both_report_each_other_with_the_remedy(one: Bench, two: Bench, clock: FixedClock) -> None:
    """Status on both has the problem, names the other and the setting, and tells it once."""
    night(one, two)

    for bench, other in ((one, two), (two, one)):
        (problem,) = bench.service.status().health.problems
        assert problem.code == "two_writers"
        assert other.directory.instance() in problem.message
        assert "BACKUP_PREFIX" in problem.hint
        assert bench.notes.titles() == ["two_writers"]
    clock.advance(days=1)
    night(one, two)
    assert one.notes.titles() == two.notes.titles() == ["two_writers"]


def test_nothing_is_overwritten_or_skipped(one: Bench, two: Bench, clock: FixedClock) -> None:
    """For a week each makes its own due set, and every byte stays as it was put."""
    stored: dict[str, bytes] = {}
    made: list[str] = []
    add_rows(two.tokens, 7)
    for _ in range(7):
        made += night(one, two)
        assert stored.items() <= one.everything().items()
        stored = one.everything()
        clock.advance(days=1)

    assert len(set(made)) == 14
    assert one.stored_ids() == sorted(made)
    for set_id in made:
        found = one.service.catalogue.get(set_id)
        rows = found.objects[0].rows["tokens"]
        assert rows == (67 if found.instance == two.directory.instance() else 60)
        assert one.service.verify.begin(set_id).execute().status == "succeeded"


def test_each_means_its_own_by_latest(one: Bench, two: Bench) -> None:
    """A restore without an id never brings the other host's data by mistake."""
    first, second = night(one, two)

    assert [
        found.id
        for found in (one.service.own_sets.latest(), two.service.own_sets.latest())
        if found
    ] == [
        first,
        second,
    ]


@pytest.mark.parametrize("moment", ["/tokens_", "/manifest.json"])
def test_two_that_publish_in_the_same_second_lose_nothing(
    one: Bench, two: Bench, store: WatchedStore, clock: FixedClock, moment: str
) -> None:
    """The set that comes second is made again in the next second; nothing is replaced or left."""
    published: dict[str, bytes] = {}

    def other_is_faster() -> None:
        made = two.made("scheduled")
        keys = {stored.key for stored in made.objects}
        keys.add(f"backups/sets/{made.id}/manifest.json")
        published.update((key, two.bytes_of(key)) for key in keys)

    store.before("put", moment, other_is_faster)
    made = one.made("scheduled")

    assert {key: one.bytes_of(key) for key in published} == published
    assert one.service.own_sets.refresh() is None
    found = list(one.service.catalogue.sets())
    assert len({each.id for each in found}) == len({each.instance for each in found}) == 2
    claimed = {stored.key for each in found for stored in each.objects}
    assert set(one.data_keys()) == claimed
    for each in found:
        assert one.service.verify.begin(each.id).execute().status == "succeeded"
    assert made.id in {each.id for each in found}


def test_a_store_that_refuses_every_key_is_named(one: Bench, store: WatchedStore) -> None:
    """A run tries another second once, and then says that the keys are taken."""

    def refuse() -> None:
        store.before("put", "/tokens_", refuse)
        raise ObjectExists("tokens is taken", "by the test")

    store.before("put", "/tokens_", refuse)
    run = one.run()
    assert run.error is not None
    assert run.error.code == "object_exists"
    assert one.manifests() == []


def test_neither_prunes_what_the_other_made(
    tmp_path: Path, store: WatchedStore, clock: FixedClock
) -> None:
    """A host with the strictest policy leaves the sets and the orphans of the other alone."""
    strict = RetentionPolicy(
        changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0, max_bytes=0
    )
    with (
        host(tmp_path, "one", store, clock) as one,
        host(tmp_path, "two", store, clock, retention=strict) as two,
    ):
        for _ in range(5):
            night(one)
            clock.advance(days=1)
        metadata = {"set-id": "20200101T000000Z", "instance": one.directory.instance()}
        store.put("backups/tokens_2020-01-01.db", io.BytesIO(b"an orphan of one"), metadata)
        theirs = one.everything()
        for _ in range(3):
            night(two)
            clock.advance(days=400)
        assert two.prune().status == "succeeded"

        assert theirs.items() <= two.everything().items()
        assert len(two.stored_ids()) == 5 + 1


def test_a_successor_by_restore_is_no_second_writer(
    tmp_path: Path, one: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """A new host that restored the old one's data carries it on, and prunes for it."""
    (made,) = night(one)
    clock.advance(hours=1)
    with open_bench(tmp_path / "new", store, clock=clock) as new:
        for source in new.sources:
            source.path.unlink()
        assert new.service.own_sets.refresh() is None
        assert new.problems() == ["host_is_empty"]  # the other's sets are what it waits for
        plan = new.service.restore.plan(made)
        assert new.service.restore.begin(plan).execute().status == "succeeded"

        assert new.problems() == []
        assert new.service.own_sets.ours() == {one.directory.instance(), new.directory.instance()}
        assert count_rows(new.tokens) == count_rows(one.tokens)
        clock.advance(days=1)
        night(new)
        assert new.problems() == []
        assert "two_writers" not in new.notes.titles()


def test_a_restore_to_a_folder_makes_no_successor(tmp_path: Path, one: Bench, two: Bench) -> None:
    """Looking at another host's data is not taking it over."""
    (made,) = night(one)
    assert two.service.own_sets.refresh() is None
    plan = two.service.restore.plan(made)
    two.service.restore.begin(plan, to=tmp_path / "look").execute()

    assert two.service.own_sets.ours() == {two.directory.instance()}
    assert "two_writers" in two.problems()


@pytest.mark.parametrize(
    ("schedule", "step_hours"), [("0 1 * * *", 24), ("0 * * * *", 1), ("0 1 * * 0", 168)]
)
def test_it_is_over_two_instants_after_the_other_stopped(
    tmp_path: Path, store: WatchedStore, clock: FixedClock, schedule: str, step_hours: int
) -> None:
    """The problem lasts for two scheduled instants, then is gone, with one message."""
    with (
        host(tmp_path, "one", store, clock, schedule=schedule) as one,
        host(tmp_path, "two", store, clock, schedule=schedule) as two,
    ):
        night(two, one)
        seen = []
        for _ in range(4):
            clock.advance(hours=step_hours)
            night(one)
            seen.append("two_writers" in one.problems())

        assert seen == [True, False, False, False]
        assert one.notes.titles() == ["two_writers", "well"]


def test_a_copy_of_the_databases_alone_is_a_second_writer(
    tmp_path: Path, one: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """What makes an installation is its `BACKUP_DIR`: the same databases under another are two."""
    night(one)
    with open_bench(
        tmp_path, store, clock=clock, sources=make_sources(tmp_path / "same"), directory="other"
    ) as other:
        night(other)

        assert other.problems() == ["two_writers"]


def test_pre_restore_sets_and_legacy_objects_are_no_second_writer(
    one: Bench, two: Bench, clock: FixedClock
) -> None:
    """Only sets that somebody made on a schedule or by hand tell of a writer."""
    (made,) = night(one)
    clock.advance(days=3)
    two.service.own_sets.refresh()
    plan = two.service.restore.plan(made)
    assert two.service.restore.begin(plan).execute().status == "succeeded"
    one.service.own_sets.refresh()
    night(one)

    kinds = {found.kind for found in one.service.catalogue.sets()}
    assert kinds == {"set", "pre-restore"}
    assert one.problems() == []
