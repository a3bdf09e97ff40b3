"""Tests of `backups.decisions.retention`: which restore points stay, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.decisions.retention import (
    RetentionFacts,
    RetentionPlan,
    RetentionPolicy,
    plan_retention,
)
from backups.format import naming
from backups.model import BackupSet
from tests.support.records import a_set, a_stored_object

NOW = datetime(2026, 11, 22, 1, 5, tzinfo=UTC)  # a Sunday, five minutes after the night's run
LAST_NIGHT = datetime(2026, 11, 22, 1, tzinfo=UTC)
OURS = "0123456789abcdef"
THEIRS = "fedcba9876543210"
FACTS = RetentionFacts(now=NOW, ours=frozenset({OURS}))
DEFAULT = RetentionPolicy()
NOTHING = RetentionPolicy(
    changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0, max_bytes=None
)
COUNTS = ("changes_hours", "all_days", "daily", "weekly", "monthly", "yearly")


def ids(plan: RetentionPlan) -> set[str]:
    """The ids of what the plan keeps."""
    return {one.backup_set.id for one in plan.keep}


def dropped(plan: RetentionPlan) -> set[str]:
    """The ids of what the plan drops."""
    return {one.backup_set.id for one in plan.drop}


def survivors(
    sets: Sequence[BackupSet], policy: RetentionPolicy = DEFAULT, facts: RetentionFacts = FACTS
) -> set[str]:
    """The ids of what is kept of `sets`; together with what is dropped these are all."""
    plan = plan_retention(sets, policy, facts)
    assert ids(plan) | dropped(plan) == {one.id for one in sets}
    assert not ids(plan) & dropped(plan)
    return ids(plan)


def nightly(days: int, last: datetime = LAST_NIGHT) -> list[BackupSet]:
    """A scheduled set of each night, for so many nights up to `last`."""
    return [a_set(last - timedelta(days=age)) for age in range(days)]


def dates(kept: set[str]) -> list[str]:
    """The days of sets, newest first."""
    return sorted((found[:8] for found in kept), reverse=True)


# --- order, and the future --------------------------------------------------------------


def test_a_set_of_the_future_stands_for_no_period() -> None:
    """It is kept for its own sake, whatever the room, and the right set of its day stays, too."""
    right, ahead = a_set(LAST_NIGHT), a_set(LAST_NIGHT + timedelta(hours=8))
    newest = a_set(NOW - timedelta(minutes=1), trigger="change")
    plan = plan_retention([right, ahead, newest], replace(NOTHING, daily=1, max_bytes=0), FACTS)
    reasons = {one.backup_set.id: one.reasons for one in plan.keep}

    assert reasons == {
        ahead.id: ("its time lies in the future",),
        newest.id: ("newest proven", "change of the last hour"),
    }
    assert dropped(plan) == {right.id}  # there is no room
    plan = plan_retention([right, ahead, newest], replace(NOTHING, daily=1), FACTS)
    assert ids(plan) == {right.id, ahead.id, newest.id}


def test_the_last_of_a_day_is_the_one_with_the_highest_number() -> None:
    """A clock that was set back between two sets does not make the earlier one the last."""
    first = a_set(LAST_NIGHT - timedelta(days=2), sequence=1)
    last = a_set(LAST_NIGHT - timedelta(days=2, minutes=30), sequence=2)
    newest = a_set(LAST_NIGHT, sequence=3)

    assert survivors([first, last, newest], replace(NOTHING, daily=3)) == {last.id, newest.id}


# --- golden tables ----------------------------------------------------------------------

# What is left of two thousand nights on 2026-11-22, by hand from the calendar.
GOLDEN = [
    # all of 7 days (to the second), then each day of the 16 days after them
    *(f"202611{day:02}" for day in range(22, 0, -1)),
    "20261031",
    # the last of each ISO week (Sundays) for 8 more weeks; and September's last day
    *("20261025", "20261018", "20261011", "20261004", "20260930"),
    *("20260927", "20260920", "20260913", "20260906"),
    # the last of each month for 4 more
    *("20260831", "20260731", "20260630", "20260531"),
    # the last of each year for 2 more
    *("20251231", "20241231"),
]


def test_two_thousand_nights_leave_these_survivors() -> None:
    """The default policy at a frozen clock leaves exactly the sets of the table."""
    kept = survivors(nightly(2000))

    assert dates(kept) == GOLDEN


def test_several_sets_a_day_leave_the_last_of_each_day() -> None:
    """Of three sets a day all of the last 7 days stay, before that the evening's only."""
    evening = NOW.replace(hour=0, minute=30)
    sets = [
        a_set(evening - timedelta(days=age, hours=hours), trigger="manual")
        for age in range(700)
        for hours in (0, 6, 12)
    ]
    kept = survivors(sets)

    by_day = Counter(found[:8] for found in kept)
    assert all(by_day[f"202611{day:02}"] == 3 for day in range(16, 22))
    assert by_day["20261122"] == 1
    assert all(by_day[day] == 1 for day in GOLDEN[8:] if day in by_day)
    old = {found for found in kept if found[:8] < "20261115"}
    assert {found[8:] for found in old} == {"T183000Z"}
    assert len(old) == len({found[:8] for found in old})


