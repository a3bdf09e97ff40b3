"""Tests of pins: what a person keeps stays, and nobody else's word counts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.decisions.retention import RetentionPlan, RetentionPolicy
from backups.errors import NotPinnable, SetNotFound
from backups.format import naming
from backups.format.pin import FORMAT, MOST_LABEL, Pin, dump_pin, load_pin
from backups.operations.own_sets import OwnSets
from shared.errors import StoreUnreachable
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.following import begun, following, following_bench, rotate, step

NOTHING = RetentionPolicy(0, 0, 0, 0, 0, 0, None, 7)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation whose retention keeps nothing but the newest."""
    with open_bench(tmp_path, retention=NOTHING) as bench:
        yield bench


def later(bench: Bench, **time: float) -> None:
    """Some time passes."""
    clock = bench.service.clock
    assert isinstance(clock, FixedClock)
    clock.advance(**time)


def listed(bench: Bench) -> list[str]:
    """The ids of the sets that are left, newest first."""
    return [one.id for one in bench.service.catalogue.sets() if one.kind == "set"]


def pins_of(bench: Bench, set_id: str) -> list[str]:
    """The keys of the notes beside a set."""
    return [key for key in bench.all_keys() if f"/{set_id}/pin-" in key]


def test_a_pinned_set_is_kept_until_it_is_unpinned(bench: Bench) -> None:
    """Retention says why; the note goes with the set in the end."""
    first = bench.made().id
    assert bench.service.pins.pin(first, " before the move ").label == "before the move"
    for _ in range(2):
        later(bench, days=400)
        bench.made()
        bench.service.prune.begin().execute()

    (newest, kept) = listed(bench)
    assert kept == first
    (reasons,) = (
        one.reasons for one in bench.service.own_sets.plan_prune().keep if one.backup_set.id == kept
    )
    assert reasons == ("pinned: before the move",)
    assert bench.service.catalogue.get(first).pinned

    assert not bench.service.pins.unpin(first).pinned
    bench.service.prune.begin().execute()
    assert listed(bench) == [newest]
    assert pins_of(bench, first) == []


