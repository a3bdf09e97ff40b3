"""Tests of a follower whose chain checks, packs and prunes itself: all parts together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backups.decisions.retention import RetentionPolicy
from backups.format.chain import Check, End, load
from backups.format.chain_keys import chain_prefix, end_key, parse_chain_key, set_of
from backups.increments.follower import Follower, Outcome
from backups.scheduling import follower_parts
from backups.scheduling.change_follower import ChangeFollower
from backups.scheduling.follower_parts import make_follower
from backups.scheduling.packer import Packer
from backups.sets.chains import objects_table, table
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.chains import all_rows
from tests.support.clock import FixedClock
from tests.support.databases import make_sources, write
from tests.support.following import chains_in, following_bench

SECOND = timedelta(seconds=1)
MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation that follows changes."""
    with open_bench(
        tmp_path, follow="compare", change_delay=SECOND, run_by="app", local_copies=2
    ) as bench:
        yield bench


@contextmanager
def following(bench: Bench) -> Iterator[Follower]:
    """A follower as the leader has one."""
    with closing(make_follower(bench.service, SECOND)) as follower:
        yield follower


def clock_of(bench: Bench) -> FixedClock:
    """The clock of the service."""
    assert isinstance(bench.service.clock, FixedClock)
    return bench.service.clock


def changed(bench: Bench, follower: Follower, value: str, seconds: float = 60) -> Outcome:
    """A token is rotated, and the follower steps some seconds later."""
    write(bench.tokens, f"UPDATE tokens SET value = '{value}' WHERE rowid = 1")
    clock_of(bench).advance(seconds=seconds)
    return follower.step()


def begun(bench: Bench, follower: Follower) -> str:
    """Make a full, and begin its chain."""
    bench.made()
    clock_of(bench).advance(seconds=60)
    follower.step()
    assert follower.chain is not None
    return follower.chain


def keys(bench: Bench, chain: str) -> list[str]:
    """What the store has of a chain, below its prefix."""
    prefix = chain_prefix(PREFIX, chain)
    return [one.key.removeprefix(prefix) for one in bench.store.list(prefix)]


def verdicts(bench: Bench, chain: str) -> list[tuple[int, str | None]]:
    """The verdicts on a chain in the store."""
    found = []
    for key in bench.all_keys():
        parsed = parse_chain_key(PREFIX, key)
        if parsed is not None and parsed.kind == "check" and parsed.chain == chain:
            check = load(Check, bench.bytes_of(key), key=key, chain=chain)
            found.append((check.good, check.reason))
    return found


def test_a_chain_puts_a_differential_after_an_hour(bench: Bench) -> None:
    """With the first change after it, from the local copy of the full; the copies are gone then."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        assert changed(bench, follower, "one") == "stored"
        assert not [key for key in keys(bench, chain) if key.startswith("d/")]
        assert changed(bench, follower, "two", HOUR) == "stored"
        assert changed(bench, follower, "three") == "stored"

    assert [key for key in keys(bench, chain) if key.startswith("d/")] == ["d/0000000002.inc"]
    assert not list((bench.directory.path / "follow").glob("*/*.copy"))


def test_without_a_copy_of_the_full_it_is_fetched(bench: Bench) -> None:
    """`BACKUP_LOCAL_COPIES=0`: the differential of an hour is made all the same, and proven."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        bench.forget_copies()
        assert changed(bench, follower, "two", HOUR) == "stored"

    assert verdicts(bench, chain) == []
    assert [key for key in keys(bench, chain) if key.startswith("d/")] == ["d/0000000001.inc"]
    assert not list((bench.directory.path / "packing").rglob("*.db"))
    for number in [one for one in bench.all_keys() if "/i/" in one]:
        bench.store.delete(number)
    bench.service.catalogue.refresh()
    bench.restored(f"{set_of(chain)}.1", to=bench.folder / "to")
    assert all_rows(bench.folder / "to" / "tokens.db") == all_rows(bench.tokens)


def test_a_large_full_without_a_copy_is_not_fetched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a verdict alone: the check is the same, and restores take the packs."""
    monkeypatch.setattr(follower_parts, "MOST_FETCHED_BYTES", 1000)
    with following(bench) as follower:
        chain = begun(bench, follower)
        bench.forget_copies()
        assert changed(bench, follower, "two", HOUR) == "stored"

    assert verdicts(bench, chain) == [(1, None)]
    assert not [key for key in keys(bench, chain) if key.startswith("d/")]


def test_a_chain_that_differs_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything after the last good check is suspect, and a new full is asked for."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        assert changed(bench, follower, "one", HOUR) == "stored"
        assert changed(bench, follower, "two") == "stored"
        monkeypatch.setattr(
            "backups.increments.keeping.self_check.first_difference", lambda _shadow, _copy: 3
        )

        assert changed(bench, follower, "three", HOUR) == "needs_full"

        assert follower.chain is None
        [(good, reason)] = [one for one in verdicts(bench, chain) if one[1]]
        assert good == 1
        assert reason is not None
        assert "page 3 of" in reason
        with bench.known.reading() as connection:
            points = list(table.points(connection, chain))
        assert [one.number for one in points if one.suspect] == [2, 3]
        clock_of(bench).advance(seconds=60)
        follower.step()
        end = load(End, bench.bytes_of(end_key(PREFIX, chain)), key="end", chain=chain)
        assert end.reason == "differs"


def test_a_mass_deletion_makes_what_follows_suspect(bench: Bench) -> None:
    """Within a minute, while the chain goes on; one verdict says it in the store."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        assert changed(bench, follower, "one") == "stored"
        write(bench.tokens, "DELETE FROM tokens WHERE rowid > 2")
        assert changed(bench, follower, "two") == "stored"
        assert changed(bench, follower, "three") == "stored"
        assert changed(bench, follower, "four") == "stored"

    with bench.known.reading() as connection:
        points = list(table.points(connection, chain))
    assert [bool(one.suspect) for one in points] == [False, True, True, True]
    [(good, reason)] = verdicts(bench, chain)
    assert good == 1
    assert reason is not None
    assert "tokens.tokens has 2 rows" in reason