def test_reasons_are_given_for_every_set() -> None:
    """Each kept set has all its reasons, the newest among them, and each dropped one has one."""
    plan = plan_retention(nightly(2000), DEFAULT, FACTS)
    reasons = {one.backup_set.id[:8]: one.reasons for one in plan.keep}

    assert reasons["20261122"] == (
        "newest proven",
        "younger than 7 days",
        "last of its day",
        "last of its week",
        "last of its month",
        "last of its year",
    )
    assert reasons["20261110"] == ("last of its day",)
    assert reasons["20261018"] == ("last of its week",)
    assert reasons["20260731"] == ("last of its month",)
    assert reasons["20251231"] == ("last of its year",)
    assert all(one.reason for one in plan.drop)
    assert [one.protected for one in plan.keep].count(True) == 1


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        # 2028-02-29 is the last of its February; 2027's last day is in ISO week 52 of 2027.
        (datetime(2028, 3, 31, 2, tzinfo=UTC), "20280229T010000Z"),
        (datetime(2028, 7, 31, 2, tzinfo=UTC), "20280430T010000Z"),
        (datetime(2029, 5, 1, 2, tzinfo=UTC), "20281231T010000Z"),
    ],
)
def test_leap_days_and_the_ends_of_years(now: datetime, expected: str) -> None:
    """The 29th of February is the last of its month, and the 31st of December of its year."""
    sets = nightly(900, now.replace(hour=1))

    assert expected in survivors(sets, facts=replace(FACTS, now=now))


def test_a_leap_year_keeps_the_same_number() -> None:
    """A night on the 29th of February drops and keeps as any other night does."""
    now = datetime(2028, 2, 29, 1, 5, tzinfo=UTC)
    kept = survivors(nightly(1000, now.replace(minute=0)), facts=replace(FACTS, now=now))

    assert dates(kept)[:24] == [f"{now - timedelta(days=age):%Y%m%d}" for age in range(24)]
    assert {"20271231", "20261231"} <= set(dates(kept))


def test_weeks_are_iso_weeks() -> None:
    """The last of a week is Sunday's, and the week around New Year is one week."""
    now = datetime(2027, 1, 25, 2, tzinfo=UTC)
    policy = replace(NOTHING, weekly=8)
    kept = survivors(nightly(60, now.replace(hour=1)), policy, replace(FACTS, now=now))

    # 2026 has an ISO week 53: Monday 2026-12-28 to Sunday 2027-01-03. Its last day and
    # November's fall under the rules of months and years, which reach as far.
    assert dates(kept) == [
        *("20270125", "20270124", "20270117", "20270110", "20270103"),
        *("20261231", "20261227", "20261220", "20261213", "20261206"),
    ]


def test_a_day_of_a_change_set_a_minute_leaves_one_an_hour() -> None:
    """Of 1440 change sets the last hour's stay, and the last of each hour for 24 hours."""
    sets = [a_set(NOW - timedelta(minutes=age), trigger="change") for age in range(1440)]
    kept = survivors(sets)

    last_hour = {one.id for one in sets if NOW - one.created_at <= timedelta(hours=1)}
    assert len(last_hour) == 61
    assert last_hour <= kept
    older = sorted(kept - last_hour)
    assert len(older) == 23
    assert {found[11:13] for found in older} == {"59"}
    hours = {found[:11] for found in kept}
    assert len(hours) == 25


