"""The period of a report."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backups.decisions.period import EARLIEST, start_of_period
from backups.errors import PeriodInvalid

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "start"),
    [
        ("12h", datetime(2026, 11, 22, 0, tzinfo=UTC)),
        ("90d", datetime(2026, 8, 24, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 8, 12, tzinfo=UTC)),
        ("9999w", EARLIEST),
        ("0999-01-01", EARLIEST),
        ("2026-09-01", datetime(2026, 9, 1, tzinfo=UTC)),
        ("2026-09-01T10:00:00Z", datetime(2026, 9, 1, 10, tzinfo=UTC)),
        ("2026-09-01T10:00:00+02:00", datetime(2026, 9, 1, 8, tzinfo=UTC)),
    ],
)
def test_the_words_for_a_period(since: str, start: datetime) -> None:
    """Hours, days and weeks back from now, a date and an instant are understood."""
    assert start_of_period(since, NOW) == start


@pytest.mark.parametrize(
    "since",
    [
        "",
        "d",
        "0d",
        "-1d",
        "1.5d",
        "90",
        "90x",
        "99999d",
        "\u0661d",
        "yesterday",
        "2026-13-01",
        "2026-11-22T12:00:01Z",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_other_words_are_refused_by_name(since: str) -> None:
    """What is no time, or has not come yet, is named in the error."""
    with pytest.raises(PeriodInvalid) as caught:
        start_of_period(since, NOW)
    assert repr(since) in caught.value.message
    assert "90d" in caught.value.hint
