"""The timeline of the last day: its good seconds, its gaps by name, and what is near."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backups.format.chain import EndReason
from backups.view.stretches import (
    ENDS,
    MISSING,
    NOT_FOLLOWED,
    NOT_PROVEN,
    NOTHING_NEWER,
    Stretch,
)
from backups.view.timeline import (
    Bar,
    Choice,
    Gap,
    Mark,
    Timeline,
    pick,
    read_second,
    timeline,
)
from backups.vocabulary.following import Outage

NOW = datetime(2026, 11, 22, 13, 42, 9, 500_000, tzinfo=UTC)
BEGIN = datetime(2026, 11, 21, 13, 42, 9, tzinfo=UTC)
A, B = "20261121T010000Z-0123abcd", "20261122T010000Z-0123abcd"


def at(text: str) -> datetime:
    """A time of the last 24 hours before `NOW`: `13:42:07`, of yesterday `-23:00:00`."""
    day = 21 if text.startswith("-") else 22
    return datetime.fromisoformat(f"2026-11-{day}T{text.removeprefix('-')}").replace(tzinfo=UTC)


def stretch(start: str, end: str, chain: str = A, **other: Any) -> Stretch:
    """Points of a chain from one time to another."""
    return Stretch(chain, at(start), at(end), **other)


def bars(found: Timeline) -> list[tuple[str, str]]:
    """The bars as times of day."""
    return [(f"{bar.start:%H:%M:%S}", f"{bar.end:%H:%M:%S}") for bar in found.bars]


def reasons(found: Timeline) -> list[tuple[str, str, str]]:
    """The gaps as times of day, with their reasons."""
    return [(f"{gap.start:%H:%M:%S}", f"{gap.end:%H:%M:%S}", gap.reason) for gap in found.gaps]


# --- what is good -----------------------------------------------------------------------


def test_hours_of_a_chain_are_one_bar() -> None:
    """Stretches of which one follows the other have nothing between them."""
    found = timeline(
        [
            stretch("02:00:00.250", "02:59:58"),
            stretch("03:10:00", "03:59:00", follows=True),
            stretch("04:00:00", "13:42:07.350", follows=True),
        ],
        (),
        NOW,
    )
    assert bars(found) == [("02:00:01", "13:42:07")]
    assert reasons(found) == [("13:42:09", "02:00:01", NOT_FOLLOWED)]
    assert found.newest == at("13:42:07.350")
    assert found.chosen == at("13:42:07")


def test_a_missing_number_is_a_gap() -> None:
    """A stretch that does not follow the one before it leaves a gap, named."""
    found = timeline([stretch("02:00:00", "03:00:00"), stretch("03:05:00", "13:42:08")], (), NOW)
    assert bars(found) == [("02:00:00", "03:00:00"), ("03:05:00", "13:42:08")]
    assert found.gaps[1].words == (
        "no point from 03:00:00 to 03:05:00: a point is missing in the store"
    )


def test_points_that_are_not_proven_are_no_bar() -> None:
    """What was not proven cannot be restored by its time, and nothing goes on across it."""
    found = timeline(
        [
            stretch("02:00:00", "03:00:00"),
            stretch("03:00:01", "04:00:00", follows=True, proven=False),
            stretch("04:00:01", "13:42:08", follows=True),
        ],
        (),
        NOW,
    )
    assert bars(found) == [("02:00:00", "03:00:00"), ("04:00:01", "13:42:08")]
    assert reasons(found)[1] == ("03:00:00", "04:00:01", NOT_PROVEN)


def test_a_new_chain_goes_on_where_the_old_one_ended() -> None:
    """Also where its points overlap those that the old one had while the full was made."""
    apart = [
        stretch("01:00:00", "02:00:00", ended="new_chain"),
        stretch("03:00:00", "13:42:08", B),
    ]
    assert bars(timeline(apart, (), NOW)) == [("01:00:00", "13:42:08")]
    overlapping = [stretch("01:00:00", "02:00:00"), stretch("01:59:00", "13:42:08", B)]
    assert bars(timeline(overlapping, (), NOW)) == [("01:00:00", "13:42:08")]


@pytest.mark.parametrize("reason", [one for one in ENDS if one != "new_chain"])
def test_a_chain_that_ended_names_its_reason(reason: EndReason) -> None:
    """Between its last point and the first of the next chain is a gap that says why."""
    found = timeline(
        [stretch("01:00:00", "02:00:00", ended=reason), stretch("03:00:00", "13:42:08", B)],
        (),
        NOW,
    )
    assert bars(found) == [("01:00:00", "02:00:00"), ("03:00:00", "13:42:08")]
    assert reasons(found)[1] == ("02:00:00", "03:00:00", ENDS[reason])
    alone = timeline([stretch("01:00:00", "02:00:00", ended=reason)], (), NOW, followed_until=NOW)
    assert bars(alone) == [("01:00:00", "02:00:00")]
    assert reasons(alone)[-1] == ("02:00:00", "13:42:09", ENDS[reason])


def test_a_chain_whose_end_is_not_known() -> None:
    """Between it and the next chain nothing is said to be missing in the store."""
    found = timeline([stretch("01:00:00", "02:00:00"), stretch("03:00:00", "13:42:08", B)], (), NOW)
    assert reasons(found)[1] == ("02:00:00", "03:00:00", NOT_FOLLOWED)


def test_what_did_not_change_is_good() -> None:
    """While the follower lives, the newest point is good for all the time since it."""
    quiet = [stretch("01:00:00", "02:00:00")]
    assert bars(timeline(quiet, (), NOW, followed_until=NOW)) == [("01:00:00", "13:42:09")]
    ended = [stretch("01:00:00", "02:00:00", ended="new_chain")]
    assert bars(timeline(ended, (), NOW, followed_until=NOW)) == [("01:00:00", "13:42:09")]
    unknown = timeline(quiet, (), NOW)
    assert bars(unknown) == [("01:00:00", "02:00:00")]
    assert reasons(unknown)[-1] == ("02:00:00", "13:42:09", NOTHING_NEWER)


def test_a_point_on_its_way_is_no_gap() -> None:
    """The last seconds are not called a gap: the next point is being stored."""
    assert len(timeline([stretch("-13:00:00", "13:42:05")], (), NOW).gaps) == 0
    assert len(timeline([stretch("-13:00:00", "13:42:03")], (), NOW).gaps) == 1


@pytest.mark.parametrize(
    ("start", "end", "left"),
    [
        ("02:10:00", "02:14:30", [("01:00:00", "02:10:00"), ("02:14:30", "03:00:00")]),
        ("00:10:00", "02:14:30", [("02:14:30", "03:00:00")]),
        ("02:10:00", "04:00:00", [("01:00:00", "02:10:00")]),
        ("00:10:00", "04:00:00", []),
        ("04:10:00", "05:00:00", [("01:00:00", "03:00:00")]),
        ("00:10:00", "00:50:00", [("01:00:00", "03:00:00")]),
    ],
)
def test_an_outage_cuts_a_bar(start: str, end: str, left: list[tuple[str, str]]) -> None:
    """Its first and last second are good: points on both sides hold them."""
    outage = Outage(at(start), at(end), "the store was away")
    found = timeline([stretch("01:00:00", "03:00:00")], (), NOW, outages=[outage])
    assert bars(found) == left


def test_two_outages_of_one_bar() -> None:
    """Each is a gap with its own reason, in whatever order they are given."""
    found = timeline(
        [stretch("-13:00:00", "13:42:08")],
        (),
        NOW,
        outages=[
            Outage(at("05:00:00"), at("05:00:04"), "the disk was full"),
            Outage(at("02:10:00"), at("02:14:30"), "the store was away"),
        ],
    )
    assert [gap.words for gap in found.gaps] == [
        "no point from 02:10:00 to 02:14:30: the store was away",
        "no point from 05:00:00 to 05:00:04: the disk was full",
    ]
    assert found.summary == (
        "Every second from 21 Nov, 13:42:09 to 22 Nov, 13:42:08 UTC can be restored, except "
        "2 gaps, 4 min 34 s in all."
    )


# --- its ends ---------------------------------------------------------------------------


def test_older_points_are_cut_off() -> None:
    """The bar begins with the day; what comes before it is remembered as earlier."""
    found = timeline(
        [stretch("-03:00:00", "-04:00:00"), stretch("-05:00:00", "03:00:00")],
        [Mark(at("-01:00:00"), "old")],
        NOW,
    )
    assert found.bars == (Bar(BEGIN, at("03:00:00")),)
    assert (found.marks, found.earlier) == ((), at("-04:00:00"))


def test_the_future_counts_for_nothing() -> None:
    """A point or a set whose time lies ahead is not shown, and nothing reaches beyond now."""
    later = NOW + timedelta(hours=1)
    found = timeline(
        [Stretch(A, at("13:00:00"), later), Stretch(B, later, later)],
        [Mark(later, "ahead")],
        NOW,
        followed_until=later,
    )
    assert bars(found) == [("13:00:00", "13:42:09")]
    assert (found.marks, found.newest) == ((), NOW)


def test_an_empty_day() -> None:
    """Nothing is known: nothing is drawn, and the sentence says so."""
    found = timeline((), (), NOW)
    assert found.is_empty
    assert found.summary == "Nothing of the last 24 hours can be restored."
    assert pick(found, at("12:00:00")) == Choice(at("12:00:00"), None, None, NOT_FOLLOWED)


def test_sets_alone() -> None:
    """Without following each set is a second of its own, and there are no bars to have gaps."""
    found = timeline((), [Mark(at("07:00:00"), "b"), Mark(at("01:00:00"), "a")], NOW)
    assert not found.is_empty
    assert (found.bars, found.gaps) == ((), ())
    assert [mark.set_id for mark in found.marks] == ["a", "b"]
    assert found.chosen == found.newest == at("07:00:00")
    assert found.summary == "2 restore points in the last 24 hours; changes were not followed."


def test_places_and_ticks() -> None:
    """Every third hour has its place, and midnight the name of the day."""
    found = timeline((), (), NOW)
    assert (found.place(BEGIN), found.place(found.end)) == (0, 100)
    assert found.place(BEGIN + timedelta(hours=6)) == 25
    assert found.place(BEGIN - timedelta(hours=6)) == 0
    assert [tick.text for tick in found.ticks] == [
        "15:00",
        "18:00",
        "21:00",
        "22 Nov",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
    ]
    assert [tick.text for tick in found.ticks if not tick.minor] == [
        "18:00",
        "22 Nov",
        "06:00",
        "12:00",
    ]


# --- what is pointed at -----------------------------------------------------------------

HOLEY = timeline(
    [
        stretch("01:00:00", "02:10:00"),
        stretch("02:14:30", "04:00:00", ended="clock"),
        stretch("05:00:00", "13:42:07", B),
    ],
    [Mark(at("-23:00:00"), "late"), Mark(at("-09:00:00"), "old"), Mark(at("04:30:00"), "between")],
    NOW,
)


@pytest.mark.parametrize(
    ("asked", "good", "after", "reason"),
    [
        ("01:00:00", "01:00:00", None, None),
        ("02:09:59", "02:09:59", None, None),
        ("02:10:00", "02:10:00", None, None),
        ("02:10:01", "02:10:00", "02:14:30", MISSING),
        ("02:14:29", "02:10:00", "02:14:30", MISSING),
        ("02:14:30", "02:14:30", None, None),
        ("04:00:01", "04:00:00", "04:30:00", ENDS["clock"]),
        ("04:30:00", "04:30:00", None, None),
        ("04:59:59", "04:30:00", "05:00:00", ENDS["clock"]),
        ("13:42:08", "13:42:07", None, NOTHING_NEWER),
        ("13:42:10", "13:42:07", None, "it lies in the future"),
        ("00:59:59", "-23:00:00", "01:00:00", NOT_FOLLOWED),
        ("-22:00:00", "-09:00:00", "-23:00:00", NOT_FOLLOWED),
    ],
)
def test_pointing(asked: str, good: str, after: str | None, reason: str | None) -> None:
    """A second is good itself, or has a nearest good one before it, one after it, and a reason."""
    found = pick(HOLEY, at(asked))
    assert found == Choice(at(asked), at(good), at(after) if after else None, reason)
    assert found.is_good == (asked == good)


def seconds() -> Iterator[datetime]:
    """Every half minute of the day."""
    for number in range(2 * 60 * 24):
        yield BEGIN + timedelta(seconds=30 * number)


@given(
    some.lists(
        some.tuples(
            some.integers(-3000, 90_000),
            some.integers(0, 20_000),
            some.booleans(),
            some.booleans(),
            some.sampled_from([None, *ENDS]),
        ),
        max_size=8,
    ),
    some.lists(some.tuples(some.integers(-3000, 90_000), some.integers(0, 9000)), max_size=4),
    some.lists(some.integers(-3000, 90_000), max_size=4),
    some.none() | some.integers(0, 90_000),
)
def test_whatever_is_known(
    points: list[tuple[int, int, bool, bool, EndReason | None]],
    away: list[tuple[int, int]],
    sets: list[int],
    followed: int | None,
) -> None:
    """Bars are in order and apart, gaps lie between them, and a good second is at or before."""

    def instant(second: int) -> datetime:
        return BEGIN + timedelta(seconds=second + 0.25)

    found = timeline(
        [
            Stretch(B if place % 3 else A, instant(start), instant(start + long), f, p, e)
            for place, (start, long, f, p, e) in enumerate(points)
        ],
        [Mark(instant(one), str(one)) for one in sets],
        NOW,
        followed_until=None if followed is None else instant(followed),
        outages=[Outage(instant(one), instant(one + long), "away") for one, long in away],
    )
    edges = [edge for bar in found.bars for edge in (bar.start, bar.end)]
    assert edges == sorted(edges)
    for gap in found.gaps:
        assert found.begin <= gap.start < gap.end <= found.end
        assert not any(bar.start < gap.end and gap.start < bar.end for bar in found.bars)
    for second in seconds():
        choice = pick(found, second)
        assert choice.good is None or choice.good <= second
        assert choice.after is None or choice.after > second
        assert choice.is_good == (choice.reason is None)
        if any(gap.start < second < gap.end for gap in found.gaps):
            assert choice.is_good == (second in {mark.at for mark in found.marks})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("02:10:00", "02:10:00 can be restored."),
        ("04:30:00", "04:30:00 can be restored."),
        (
            "04:59:59",
            "04:59:59: no point, the clock of the host was set back. "
            "The nearest before it is 04:30:00.",
        ),
        (
            "00:59:59",
            "00:59:59: no point, changes were not followed. "
            "The nearest before it is 21 Nov, 23:00:00.",
        ),
    ],
)
def test_the_words_of_a_choice(asked: str, words: str) -> None:
    """What a person reads, and a screen reader says."""
    assert pick(HOLEY, at(asked)).words(NOW) == words


def test_the_words_where_nothing_is_before() -> None:
    """Then there is no nearest one to name."""
    found = pick(timeline((), (), NOW), at("12:00:00"))
    assert found.words(NOW) == "12:00:00: no point, changes were not followed."


# --- what is typed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-11-22T13:42:07", "13:42:07"),
        ("2026-11-22t13:42:07z", "13:42:07"),
        ("2026-11-22 13:42", "13:42:00"),
        (" 2026-11-21T23:59:59.250 ", "-23:59:59.250"),
        ("13:42:07", "13:42:07"),
        ("13:42:10", "-13:42:10"),
        ("23:59", "-23:59:00"),
        ("14:42:07+01:00", "13:42:07"),
        ("2026-11-22T14:42:07+01:00", "13:42:07"),
    ],
)
def test_a_typed_time(typed: str, meant: str) -> None:
    """With its day, or the newest such time of day; in UTC unless it says otherwise."""
    assert read_second(typed, NOW) == at(meant)


@pytest.mark.parametrize("typed", ["", "now", "2026-11-22", "25:00:00", "1", "2026-13-01T00:00:00"])
def test_what_is_no_time(typed: str) -> None:
    """A day without a time is no second either."""
    assert read_second(typed, NOW) is None


def test_the_words_of_a_gap_over_midnight() -> None:
    """Both ends have their day."""
    gap = Gap(at("-23:59:58"), at("00:02:00"), "the store was away")
    assert gap.words == ("no point from 21 Nov, 23:59:58 to 22 Nov, 00:02:00: the store was away")