def test_change_sets_are_gone_after_a_day() -> None:
    """Change sets older than 24 hours go, but for the newest proven one."""
    sets = [a_set(NOW - timedelta(hours=age), trigger="change") for age in range(48)]

    assert survivors(sets) == {one.id for one in sets[:25]}
    later = replace(FACTS, now=NOW + timedelta(days=30))
    assert survivors(sets, facts=later) == {sets[0].id}


def test_change_sets_never_push_out_the_nights_set() -> None:
    """Though later, a change set does not stand for its day, week or month."""
    nights = nightly(400)
    changes = [
        a_set(one.created_at + timedelta(hours=hour, seconds=30), trigger="change")
        for one in nights
        for hour in (1, 22)
        if one.created_at + timedelta(hours=hour) < NOW
    ]
    kept = survivors([*nights, *changes])

    assert survivors(nights) <= kept


def test_change_hours_are_settable() -> None:
    """With `changes_hours=2` the hourly ones end after two hours, with forever they stay."""
    sets = [a_set(NOW - timedelta(minutes=30 * age), trigger="change") for age in range(200)]

    two = survivors(sets, replace(DEFAULT, changes_hours=2))
    forever = survivors(sets, replace(DEFAULT, changes_hours=None))

    assert len(two) == 4  # 01:05, 00:35, 00:05 of the last hour, 23:35
    assert len(forever) == 102  # one an hour, and a second one of the last hour


# --- what is never dropped --------------------------------------------------------------


def old(days: float = 4000, **other: Any) -> BackupSet:
    """A set that no rule keeps."""
    return a_set(NOW - timedelta(days=days), **other)


def test_the_newest_proven_set_stays_however_old() -> None:
    """With no rule left at all, the newest set that protects is kept."""
    sets = [old(days) for days in (4000, 5000, 6000)]

    assert survivors(sets, NOTHING) == {sets[0].id}


@pytest.mark.parametrize(
    "newer",
    [
        {"complete": False},
        {"suspect": ("tokens is empty",)},
        {"proof": "none", "proven_at": None},
        {"kind": "pre-restore", "trigger": "pre-restore", "complete": False},
    ],
    ids=["--only", "suspect", "unproven", "pre-restore"],
)
def test_a_newer_set_that_does_not_protect_is_no_newest(newer: dict[str, Any]) -> None:
    """The newest proven set stays beside a newer one that could not replace it."""
    good, bad = old(20), old(10, **newer)

    assert good.id in survivors([good, bad], NOTHING)


@pytest.mark.parametrize(
    "later",
    [
        {"complete": False},
        {"suspect": ("tokens is empty",)},
        {"proof": "none", "proven_at": None, "suspect": ("a proof failed",)},
    ],
    ids=["--only", "suspect", "unproven"],
)
@pytest.mark.parametrize("age", [10, 40, 100, 500], ids=["day", "week", "month", "year"])
def test_a_worse_set_of_the_same_day_pushes_nothing_out(age: int, later: dict[str, Any]) -> None:
    """A later set of one source, a suspect or an unproven one does not stand for its period."""
    nights = nightly(2000)
    kept = survivors(nights)
    worse = [a_set(one.created_at + timedelta(hours=3), **later) for one in nights[1:]]

    assert kept <= survivors([*nights, *worse])
    assert any(NOW - timedelta(days=age) < one.created_at for one in nights if one.id in kept)


def test_the_last_that_passed_a_drill_stays() -> None:
    """What is known to be restorable by a rehearsal is kept."""
    sets = nightly(2000)
    drilled = sets[1500]

    kept = survivors(sets, facts=replace(FACTS, drilled=drilled.id))

    assert kept == survivors(sets) | {drilled.id}


def test_nothing_is_dropped_while_frozen() -> None:
    """After a failed run or a suspect set every set stays, and the reason is given."""
    plan = plan_retention(
        [*nightly(100), old(kind="pre-restore")],
        replace(NOTHING, max_bytes=0),
        replace(FACTS, frozen="the newest run, 1, failed"),
    )

    assert plan.drop == ()
    assert all("frozen: the newest run, 1, failed" in one.reasons for one in plan.keep)
    assert plan.warning is not None


