"""Crontab lines: what they mean, which are refused, and how next and last fit together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crontab import Crontab

SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)


THE_END = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("weekday", "days_after_sunday"),
    [("0", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5", 5), ("6", 6), ("7", 0)],
)
def test_weekdays_are_those_of_cron(weekday: str, days_after_sunday: int) -> None:
    """0 and 7 are Sunday, 1 is Monday."""
    due = Crontab(f"0 1 * * {weekday}").next_after(SUNDAY)

    assert due == SUNDAY + timedelta(days=days_after_sunday, hours=1)


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("0 1 * * *", "2026-11-22T00:59:59", "2026-11-22T01:00:00"),
        ("0 1 * * *", "2026-11-22T01:00:00", "2026-11-23T01:00:00"),
        ("*/15 * * * *", "2026-11-22T01:01:00", "2026-11-22T01:15:00"),
        ("5,35 2-3 * * *", "2026-11-22T02:36:00", "2026-11-22T03:05:00"),
        ("0 0 1 1 *", "2026-11-22T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 29 2 *", "2026-11-22T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 */2 * *", "2026-11-22T00:00:00", "2026-11-23T00:00:00"),
        ("0 0 * * MON", "2026-11-22T00:00:00", "2026-11-23T00:00:00"),
    ],
)
def test_a_line_is_due_when_cron_would_run_it(expression: str, after: str, due: str) -> None:
    """Minutes, hours, days and months have the meaning they have in a crontab."""
    instant = datetime.fromisoformat(after).replace(tzinfo=UTC)

    assert Crontab(expression).next_after(instant) == datetime.fromisoformat(due).replace(
        tzinfo=UTC
    )


@pytest.mark.parametrize(
    "expression",
    ["0 1 1 * 1", "0 1 */2 * 1", "0 1 1 * */2", "0 1 */2 * */2", "0 1 1-31 * 0-6", "0 1 */1 * */1"],
)
def test_both_day_fields_are_refused(expression: str) -> None:
    """A line that restricts both days is refused, also by a step: cron and people differ on it."""
    with pytest.raises(ValueError, match="not both"):
        Crontab(expression)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2 *", "0 0 31 4,6,9,11 *"])
def test_a_line_that_is_never_due_is_refused(expression: str) -> None:
    """30 February would silently mean no backup at all."""
    with pytest.raises(ValueError, match=r"crontab schedule|never due"):
        Crontab(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "0 1 * *",
        "0 0 1 * * *",
        "@daily",
        "60 1 * * *",
        "0 24 * * *",
        "0 1 0 * *",
        "0 1 32 * *",
        "0 1 * 13 *",
        "0 1 * * 8",
        "*/0 * * * *",
        "a b c d e",
        "5-1 * * * *",
        "- - - - -",
    ],
)
def test_a_malformed_line_is_refused(expression: str) -> None:
    """What is no crontab line raises `ValueError` and nothing else."""
    with pytest.raises(ValueError, match="schedule"):
        Crontab(expression)


def test_spaces_between_the_fields_do_not_matter() -> None:
    """Tabs and several spaces separate fields as one space does."""
    assert Crontab("  0 \t1  * * * ").expression == "0 1 * * *"


@pytest.mark.parametrize("zone", [ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")])
def test_a_change_of_the_clocks_moves_nothing(zone: ZoneInfo) -> None:
    """Lines are read in UTC: in every week of the year 01:30 comes once a day, 24 h apart."""
    crontab = Crontab("30 1 * * *")
    due = datetime(2026, 1, 1, tzinfo=UTC)

    for _ in range(365):
        following = crontab.next_after(due.astimezone(zone))
        assert (following.hour, following.minute, following.tzinfo) == (1, 30, UTC)
        assert following - due <= timedelta(days=1)
        assert crontab.last_until(following.astimezone(zone)) == following
        due = following

    assert due == datetime(2026, 12, 31, 1, 30, tzinfo=UTC)


EXPRESSIONS = st.builds(
    lambda minute, hour, days: f"{minute} {hour} {days}",
    st.sampled_from(["0", "59", "*", "*/7", "3,33", "10-20/5"]),
    st.sampled_from(["0", "1", "23", "*", "*/5", "8-17"]),
    st.sampled_from(
        ["* * *", "* * 0", "* * 7", "* * 1-5", "1 * *", "31 * *", "29 2 *", "*/3 6 *", "L * *"]
    ),
)
INSTANTS = st.datetimes(
    min_value=datetime(2001, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2080, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)


@given(EXPRESSIONS, INSTANTS)
def test_last_and_next_enclose_an_instant(expression: str, instant: datetime) -> None:
    """`last <= instant < next`, and nothing is due between the two."""
    crontab = Crontab(expression)

    last, following = crontab.last_until(instant), crontab.next_after(instant)

    assert last <= instant < following
    assert crontab.next_after(last) == following
    assert crontab.last_until(following - timedelta(microseconds=1)) == last


@given(EXPRESSIONS, INSTANTS)
def test_a_due_instant_is_its_own_last(expression: str, instant: datetime) -> None:
    """At the very instant of being due, that instant is the last one and no longer the next."""
    crontab = Crontab(expression)

    due = crontab.next_after(instant)

    assert crontab.last_until(due) == due
    assert crontab.next_after(due) > due
    assert (due.second, due.microsecond) == (0, 0)


@pytest.mark.parametrize("expression", ["0 1 * * *", "* * * * *", "0 0 29 2 *"])
@pytest.mark.parametrize("instant", [datetime(9999, 12, 31, 23, 59, tzinfo=UTC), THE_END])
def test_the_last_days_that_can_be_written_raise_nothing(
    expression: str, instant: datetime
) -> None:
    """A set dated in the year 9999 has a due instant before it, and none but the end after it."""
    schedule = Crontab(expression)

    assert schedule.last_until(instant) <= instant
    assert schedule.next_after(instant) in (THE_END, datetime(9999, 12, 31, 23, 59, tzinfo=UTC))
