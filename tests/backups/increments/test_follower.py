"""Tests of the follower: a change becomes a proven point, whatever happens between."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backups.format.chain import End, Head, load
from backups.format.chain_keys import chain_id, end_key, head_key, increment_key
from backups.format.increment import Increment, line_of, load_line
from backups.increments.follow_folder import FollowFolder
from backups.increments.follower import Follower, Outcome
from backups.scheduling.follower_parts import make_follower
from backups.sets.chains import table
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import write

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["compare", "wal"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An installation that follows changes, by both ways to find them."""
    with open_bench(tmp_path, follow=request.param, change_delay=SECOND, run_by="app") as bench:
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


def step(bench: Bench, follower: Follower, seconds: float = 60) -> Outcome:
    """A step some seconds later."""
    clock_of(bench).advance(seconds=seconds)
    return follower.step()


def rotate(bench: Bench, value: str) -> None:
    """Write one token anew."""
    write(bench.tokens, f"UPDATE tokens SET value = '{value}' WHERE rowid = 1")


def increment_of(bench: Bench, chain: str, number: int) -> Increment:
    """The line of a stored increment."""
    key = increment_key(PREFIX, chain, number, sealed=False)
    line = line_of(bench.bytes_of(key), key)
    assert bench.service.config.marks.check(key, line).outcome == "valid"
    return load_line(line, key=key, chain=chain, number=number, kind="increment")


def increments(bench: Bench) -> list[str]:
    """The keys of the stored increments."""
    return [key for key in bench.all_keys() if "/i/" in key]


def end_of(bench: Bench, chain: str) -> End:
    """The stored end of a chain."""
    key = end_key(PREFIX, chain)
    return load(End, bench.bytes_of(key), key=key, chain=chain)


def begun(bench: Bench, follower: Follower) -> str:
    """Make a full, and begin its chain."""
    made = bench.made()
    assert step(bench, follower) in ("idle", "stored")
    chain = follower.chain
    assert chain == chain_id(made.id, made.instance)
    assert chain is not None
    return chain


# --- what a chain is ------------------------------------------------------------------------


def test_a_chain_begins_with_a_full_that_was_handed_over(bench: Bench) -> None:
    """The head names the files of the full as they are stored, and is marked."""
    with following(bench) as follower:
        chain = begun(bench, follower)

    key = head_key(PREFIX, chain)
    document = bench.bytes_of(key)
    assert bench.service.config.marks.check(key, document).outcome == "valid"
    head = load(Head, document, key=key, chain=chain)
    full = bench.service.catalogue.get(head.set_id)
    assert {one.source: one.snapshot_sha256 for one in head.sources} == {
        one.source: one.snapshot_sha256 for one in full.objects
    }
    assert head.sequence == full.sequence
    assert increments(bench) == []  # nothing has changed since


def test_a_change_is_a_proven_point(bench: Bench) -> None:
    """A rotated token is in a marked object that was read back, and the shadow is as the source."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "new")
        assert step(bench, follower) == "stored"
        assert step(bench, follower) == "idle"

    found = increment_of(bench, chain, 1)
    assert [change.source for change in found.sources] == ["tokens"]
    assert len(bench.bytes_of(increments(bench)[0])) < 3000
    with bench.known.reading() as connection:
        row = table.last_point(connection, chain)
    assert row is not None
    assert (row.number, row.sequence, row.proven, row.mark) == (1, found.sequence, True, "valid")


def test_points_follow_one_another(bench: Bench) -> None:
    """Each point names the object before it, and changes what that one made."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        for value in "abc":
            rotate(bench, value)
            assert step(bench, follower) == "stored"

    first, second, third = (increment_of(bench, chain, number) for number in (1, 2, 3))
    assert (second.sources[0].before, third.sources[0].before) == (
        first.sources[0].after,
        second.sources[0].after,
    )
    assert first.sequence < second.sequence < third.sequence
    assert third.proven is not None
    assert third.proven.seq == 2