def test_sets_of_other_installations_stay() -> None:
    """What another instance made is its own to prune, and ours are pruned beside it."""
    theirs = [replace(one, instance=THEIRS) for one in nightly(50, NOW - timedelta(days=300))]
    ours = nightly(2000)

    kept = survivors([*ours, *theirs])

    assert kept == survivors(ours) | {one.id for one in theirs}


def test_sets_of_a_predecessor_are_ours() -> None:
    """After a restore the sets of the former host are thinned by the same rules."""
    before = [replace(one, instance=THEIRS) for one in nightly(2000)]

    kept = survivors(before, facts=replace(FACTS, ours=frozenset({OURS, THEIRS})))

    assert dates(kept) == GOLDEN


def test_the_newest_of_ours_stays_beside_a_newer_one_of_theirs() -> None:
    """Another installation's proven set does not replace ours."""
    ours, theirs = old(100), old(1, instance=THEIRS)

    assert survivors([ours, theirs], NOTHING) == {ours.id, theirs.id}


def test_legacy_groups_stay() -> None:
    """What the old scripts left only a person deletes."""
    legacy = a_set(
        NOW - timedelta(days=4000),
        id="legacy-2015-12-10",
        kind="legacy",
        instance="",
        proof="none",
        proven_at=None,
    )

    assert legacy.id in survivors([*nightly(100), legacy], replace(NOTHING, max_bytes=0))


def test_what_a_restore_replaced_stays_for_a_week() -> None:
    """Pre-restore copies are kept for seven days, whatever the counts, and then go."""
    young = old(6.99, kind="pre-restore", trigger="pre-restore", complete=False)
    aged = old(7.01, kind="pre-restore", trigger="pre-restore", complete=False)

    plan = plan_retention([*nightly(9), young, aged], replace(NOTHING, max_bytes=0), FACTS)

    assert young.id in ids(plan)
    assert aged.id in dropped(plan)


def test_when_nothing_is_proven_the_newest_stays() -> None:
    """A store full of unproven sets is not emptied."""
    sets = [old(days, proof="none", proven_at=None) for days in (50, 60, 70)]

    assert survivors(sets, NOTHING) == {sets[0].id}


def test_no_sets_give_an_empty_plan() -> None:
    """With nothing there is nothing to keep, and nothing to drop."""
    assert plan_retention([], DEFAULT, FACTS) == RetentionPlan((), ())


# --- counts -----------------------------------------------------------------------------


def test_forever_keeps_all_of_its_kind() -> None:
    """`all_days=forever` drops no set but thinned change sets."""
    sets = [*nightly(2000), old(3000, complete=False), old(3100, suspect=("x",))]

    assert survivors(sets, replace(NOTHING, all_days=None)) == {one.id for one in sets}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("daily", 2000),
        ("weekly", 342),  # and the last of each month and year
        ("monthly", 66),
        ("yearly", 6),
    ],
)
def test_each_count_can_be_forever(name: str, kept: int) -> None:
    """With one count forever, the last of each of its periods stays for ever."""
    policy = replace(NOTHING, **{name: None})
    sets = nightly(2000)
    periods: dict[str, Callable[[datetime], object]] = {
        "daily": datetime.date,
        "weekly": lambda at: at.isocalendar()[:2],
        "monthly": lambda at: (at.year, at.month),
        "yearly": lambda at: at.year,
    }

    found = survivors(sets, policy)

    assert {periods[name](one.created_at) for one in sets if one.id in found} == {
        periods[name](one.created_at) for one in sets
    }
    assert len(found) == kept


def test_zero_counts_keep_the_newest_only() -> None:
    """All counts at zero drop all but what is protected."""
    sets = nightly(2000)

    assert survivors(sets, NOTHING) == {sets[0].id}


def test_periods_follow_one_upon_the_other() -> None:
    """A zero in the middle shortens what comes after it by that much."""
    kept = survivors(nightly(2000), replace(DEFAULT, weekly=0))

    assert dates(kept)[:23] == GOLDEN[:23]
    assert dates(kept)[23:] == [
        "20260930",
        "20260831",
        "20260731",
        "20260630",
        "20251231",
        "20241231",
    ]


