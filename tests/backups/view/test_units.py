"""Ages, sizes and instants as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backups.view import units


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 min 0 s"),
        (0, "0 min 0 s"),
        (200, "3 min 20 s"),
        (3600, "1 h 0 min"),
        (47 * 3600 + 59 * 60, "47 h 59 min"),
        (48 * 3600, "2 days"),
        (1_000_000, "11 days"),
    ],
)
def test_ages(seconds: int, words: str) -> None:
    """The two units that matter; days from two days on."""
    assert units.age(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (8192, "8.2 kB"),
        (1_500_000, "1.5 MB"),
        (2_000_000_000, "2.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    """Decimal units, as providers bill them."""
    assert units.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (5.25, "5.2 s"), (59, "59 s"), (61, "1 min 1 s")]
)
def test_durations(seconds: float, words: str) -> None:
    """Tenths where they matter."""
    assert units.duration(seconds) == words


def test_moments_and_sentences() -> None:
    """A time of day with its zone; a message with a capital and one full stop."""
    assert units.moment(datetime(2026, 11, 2, 1, 5, tzinfo=UTC)) == "2 Nov 2026, 01:05 UTC"
    assert units.sentence("no answer") == "No answer."
    assert units.sentence("Why?") == "Why?"
    assert units.sentence("") == "."