def test_sets_and_points_are_numbered_by_one_counter(bench: Bench) -> None:
    """A set that is made after a point has a higher number, and the next point one above that."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        first = increment_of(bench, chain, 1)
        clock_of(bench).advance(minutes=1)
        made = bench.made()
        assert made.sequence is not None
        assert made.sequence > first.sequence
        rotate(bench, "b")
        assert step(bench, follower) == "stored"
        assert follower.chain is not None
        assert increment_of(bench, follower.chain, 1).sequence > made.sequence


def test_a_volatile_source_causes_no_point_and_is_carried(bench: Bench) -> None:
    """Sessions come and go; what another source causes takes them along."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        write(bench.sessions, "DELETE FROM sessions WHERE rowid = 1")
        assert step(bench, follower) == "idle"
        assert increments(bench) == []

        rotate(bench, "a")
        assert step(bench, follower) == "stored"
    names = [change.source for change in increment_of(bench, chain, 1).sources]
    assert names == ["sessions", "tokens"]


def test_a_newer_full_begins_a_new_chain(bench: Bench) -> None:
    """The old chain has an end, and its folder is gone."""
    with following(bench) as follower:
        old = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        new = begun(bench, follower)
        step(bench, follower)

    assert old != new
    assert (end_of(bench, old).reason, end_of(bench, old).last) == ("new_chain", 1)
    assert FollowFolder(bench.directory).begun() == [new]
    assert FollowFolder(bench.directory).ended() == []


# --- it goes on -----------------------------------------------------------------------------


def test_a_chain_goes_on_after_a_restart(bench: Bench) -> None:
    """What was written while nobody followed is in the next point."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
    rotate(bench, "b")
    with following(bench) as follower:
        assert step(bench, follower) == "stored"
        assert follower.chain == chain
    assert len(increments(bench)) == 2


def test_a_shadow_that_is_torn_ends_the_chain(bench: Bench) -> None:
    """Its sum tells, and a full follows."""
    with following(bench) as follower:
        chain = begun(bench, follower)
    bench.forget_copies()
    path = bench.directory.path / "follow" / chain / "tokens.db"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)

    with following(bench) as follower:
        rotate(bench, "a")
        assert step(bench, follower) == "needs_full"
        assert step(bench, follower) == "needs_full"
    assert end_of(bench, chain).reason == "differs"


def test_a_local_copy_begins_a_chain(bench: Bench) -> None:
    """Where nothing was handed over, the copy of the newest set is as good, if it is whole."""
    made = bench.made()
    FollowFolder(bench.directory).drop(chain_id(made.id, made.instance))
    rotate(bench, "a")
    with following(bench) as follower:
        assert step(bench, follower) == "stored"
        assert follower.chain == chain_id(made.id, made.instance)
    assert len(increments(bench)) == 1


# --- it ends --------------------------------------------------------------------------------


def test_a_clock_that_goes_back_ends_the_chain(bench: Bench) -> None:
    """More than five seconds back: the next points have the true time, in a new chain."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        clock_of(bench).step(minutes=-5)
        rotate(bench, "b")
        assert step(bench, follower) == "needs_full"
        step(bench, follower)
    assert end_of(bench, chain).reason == "clock"


def test_a_restore_ends_the_chain(bench: Bench) -> None:
    """The end says what was restored, and the follower asks for a full."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        restored = bench.service.catalogue.latest()
        assert restored is not None
        bench.restored()
        assert step(bench, follower) == "needs_full"
    end = end_of(bench, chain)
    assert end.reason == "restore"
    assert end.restored_to is not None
    assert (end.restored_to.point, end.restored_to.sequence) == (restored.id, restored.sequence)


def test_another_writer_ends_the_chain(bench: Bench) -> None:
    """An object of somebody else under the next number is never overwritten or followed."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        key = increment_key(PREFIX, chain, 1, sealed=False)
        bench.store.put(key, io.BytesIO(b"somebody else's"), {"sha256": "x"})
        rotate(bench, "a")
        assert step(bench, follower) == "needs_full"
        step(bench, follower)
    assert bench.bytes_of(key) == b"somebody else's"
    assert end_of(bench, chain).reason == "two_writers"