# --- the budget -------------------------------------------------------------------------


def sized(one: BackupSet, size: int) -> BackupSet:
    """The same set with that many bytes."""
    return replace(one, objects=(a_stored_object("tokens", one.created_at, bytes=size),))


def test_the_oldest_go_first_when_there_is_too_much() -> None:
    """With a budget of five sets, the five newest of those that the rules keep are left."""
    sets = [sized(one, 100) for one in nightly(2000)]

    plan = plan_retention(sets, replace(DEFAULT, max_bytes=500), FACTS)

    assert dates(ids(plan)) == GOLDEN[:5]
    assert plan.warning is None
    assert any("500 bytes" in one.reason for one in plan.drop)


class _Incomparable(BackupSet):
    """A set that may not be compared with another one."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("two sets were compared")

    __hash__ = object.__hash__


def test_a_budget_is_applied_without_comparing_sets() -> None:
    """Looking for each set among all would take the square of their number: seconds for 10,000."""
    sets = [_Incomparable(**vars(one)) for one in nightly(30)]
    policy = replace(DEFAULT, all_days=None, max_bytes=3 * sets[0].bytes)

    plan = plan_retention(sets, policy, FACTS)

    assert [one.backup_set.id for one in plan.keep] == [one.id for one in sets[:3]]
    assert [one.backup_set.id for one in plan.drop] == [one.id for one in sets[3:]]


def test_what_is_protected_beats_the_budget_with_a_warning() -> None:
    """A budget smaller than what may not be dropped keeps it, and says so."""
    sets = [sized(one, 100) for one in nightly(30)]
    theirs = sized(old(instance=THEIRS), 1000)

    plan = plan_retention([*sets, theirs], replace(DEFAULT, max_bytes=99), FACTS)

    assert ids(plan) == {sets[0].id, theirs.id}
    assert plan.warning is not None
    assert "1,100 bytes" in plan.warning
    assert "BACKUP_KEEP_MAX_BYTES" in plan.warning


def test_pinned_sets_that_keep_the_sum_above_the_budget_are_named() -> None:
    """The largest first, at most three, with a command; none where others are the reason."""
    sets = [sized(one, 100 + place) for place, one in enumerate(nightly(30))]
    pinned = {one.id: label for one, label in zip(sets[2:7], ["", "move", "", "", ""], strict=True)}
    facts = replace(FACTS, pinned=pinned)

    warning = plan_retention(sets, replace(NOTHING, max_bytes=300), facts).warning
    assert warning is not None
    assert warning.endswith(
        f"Without the pinned sets it would not be: {sets[6].id}, {sets[5].id}, {sets[4].id} and 2 "
        f"more. To let one go: ./bot backups unpin {sets[6].id}"
    )
    one = replace(FACTS, pinned={sets[3].id: "move"})
    warning = plan_retention(sets, replace(NOTHING, max_bytes=150), one).warning
    assert warning is not None
    assert f"{sets[3].id} (move). To let" in warning
    warning = plan_retention(sets, replace(NOTHING, max_bytes=99), one).warning
    assert warning is not None
    assert "pinned" not in warning


# --- clocks that jump -------------------------------------------------------------------


def test_sets_in_the_future_stay() -> None:
    """After the clock was set back by a year, what seems to come from the future is kept."""
    sets = nightly(400)
    back = replace(FACTS, now=NOW - timedelta(days=365))

    future = {one.id for one in sets if one.created_at > back.now}

    assert {one for one in survivors(sets, facts=back) if one in future} >= {
        one.id for one in sets[:358]
    } & future
    assert sets[0].id in survivors(sets, NOTHING, back)


def test_a_clock_far_ahead_leaves_the_newest() -> None:
    """A clock that jumped ahead by ten years drops the rest, never the newest proven set."""
    ahead = replace(FACTS, now=NOW + timedelta(days=3653))

    assert survivors(nightly(400), facts=ahead) == {nightly(1)[0].id}


# --- years of pruning -------------------------------------------------------------------


def a_life(days: int) -> list[BackupSet]:
    """Sets of so many days: each night, changes, manual, partial and suspect ones, restores."""
    first = NOW.replace(minute=0) - timedelta(days=days - 1)
    found = []
    for day in range(days):
        night = first + timedelta(days=day)
        if day % 41 != 7:  # some nights nothing is made
            found.append(a_set(night))
        if day % 5 == 0:
            found.append(a_set(night + timedelta(hours=9), trigger="manual"))
        if day % 11 == 0:
            found.append(a_set(night + timedelta(hours=11), complete=False, trigger="manual"))
        if day % 13 == 0:
            found.append(a_set(night + timedelta(hours=12), suspect=("x",), trigger="manual"))
        if day % 97 == 0:
            found.append(a_set(night + timedelta(hours=13), kind="pre-restore"))
        found += [
            a_set(night + timedelta(hours=hour, minutes=1), trigger="change")
            for hour in range(0, 24, 4)
        ]
    return [one for one in found if one.created_at <= NOW]


def test_three_years_of_daily_prunes_leave_what_one_late_prune_leaves() -> None:
    """Pruning every night and pruning once at the end have the same survivors."""
    sets = a_life(3 * 365)
    late = survivors(sets)
    kept: list[BackupSet] = []
    waiting = sorted(sets, key=lambda one: one.created_at)
    now = waiting[0].created_at + timedelta(minutes=5)
    while now <= NOW:
        while waiting and waiting[0].created_at <= now:
            kept.append(waiting.pop(0))
        remaining = survivors(kept, facts=replace(FACTS, now=now))
        kept = [one for one in kept if one.id in remaining]
        assert len(kept) < 120
        now += timedelta(days=1)

    assert not waiting
    assert {one.id for one in kept} == late


# --- properties -------------------------------------------------------------------------

AGES = st.one_of(
    st.integers(-86_400, 3 * 3600),
    st.integers(0, 3 * 86_400),
    st.integers(0, 1200 * 86_400),
)


@st.composite
def some_sets(draw: st.DrawFn, least: int = 0) -> list[BackupSet]:
    """Sets of all kinds and ages, with ids of their own."""
    ages = draw(st.lists(AGES, min_size=least, max_size=25, unique=True))
    found = []
    for age in ages:
        at = NOW - timedelta(seconds=age)
        kind = draw(st.sampled_from(["set", "set", "set", "set", "pre-restore", "legacy"]))
        proven = draw(st.sampled_from([True, True, True, False]))
        one = a_set(
            at,
            id=naming.set_id(at) if kind != "legacy" else f"legacy-{at:%Y-%m-%d}-{age}",
            kind=kind,
            trigger=draw(st.sampled_from(["scheduled", "change", "manual"])),
            instance="" if kind == "legacy" else draw(st.sampled_from([OURS, OURS, THEIRS])),
            complete=draw(st.sampled_from([True, True, True, False])),
            proof="full" if proven else "none",
            proven_at=at if proven else None,
            suspect=draw(st.sampled_from([None, None, None, ("x",)])),
        )
        found.append(sized(one, draw(st.integers(0, 1000))))
    return found


LABELS = st.sampled_from(["", "before the move"])
COUNT = st.one_of(st.integers(0, 40), st.none())
POLICIES = st.builds(
    RetentionPolicy,
    changes_hours=COUNT,
    all_days=COUNT,
    daily=COUNT,
    weekly=COUNT,
    monthly=COUNT,
    yearly=COUNT,
    max_bytes=st.one_of(st.none(), st.integers(0, 20_000)),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[BackupSet], RetentionPolicy, RetentionFacts]:
    """Sets, a policy, and facts that may name one of the sets as drilled."""
    sets = draw(some_sets(least=1))
    drilled = draw(st.one_of(st.none(), st.sampled_from([one.id for one in sets])))
    frozen = draw(st.sampled_from([None, None, None, "the newest run failed"]))
    pinned = draw(st.dictionaries(st.sampled_from([one.id for one in sets]), LABELS, max_size=4))
    facts = replace(FACTS, drilled=drilled, frozen=frozen, pinned=pinned)
    return sets, draw(POLICIES), facts


def never(one: BackupSet, sets: Sequence[BackupSet], facts: RetentionFacts) -> bool:
    """Whether the issue says that a set is never dropped, in its words and not the code's."""
    protecting = [found for found in sets if found.protects]
    of_ours = [found for found in protecting if found.instance in facts.ours]
    return (
        any(
            group and one is max(group, key=lambda f: f.created_at)
            for group in (protecting, of_ours)
        )
        or one.id == facts.drilled
        or one.id in facts.pinned
        or facts.frozen is not None
        or one.kind == "legacy"
        or one.instance not in facts.ours
        or (one.kind == "pre-restore" and facts.now - one.created_at < timedelta(days=7))
    )