def test_a_set_that_is_pinned_while_a_prune_runs_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned before the pin counts no more: who was told that it is kept finds it."""
    first = bench.made().id
    bench.service.pins.pin(first)
    later(bench, days=400)
    bench.made()
    bench.service.pins.unpin(first)
    real = OwnSets.plan_prune

    def plan(own_sets: OwnSets) -> RetentionPlan:
        found = real(own_sets)
        if first in [one.backup_set.id for one in found.drop]:
            later(bench, seconds=5)
            bench.service.pins.pin(first, "in time")
        return found

    monkeypatch.setattr(OwnSets, "plan_prune", plan)
    bench.service.prune.begin().execute()
    assert first in listed(bench)


def test_another_host_learns_of_it(bench: Bench, tmp_path: Path) -> None:
    """The note is in the store: a host with records of its own keeps the set, too."""
    first = bench.made().id
    bench.service.pins.pin(first, "keep")
    with open_bench(tmp_path / "other", bench.store, retention=NOTHING) as other:
        other.service.own_sets.refresh()
        found = other.service.catalogue.get(first)
    assert (found.pinned, found.label) == (True, "keep")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_planted_note_counts_in_neither_direction(bench: Bench, *, pinned: bool) -> None:
    """Whoever can write to the bucket can neither keep a set nor let one go."""
    first = bench.made().id
    later(bench, seconds=5)
    if not pinned:
        bench.service.pins.pin(first, "ours")
        later(bench, seconds=5)
    at = bench.service.clock.now()
    document = dump_pin(Pin(first, at, pinned, "theirs"))
    bench.store.put(naming.verdict_key(PREFIX, first, "pin", at), io.BytesIO(document), {})
    later(bench, seconds=5)
    bench.service.own_sets.refresh()

    assert bench.service.catalogue.get(first).pinned is not pinned
    assert bench.service.catalogue.pins() == ({} if pinned else {first: "ours"})


def test_a_note_of_the_future_counts_when_its_time_has_come(bench: Bench) -> None:
    """A clock that is ahead keeps no set today, and hides no newer note for ever."""
    first = bench.made().id
    later(bench, days=30)
    bench.service.pins.pin(first, "ahead")
    clock = bench.service.clock
    assert isinstance(clock, FixedClock)
    clock.step(days=-29)
    bench.service.own_sets.refresh()
    assert bench.service.catalogue.pins() == {}
    later(bench, days=29)
    assert bench.service.catalogue.pins() == {first: "ahead"}


@pytest.mark.parametrize("label", ["x" * (MOST_LABEL + 1), "two\nlines", "\x1b[31mred"])
def test_a_label_is_one_short_line(bench: Bench, label: str) -> None:
    """Anything else is refused by name, before anything is stored."""
    made = bench.made().id
    with pytest.raises(NotPinnable, match="a label has at most 100 letters"):
        bench.service.pins.pin(made, label)
    assert pins_of(bench, made) == []


def test_what_is_no_set_is_refused_by_name(bench: Bench) -> None:
    """Nothing is stored for what is not there."""
    with pytest.raises(SetNotFound):
        bench.service.pins.pin("20200101T000000Z")


def test_a_neighbours_set_is_neither_pinned_nor_let_go(bench: Bench, tmp_path: Path) -> None:
    """It is its own host that does so, unless that is gone: the refusal names it."""
    bench.made()
    with open_bench(tmp_path / "other", bench.store, clock=bench.service.clock) as other:
        later(bench, seconds=5)
        theirs = other.made().id
        other.service.pins.pin(theirs, "theirs")
        instance = other.directory.instance()
        for act in (bench.service.pins.unpin, bench.service.pins.pin):
            later(bench, seconds=5)
            with pytest.raises(NotPinnable) as caught:
                act(theirs)
            assert f"{theirs} was made by another installation, {instance}" in caught.value.message
            assert f"./bot backups adopt {instance}" in caught.value.hint
        other.service.own_sets.refresh()
        assert other.service.catalogue.pins() == {theirs: "theirs"}
        assert len(pins_of(bench, theirs)) == 1


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["make", "pin", "make", "pin", "unpin", "wait", "prune", "new host"]),
        st.integers(0, 4),
    ),
    min_size=10,
    max_size=16,
)
LIMITS = st.sampled_from([NOTHING, replace(NOTHING, max_bytes=0), RetentionPolicy(daily=1)])


@settings(max_examples=25, deadline=None)
@given(acts=ACTS, policy=LIMITS)
def test_no_prune_drops_what_is_pinned(
    acts: list[tuple[str, int]], policy: RetentionPolicy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was pinned and let go before, with whatever limits, also by a host with new records:
    after each prune each set that is pinned is there, in the store as in the list."""
    folder = tmp_path_factory.mktemp("pins")
    clock, pinned = FixedClock(), set[str]()
    with open_bench(folder, retention=policy, clock=clock) as bench:
        made = [bench.made().id]
        for act, place in acts:
            clock.advance(seconds=5)
            chosen = made[place % len(made)]
            there = chosen in listed(bench)
            if act == "make":
                made.append(bench.made().id)
            elif act == "wait":
                clock.advance(days=40 * place)
            elif act == "pin" and there:
                bench.service.pins.pin(chosen, "x" * place)
                pinned.add(chosen)
            elif act == "unpin" and there:
                bench.service.pins.unpin(chosen)
                pinned.discard(chosen)
            elif act == "new host":
                for one in listed(bench):
                    bench.service.catalogue.forget(one)
            elif act == "prune":
                assert bench.prune().status == "succeeded"
                assert pinned <= {*listed(bench)}
                assert pinned <= {*bench.stored_ids()}
        assert bench.prune().status == "succeeded"
        assert pinned <= {*listed(bench)} & {*bench.stored_ids()}
        assert set(bench.service.catalogue.pins()) == pinned


def test_a_point_between_sets_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Its set can be pinned, and its files kept."""
    with following_bench(tmp_path) as bench, following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "new")
        assert step(bench, follower) == "stored"
        full = chain.partition("-")[0]
        with pytest.raises(NotPinnable) as caught:
            bench.service.pins.pin(f"{full}.1")
    assert f"./bot backups pin {full})" in caught.value.hint
    assert f"./bot backups restore {full}.1 --to DIR" in caught.value.hint


def test_a_store_that_is_away_pins_nothing(bench: Bench) -> None:
    """It is said, and not remembered on this host alone."""
    made = bench.made().id
    bench.watched.break_at("put", 0)
    with pytest.raises(StoreUnreachable):
        bench.service.pins.pin(made, "keep")
    bench.watched.mend()
    assert not bench.service.catalogue.get(made).pinned


def test_a_note_is_read_as_it_was_written() -> None:
    """With all its members; of another set, or another format, it is none."""
    pin = Pin("20261122T010000Z", FixedClock().now().replace(microsecond=0), True, "why")
    assert load_pin(dump_pin(pin), expected_id=pin.set_id) == pin
    for other in (replace(pin, format=FORMAT + 1), replace(pin, set_id="20261122T010001Z")):
        with pytest.raises(Exception, match="another format, or speaks of another set"):
            load_pin(dump_pin(other), expected_id=pin.set_id)
