"""`Heartbeat`: how late an event loop wakes a task that wants to beat every millisecond."""

from __future__ import annotations

import asyncio
import time

BEAT_SECONDS = 0.001


class Heartbeat:
    """Beats, while it is asked to, and remembers how late each beat was."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self.wanted = False

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            if not self.wanted:
                await asyncio.sleep(0.05)
                continue
            due = time.perf_counter() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._late.append(time.perf_counter() - due)

    def take(self) -> list[float]:
        """The seconds of all beats since the last call."""
        taken, self._late = self._late, []
        return taken
