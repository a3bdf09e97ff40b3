"""Instants that are free: a second is the id of one set, and the name of one verdict."""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.format import naming
from backups.sets.catalogue import Catalogue
from shared.clock import Clock


class Instants:
    """The instants at which this host may make a set."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock

    def free(self) -> datetime:
        """The present instant, in a second that has no set yet on this host; waits for one."""
        while self._catalogue.has(naming.set_id(self._clock.now())):
            wait_for_next_second(self._clock)
        return self._clock.now()


def wait_for_next_second(clock: Clock) -> None:
    """Sleep until the second of the clock is over."""
    now = clock.now()
    next_second = now.replace(microsecond=0) + timedelta(seconds=1)
    clock.sleep((next_second - now).total_seconds())
