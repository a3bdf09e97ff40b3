"""Noticing that somebody has set the clock: what was planned by it has to be planned anew."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.clock import Clock

# More than a clock that is only adjusted can gain or lose between two looks a minute apart.
LEAST_STEP = timedelta(seconds=5)


class ClockSteps:
    """Looks at the wall clock beside the monotonic one; `look` every second or so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin = self._find_origin()

    def look(self) -> timedelta | None:
        """By how much the clock was set since the last look; None when it only went on.

        A host that slept looks the same: the monotonic clock stands still meanwhile.
        """
        before, self._origin = self._origin, self._find_origin()
        step = self._origin - before
        return step if abs(step) >= LEAST_STEP else None

    def _find_origin(self) -> datetime:
        """What the wall clock would have said when the monotonic clock began."""
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())
