"""`FixedClock`: a `Clock` that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


class FixedClock:
    """A `shared.clock.Clock` whose time is `now` until `advance` or `sleep` moves it."""

    def __init__(self, now: datetime = MIDNIGHT) -> None:
        self._now = now
        self._passed = timedelta(0)

    def now(self) -> datetime:
        """The instant at which the clock stands."""
        return self._now

    def monotonic(self) -> float:
        """The seconds by which the time was moved on, a day and more; `step` does not count."""
        return (timedelta(days=1) + self._passed).total_seconds()

    def step(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> datetime:
        """Set the clock, forward or back, while no time passes; the new instant."""
        self._now += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return self._now

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> datetime:
        """Move on by that much; the new instant."""
        passed = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        self._passed += passed
        self._now += passed
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on at once, where a real clock would wait."""
        self.advance(seconds=seconds)