@given(situations())
def test_a_plan_never_drops_everything(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
) -> None:
    """Whatever the policy, when there are sets one of them stays."""
    assert plan_retention(*situation).keep


@given(situations())
def test_a_plan_never_drops_a_protected_set(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
) -> None:
    """What the issue names as never dropped is kept, marked so, and each set is decided once."""
    sets, _, facts = situation
    plan = plan_retention(*situation)

    must_stay = {one.id for one in sets if never(one, sets, facts)}
    assert must_stay <= ids(plan)
    assert must_stay <= {one.backup_set.id for one in plan.keep if one.protected}
    decided = [*(one.backup_set.id for one in plan.keep), *(o.backup_set.id for o in plan.drop)]
    assert sorted(decided) == sorted(one.id for one in sets)
    assert all(one.reasons for one in plan.keep)


@given(situations(), st.randoms(use_true_random=False))
def test_a_plan_is_the_same_in_any_order(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts], random: Any
) -> None:
    """The order in which the sets come changes nothing."""
    sets, policy, facts = situation
    shuffled = list(sets)
    random.shuffle(shuffled)

    assert plan_retention(shuffled, policy, facts) == plan_retention(sets, policy, facts)


@settings(max_examples=200)
@given(situations(), st.sampled_from(COUNTS), st.one_of(st.integers(0, 40), st.none()))
def test_a_larger_count_keeps_what_a_smaller_one_kept(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
    name: str,
    more: int | None,
) -> None:
    """Monotone in every count, forever included, while `max_bytes` is unset."""
    sets, policy, facts = situation
    policy = replace(policy, max_bytes=None)
    count = getattr(policy, name)
    larger = None if more is None or count is None else count + more

    assert survivors(sets, policy, facts) <= survivors(
        sets, replace(policy, **{name: larger}), facts
    )