def test_a_chain_is_packed_and_goes_on(bench: Bench) -> None:
    """The follower's own objects are what the packer takes, and prune removes with their full."""
    packer = Packer(bench.service, threading.Event())
    with following(bench) as follower:
        chain = begun(bench, follower)
        for number in range(4):
            assert changed(bench, follower, f"value {number}", 2) == "stored"
        clock_of(bench).advance(hours=1)
        packer.step()
        assert changed(bench, follower, "after", 2) == "stored"
    packs = [key for key in keys(bench, chain) if not key.startswith(("d/", "check"))]
    assert packs == [
        "head.json",
        "i/0000000004.inc",
        "i/0000000005.inc",
        "p/0000000001-0000000003.pack",
    ]

    with following(bench) as follower:  # another process
        clock_of(bench).advance(seconds=60)
        assert follower.step() in ("idle", "stored")
        assert follower.chain == chain
        assert changed(bench, follower, "later", 2) == "stored"
    assert "i/0000000006.inc" in keys(bench, chain)


def test_what_a_follower_has_stored_can_be_pruned(bench: Bench, tmp_path: Path) -> None:
    """Each of its objects says of which chain it is; the chain of a newer full stays."""
    with following(bench) as follower:
        old = begun(bench, follower)
        assert changed(bench, follower, "one", HOUR) == "stored"
        clock_of(bench).advance(seconds=60)
        new = begun(bench, follower)
        assert changed(bench, follower, "two", 2) == "stored"
        clock_of(bench).advance(seconds=60)
        follower.step()
    assert "end.json" in keys(bench, old)
    nothing = RetentionPolicy(
        changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0, points_days=0
    )
    with open_bench(
        tmp_path,
        bench.store,
        sources=bench.sources,
        clock=bench.service.clock,
        retention=replace(nothing),
    ) as strict:
        run = strict.prune()
        assert run.status == "succeeded", run.error

    assert keys(bench, old) == []
    assert "i/0000000001.inc" in keys(bench, new)
    with bench.known.reading() as connection:
        assert table.chain(connection, old) is None
        assert objects_table.objects(connection, old) == []


def test_status_says_that_a_chain_differs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem, and nothing is pruned, until the new full is proven."""
    with following(bench) as follower:
        begun(bench, follower)
        assert changed(bench, follower, "one") == "stored"
        assert "chain_differs" not in bench.problems()
        monkeypatch.setattr(
            "backups.increments.keeping.self_check.first_difference", lambda _shadow, _copy: 3
        )
        assert changed(bench, follower, "two", HOUR) == "needs_full"
        assert "chain_differs" in bench.problems()
        assert bench.service.own_sets.frozen() is not None
        clock_of(bench).advance(seconds=60)
        bench.made()

    assert "chain_differs" not in bench.problems()
    assert bench.service.own_sets.frozen() is None


def test_status_says_that_points_are_suspect(bench: Bench) -> None:
    """It names the newest good point, and nothing is pruned meanwhile."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        assert changed(bench, follower, "one") == "stored"
        write(bench.tokens, "DELETE FROM tokens WHERE rowid > 2")
        assert changed(bench, follower, "two") == "stored"

    [found] = [
        one for one in bench.service.status().health.problems if one.code == "points_suspect"
    ]
    assert f"restore {chain.partition('-')[0]}.1 --in-place" in found.hint
    assert bench.service.own_sets.frozen() == (
        f"the points after {chain.partition('-')[0]}.1 are suspect"
    )


def test_a_full_takes_the_place_of_a_differential_of_half_the_database(tmp_path: Path) -> None:
    """Where most pages have changed since the full, the hourly check asks the leader for a set."""
    sources = make_sources(tmp_path / "data", 1000, padding=3000)
    with (
        following_bench(tmp_path, sources=sources) as bench,
        closing(ChangeFollower(bench.service, SECOND)) as leader,
    ):
        bench.made()
        for part in ("rowid <= 350", "rowid BETWEEN 351 AND 700"):
            clock_of(bench).advance(seconds=HOUR)
            leader.step()
            write(bench.tokens, f"UPDATE tokens SET value = hex(randomblob(1500)) WHERE {part}")
            clock_of(bench).advance(seconds=MINUTE)
            leader.step()
        clock_of(bench).advance(seconds=MINUTE)
        leader.step()
        assert len(bench.stored_ids()) == 2
        assert len(chains_in(bench)) == 2
        rows = all_rows(bench.tokens)
        bench.restored(to=tmp_path / "to")
        assert all_rows(tmp_path / "to" / "tokens.db") == rows
