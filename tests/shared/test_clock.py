"""The one text form of a time, and the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import Clock, SystemClock, format_utc, parse_utc
from tests.support.clock import FixedClock

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-8)), timezone(timedelta(hours=5.5))])


def test_a_time_is_written_with_z() -> None:
    """Whole seconds have no fraction; milliseconds appear only when there are some."""
    instant = datetime(2026, 11, 22, 1, 0, 0, tzinfo=UTC)

    assert format_utc(instant) == "2026-11-22T01:00:00Z"
    assert format_utc(instant + timedelta(milliseconds=7)) == "2026-11-22T01:00:00.007Z"
    assert format_utc(instant + timedelta(microseconds=7)) == "2026-11-22T01:00:00Z"


def test_a_time_of_another_zone_is_written_in_utc() -> None:
    """The text is the instant, whatever zone it came in."""
    berlin = timezone(timedelta(hours=1))

    assert format_utc(datetime(2026, 11, 22, 0, 30, tzinfo=berlin)) == "2026-11-21T23:30:00Z"


def test_a_naive_time_is_refused() -> None:
    """A time without a zone has no instant, so it is never written."""
    with pytest.raises(ValueError, match="without a time zone"):
        format_utc(datetime(2026, 11, 22))  # noqa: DTZ001


@given(
    st.datetimes(
        min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(9000, 1, 1),  # noqa: DTZ001
        timezones=ZONES,
    )
)
def test_reading_gives_back_what_was_written(instant: datetime) -> None:
    """`parse_utc` is the inverse of `format_utc`, to the millisecond."""
    expected = instant.astimezone(UTC)
    expected = expected.replace(microsecond=expected.microsecond // 1000 * 1000)

    assert parse_utc(format_utc(instant)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-11-22T01:00:00",
        "2026-11-22T01:00:00+00:00",
        "2026-11-22T01:00:00+02:00Z",
        "2026-11-22Z",
        "2026-11-22 01:00:00Z",
        "20261122T010000Z",
        "2026-W47-7Z",
        "2026-11-22T01:00:00.000Z",
        "2026-11-22T01:00:00.1234Z",
        "2026-11-22T25:00:00Z",
        "yesterdayZ",
    ],
)
def test_any_other_form_is_refused(text: str) -> None:
    """Only what `format_utc` writes is read: a second zone or a bare date is never guessed at."""
    with pytest.raises(ValueError, match=r".+"):
        parse_utc(text)


def test_the_clock_of_the_host_is_in_utc() -> None:
    """`SystemClock` tells the present instant, with its zone, and moves on while it sleeps."""
    clock: Clock = SystemClock()

    before = clock.now()
    clock.sleep(0.01)
    after = clock.now()

    assert before.tzinfo is UTC
    assert after - before >= timedelta(seconds=0.01)
    assert abs(before - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_clock_of_the_tests_moves_only_when_told() -> None:
    """`FixedClock` stands still, and its sleep moves it at once."""
    clock = FixedClock()
    start = clock.now()

    assert clock.now() == start
    clock.sleep(90)
    assert clock.advance(hours=1) == start + timedelta(seconds=3690)
    assert clock.now().tzinfo is UTC

    as_clock: Clock = clock
    assert as_clock.now() == start + timedelta(seconds=3690)
