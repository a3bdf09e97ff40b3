"""Tests of `backups.decisions.chains.retention`: which objects of chains stay, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.decisions.chains.closure import ChainObject, needs, numbers_of
from backups.decisions.chains.retention import (
    Chain,
    ChainFacts,
    ChainPlan,
    plan_chains,
    uses_of_fulls,
)
from backups.decisions.retention import RetentionFacts, RetentionPolicy, plan_retention
from backups.format import naming
from backups.model import BackupSet, Mark
from tests.support.chain_objects import (
    differential,
    document,
    increment,
    milliseconds,
    pack,
)
from tests.support.records import a_set

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OURS = "0123456789abcdef"
THEIRS = "fedcba9876543210"
FACTS = ChainFacts(NOW, OURS, frozenset({OURS}), newest_set=NOW)
NOTHING = RetentionPolicy(
    changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0, points_days=0
)


def ago(**since: float) -> int:
    """An instant in the past, as increments have it."""
    return milliseconds(NOW - timedelta(**since))


def a_full(days: float) -> BackupSet:
    """The full that was made so many days ago."""
    return a_set(NOW - timedelta(days=days), instance=OURS)


def a_chain(
    full: BackupSet,
    *objects: ChainObject,
    ended: bool = True,
    instance: str = OURS,
    mark: Mark = "valid",
) -> Chain:
    """The chain of a full; its documents are there, too."""
    documents = (document("head"), *((document("end"),) if ended else ()))
    own = tuple(replace(one, key=f"{full.id}/{one.key}") for one in (*documents, *objects))
    return Chain(f"{full.id}-{instance}", instance, mark, ended, own)


def dropped(plan: ChainPlan) -> set[str]:
    """The ends of the keys of what goes."""
    return {one.object.key.rpartition("/")[2] for one in plan.drop}


def kept(plan: ChainPlan) -> set[str]:
    """The ends of the keys of what stays."""
    return {one.object.key.rpartition("/")[2] for one in plan.keep}


def plan_of(
    chain: Chain, days: int | None = 7, facts: ChainFacts = FACTS, *, full: bool = True
) -> ChainPlan:
    """What happens to one chain; with its `full`, or without it."""
    plan = plan_chains([chain], {chain.full} if full else set(), days, facts)
    assert len(plan.keep) + len(plan.drop) == len(chain.objects)
    return plan


def test_points_are_kept_for_their_days() -> None:
    """A pack whose last point is older goes; one that reaches into the days stays whole."""
    old, young = pack(1, 10, ago(days=7, seconds=1)), pack(11, 20, ago(days=7, seconds=-1))
    differentials = [differential(10, ago(days=7, seconds=1)), differential(20, ago(days=6))]

    plan = plan_of(a_chain(a_full(8), old, young, *differentials))

    assert dropped(plan) == {"p1-10"}
    assert kept(plan) == {"head", "end", "p11-20", "d10", "d20"}


def test_what_a_kept_point_needs_stays() -> None:
    """Without a differential, the packs since the full stay as long as a point needs them."""
    old, young = pack(1, 10, ago(days=9)), pack(11, 20, ago(days=6))

    plan = plan_of(a_chain(a_full(10), old, young))

    assert dropped(plan) == set()
    assert "point 11 needs it" in {one.reason for one in plan.keep}


def test_a_differential_is_kept_with_its_full() -> None:
    """It is a restore point of its own when the seconds around it are gone."""
    chain = a_chain(a_full(20), pack(1, 10, ago(days=19)), differential(10, ago(days=19)))

    assert dropped(plan_of(chain)) == {"p1-10"}
    assert dropped(plan_of(chain, full=False)) == {"head", "end", "p1-10", "d10"}


def test_a_chain_goes_with_its_full() -> None:
    """All of its objects: none of them is of any use alone."""
    plan = plan_of(a_chain(a_full(2), pack(1, 10, ago(days=1))), full=False)

    assert dropped(plan) == {"head", "end", "p1-10"}
    assert {one.reason for one in plan.drop} == {
        f"it hangs on set {a_full(2).id}, which is not kept"
    }


def test_for_ever_keeps_all_points() -> None:
    """However old they are."""
    assert not plan_of(a_chain(a_full(900), pack(1, 10, ago(days=899))), None).drop


def test_zero_days_keep_the_newest_point_of_the_chain_that_goes_on() -> None:
    """With what it needs; an ended chain has nothing left, also no differential."""
    points = [pack(1, 10, ago(hours=3)), differential(10, ago(hours=3)), pack(11, 20, ago(hours=2))]
    points += [differential(20, ago(hours=2)), increment(21, ago(hours=1))]

    assert kept(plan_of(a_chain(a_full(1), *points, ended=False), 0)) == {"head", "d20", "i21"}
    assert kept(plan_of(a_chain(a_full(1), *points), 0)) == set()


def test_the_newest_point_is_never_dropped() -> None:
    """However old it is, in a chain that goes on, or where no newer proven set is."""
    objects = [
        pack(1, 10, ago(days=30)),
        differential(10, ago(days=30)),
        pack(11, 12, ago(days=29)),
    ]
    away = replace(FACTS, newest_set=NOW - timedelta(days=31))

    assert dropped(plan_of(a_chain(a_full(31), *objects, ended=False))) == {"p1-10"}
    assert dropped(plan_of(a_chain(a_full(31), *objects), facts=away)) == {"p1-10"}
    assert dropped(plan_of(a_chain(a_full(31), *objects))) == {"p1-10", "p11-12"}


def test_a_chain_that_has_just_begun_stays() -> None:
    """Its head has no point yet, and its follower is about to make one."""
    assert not plan_of(a_chain(a_full(1), ended=False), 0).drop


def test_a_chain_that_ended_before_its_first_point_goes_for_that_reason() -> None:
    """Such as one that a restore ended at once: it is not older than anything."""
    full = a_full(0)
    plan = plan_chains([a_chain(full)], [full.id], 7, FACTS)
    assert dropped(plan) == {"head", "end"}
    assert {one.reason for one in plan.drop} == {"the chain ended before its first point"}


def test_a_point_of_which_no_time_is_known_stays() -> None:
    """A new host has not read every pack."""
    assert not plan_of(a_chain(a_full(30), pack(1, 10, None))).drop


@pytest.mark.parametrize(
    ("facts", "other", "why"),
    [
        (replace(FACTS, frozen="the newest set is suspect"), {}, "frozen: the newest set is"),
        (FACTS, {"mark": "unsigned"}, "its head has no mark"),
        (FACTS, {"mark": "unknown_key"}, "a key that is not here"),
        (FACTS, {"mark": "wrong"}, "the mark of its head is wrong"),
        (FACTS, {"instance": THEIRS}, "made by another installation"),
        (
            replace(FACTS, ours=frozenset({OURS, THEIRS}), busy=frozenset({THEIRS})),
            {"instance": THEIRS},
            "was taken over",
        ),
    ],
)
@pytest.mark.parametrize("full", [True, False])
def test_what_is_not_ours_or_frozen_stays(
    facts: ChainFacts, other: dict[str, str], why: str, *, full: bool
) -> None:
    """Also where its full is gone: what is not proven ours is for a person to delete."""
    chain = a_chain(a_full(40), pack(1, 10, ago(days=39)), **other)  # type: ignore[arg-type]

    plan = plan_of(chain, facts=facts, full=full)

    assert not plan.drop
    assert all(why in one.reason for one in plan.keep)


# --- the fulls --------------------------------------------------------------------------


def survivors(
    fulls: Iterable[BackupSet], chains: list[Chain], policy: RetentionPolicy
) -> dict[str, tuple[str, ...]]:
    """The sets that stay, with their reasons."""
    facts = RetentionFacts(
        NOW, frozenset({OURS}), chains=uses_of_fulls(chains, policy.points_days, FACTS)
    )
    return {
        one.backup_set.id: one.reasons for one in plan_retention(list(fulls), policy, facts).keep
    }


def test_a_full_stays_as_long_as_a_point_needs_it() -> None:
    """Whatever the rules of sets say; afterwards they decide."""
    newest, needed, over = a_full(0.1), a_full(5), a_full(9)
    chains = [
        a_chain(needed, pack(1, 9, ago(days=4))),
        a_chain(over, pack(1, 9, ago(days=8)), differential(9, ago(days=8))),
    ]

    found = survivors([newest, needed, over], chains, replace(NOTHING, points_days=7))

    assert set(found) == {newest.id, needed.id}
    assert found[needed.id] == ("a point of a chain needs it: points of the last 7 days are kept",)


def test_a_planted_chain_keeps_no_set() -> None:
    """One without a valid mark, or of another installation, is no reason for anything."""
    newest, old = a_full(0.1), a_full(5)
    chains = [
        a_chain(old, pack(1, 9, ago(days=1)), mark="unsigned"),
        a_chain(old, pack(1, 9, ago(days=1)), instance=THEIRS),
    ]

    assert set(survivors([newest, old], chains, replace(NOTHING, points_days=None))) == {newest.id}


def test_chains_count_in_the_bytes() -> None:
    """The oldest full goes with its chain, until the rest fits; what goes on is beyond that."""
    newest, older, oldest = a_full(0.1), a_full(1), a_full(2)
    chains = [
        a_chain(newest, pack(1, 9, ago(hours=1), size=10_000), ended=False),
        a_chain(older, pack(1, 9, ago(hours=5), size=10_000)),
        a_chain(oldest, pack(1, 9, ago(days=1, hours=5), size=10_000)),
    ]
    one = newest.bytes + 10_020
    fulls = [newest, older, oldest]

    def left(most: int) -> set[str]:
        return set(survivors(fulls, chains, replace(NOTHING, points_days=7, max_bytes=most)))

    assert left(3 * one) == {newest.id, older.id, oldest.id}
    assert left(3 * one - 100) == {newest.id, older.id}
    assert left(newest.bytes) == {newest.id}


# --- every kept point is restorable -----------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[BackupSet], list[Chain]]:
    """Fulls of some days, each with a chain: packs, what is not packed, differentials, gaps."""
    fulls, chains = [], []
    for place in range(draw(st.integers(1, 4))):
        begun = 2.5 * (4 - place) + draw(st.sampled_from([0, 0.5, 1]))
        full = a_full(begun)
        at, number, objects = begun, 0, []
        for _ in range(draw(st.integers(0, 6))):
            length, at = draw(st.integers(1, 4)), at - draw(st.sampled_from([0.1, 0.5, 1.5]))
            first, number = number + 1, number + length
            when = draw(st.sampled_from([ago(days=at), ago(days=at), None]))
            kind = draw(st.sampled_from(["pack", "pack", "increments", "both", "gap"]))
            if kind in ("pack", "both"):
                objects.append(pack(first, number, when))
            if kind in ("increments", "both"):
                objects += [increment(one, when) for one in range(first, number + 1)]
            if draw(st.booleans()):
                objects.append(differential(number, when))
        fulls.append(full)
        chains.append(a_chain(full, *objects, ended=draw(st.booleans())))
    return fulls, chains


@settings(max_examples=300, deadline=None)
@given(
    histories(),
    st.sampled_from([None, 0, 1, 3, 7, 30]),
    st.sampled_from([None, 0, 3_000, 20_000]),
    st.sampled_from([0, 2, 9]),
)
def test_every_kept_point_is_restorable(
    history: tuple[list[BackupSet], list[Chain]], days: int | None, most: int | None, all_days: int
) -> None:
    """Whatever the policy: a young point that could be restored still can be, unless its full had
    to go for its bytes; what stays of a chain has its full; the newest point of all is there."""
    fulls, chains = history
    policy = replace(NOTHING, points_days=days, max_bytes=most, all_days=all_days)
    facts = RetentionFacts(NOW, frozenset({OURS}), chains=uses_of_fulls(chains, days, FACTS))
    sets = {one.backup_set.id for one in plan_retention(fulls, policy, facts).keep}
    plan = plan_chains(chains, sets, days, FACTS)
    gone = {one.object.key for one in plan.drop}

    for chain in chains:
        stays = [one for one in chain.objects if one.key not in gone]
        if chain.full not in sets:
            assert not stays
            assert most is not None or not _young(chain, days)
            continue
        for number in _young(chain, days):
            assert needs(number, stays) is not None, (chain.id, number)
    goes_on = [one for one in chains if not one.ended]
    if goes_on:
        last = max(goes_on, key=lambda one: one.id)
        newest = max(numbers_of(last.objects), default=0)
        stays = [one for one in last.objects if one.key not in gone]
        assert last.full in sets
        assert needs(newest, last.objects) is None or needs(newest, stays) is not None


def _young(chain: Chain, days: int | None) -> set[int]:
    """The numbers of the points that could be restored, and that the policy keeps."""
    oldest = None if days is None else milliseconds(NOW - timedelta(days=days))
    return {
        number
        for one in chain.objects
        if days != 0 and (oldest is None or one.last_instant is None or one.last_instant >= oldest)
        for number in numbers_of([one])
        if needs(number, chain.objects) is not None
    }


def test_planning_again_changes_nothing() -> None:
    """What a plan keeps, the next one keeps, too: a prune that was interrupted goes on."""
    full = a_full(8)
    chain = a_chain(
        full,
        *(pack(10 * hour + 1, 10 * hour + 10, ago(days=8 - hour / 24)) for hour in range(190)),
        *(differential(10 * hour + 10, ago(days=8 - hour / 24)) for hour in range(0, 190, 5)),
        ended=False,
    )
    plan = plan_of(chain)
    assert plan.drop
    for number in range(len(plan.drop)):
        gone = {one.object.key for one in plan.drop[: number + 1]}
        left = replace(chain, objects=tuple(one for one in chain.objects if one.key not in gone))

        assert {one.object.key for one in plan_of(left).keep} == {
            one.object.key for one in plan.keep
        }


def test_ids_of_chains_name_their_fulls() -> None:
    """The id of a full is read off the id of its chain."""
    assert naming.is_set_id(a_chain(a_full(1)).full)