@given(situations(), st.integers(0, 10_000), st.one_of(st.integers(0, 10_000), st.none()))
def test_a_larger_budget_keeps_what_a_smaller_one_kept(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
    budget: int,
    more: int | None,
) -> None:
    """Monotone in `max_bytes` by itself, no budget included."""
    sets, policy, facts = situation
    larger = None if more is None else budget + more

    assert survivors(sets, replace(policy, max_bytes=budget), facts) <= survivors(
        sets, replace(policy, max_bytes=larger), facts
    )


@given(situations())
def test_a_budget_is_kept_to_or_its_breach_is_told(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
) -> None:
    """Over the budget nothing is left but what is protected, and there is a warning."""
    sets, policy, facts = situation
    plan = plan_retention(sets, policy, facts)
    total = sum(one.backup_set.bytes for one in plan.keep)

    over = policy.max_bytes is not None and total > policy.max_bytes
    assert (plan.warning is not None) == over
    if over:
        assert all(one.protected for one in plan.keep)
        # Pins are named exactly where the rest would fit without them.
        unpinned = plan_retention(sets, policy, replace(facts, pinned={}))
        assert ("pinned sets" in (plan.warning or "")) == (unpinned.warning is None)


@given(situations())
def test_pruning_twice_is_pruning_once(
    situation: tuple[list[BackupSet], RetentionPolicy, RetentionFacts],
) -> None:
    """What a plan keeps, the same plan a moment later keeps too."""
    sets, policy, facts = situation
    kept = survivors(sets, policy, facts)

    again = survivors([one for one in sets if one.id in kept], policy, facts)

    assert again == kept


def test_every_count_is_tested() -> None:
    """The properties above know every setting of the policy."""
    assert {one.name for one in fields(RetentionPolicy)} == {*COUNTS, "max_bytes", "points_days"}
