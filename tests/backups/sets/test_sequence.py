"""The numbers of sets: each line counts on, whatever becomes of this host's records."""

from __future__ import annotations

import io
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from backups.format import naming
from backups.host.catalogues import FOLDER
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import INSTANT, a_manifest, a_set
from tests.support.store_wrappers import WatchedStore


def test_each_set_has_the_next_number(bench: Bench) -> None:
    """Of every kind: also what a restore replaced, and sets of one source."""
    made = [bench.made(), bench.made("change"), bench.made(only="tokens")]
    bench.restored()
    kept = next(bench.service.catalogue.sets())

    assert [one.sequence for one in made] == [1, 2, 3]
    assert (kept.kind, kept.sequence) == ("pre-restore", 4)
    assert [bench.manifest_of(one.id)["sequence"] for one in made] == [1, 2, 3]


def test_a_host_that_lost_its_catalogue_counts_on(tmp_path: Path) -> None:
    """It asks the store before it gives a number: else its new set would be the oldest."""
    clock, store = FixedClock(INSTANT), WatchedStore(DirectoryStore(tmp_path / "store"))
    with open_bench(tmp_path, store, clock=clock) as bench:
        for _ in range(3):
            clock.advance(minutes=1)
            bench.made()
        sources = bench.sources
    shutil.rmtree(bench.directory.path / FOLDER)
    with open_bench(tmp_path, store, clock=clock, sources=sources) as bench:
        clock.advance(minutes=1)
        made = bench.made()

        assert made.sequence == 4
        assert bench.service.own_sets.required_latest() == made


def test_a_successor_counts_on(tmp_path: Path) -> None:
    """A host that took over another's data goes on with its numbers, under whatever clock."""
    clock, store = FixedClock(INSTANT), DirectoryStore(tmp_path / "store")
    with open_bench(tmp_path, store, clock=clock) as before:
        for _ in range(3):
            clock.advance(minutes=1)
            before.made()
        sources = before.sources
    for source in sources:
        source.path.unlink()
    clock.advance(hours=-1)
    with open_bench(tmp_path, store, clock=clock, sources=sources, directory="anew") as bench:
        bench.service.own_sets.refresh()
        clock.advance(hours=1)
        bench.restored()
        clock.advance(minutes=-2)
        made = bench.made()

        assert made.sequence == 4
        assert bench.service.own_sets.required_latest() == made
        assert next(bench.service.catalogue.sets()) == made


def test_the_numbers_of_another_installation_are_not_ours(bench: Bench) -> None:
    """A stranger's high number leaves ours as they are."""
    bench.made()
    foreign = a_set(INSTANT - timedelta(days=1), instance="another", sequence=2**53)
    key = naming.manifest_key(PREFIX, foreign.id)
    bench.store.put(key, io.BytesIO(a_manifest(foreign)), {})
    bench.service.own_sets.refresh()

    assert bench.made().sequence == 2


@pytest.mark.parametrize("hours", [-3, -23])
def test_a_set_made_under_a_clock_that_is_behind_is_the_newest(bench: Bench, hours: int) -> None:
    """What `latest` means is what was made last, whatever its time says."""
    first = bench.made()
    assert isinstance(bench.service.clock, FixedClock)
    bench.service.clock.advance(hours=hours)
    second = bench.made()
    bench.service.clock.advance(hours=-hours)

    assert second.created_at < first.created_at
    assert bench.service.own_sets.required_latest() == second
    assert bench.service.restore.plan().backup_set == second
    assert [one.id for one in bench.service.catalogue.sets()] == [second.id, first.id]
    assert [one.id for one in bench.service.catalogue.sets(second.id)] == [first.id]
    keep = bench.service.own_sets.plan_prune().keep
    assert [one.backup_set.id for one in keep] == [second.id, first.id]
    assert "newest proven" in keep[0].reasons


def test_an_installation_that_was_adopted_late_keeps_its_order(tmp_path: Path) -> None:
    """It had counted from 1 itself: its numbers say nothing beside those of its predecessor."""
    store = WatchedStore(DirectoryStore(tmp_path / "store"))
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, store, clock=clock) as first:
        for _ in range(3):
            clock.advance(minutes=1)
            first.made()
        earlier = first.directory.instance()
    with open_bench(
        tmp_path, store, clock=clock, directory="another", sources=first.sources
    ) as second:
        clock.advance(minutes=1)
        newest = second.made().id

        second.facts.succeed(earlier)

        assert second.service.own_sets.required_latest().id == newest
        assert next(second.service.catalogue.sets()).id == newest
        clock.advance(minutes=1)
        assert second.made().sequence == 4


def test_a_catalogue_that_is_lost_while_the_store_is_listed_is_learnt_anew(
    tmp_path: Path,
) -> None:
    """It must not count as listed, knowing nothing: the next set would get the number 1."""
    clock, store = FixedClock(INSTANT), WatchedStore(DirectoryStore(tmp_path / "store"))
    with open_bench(tmp_path, store, clock=clock) as bench:
        before = bench.made()

        def lose_it() -> None:
            for file in (bench.directory.path / FOLDER).iterdir():
                file.unlink()

        store.before("list", "", lose_it)
        assert bench.service.own_sets.refresh() is None
        assert [one.id for one in bench.service.catalogue.sets()] == [before.id]
        clock.advance(minutes=1)
        made = bench.made()

        assert made.sequence == 2
        assert bench.service.own_sets.required_latest().id == made.id
