"""How far the run of this process is, for those who watch it from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from backups.model import Progress, Run

# A rate over less than this is noise.
_LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class LiveProgress:
    """Where a run is, all sources of its stage together.

    `sources` are those that are not done yet, `rate` is in bytes a second, None while it is
    not known.
    """

    stage: str
    sources: tuple[str, ...]
    done: int
    total: int
    rate: float | None


class ProgressBoard:
    """Holds the newest reports of the run of this process; any thread may read it.

    Sources may go through a stage side by side, each in a thread of its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at_stage = ("", "")
        self._sources: dict[str, Progress] = {}
        self._begin(0.0)

    def note(self, run: Run, progress: Progress) -> None:
        """Take a report in; costs the run next to nothing."""
        now = self._clock()
        with self._lock:
            if (run.id, progress.stage) != self._at_stage:
                self._at_stage = (run.id, progress.stage)
                self._sources = {}
                self._begin(now)
            self._at = now
            if not progress.source:
                return
            before = self._sources.get(progress.source)
            self._sources[progress.source] = progress
            if before is None:
                self._first += progress.done
            elif progress.done < before.done:  # a retry begins again
                self._begin(now)

    def of(self, run_id: str) -> LiveProgress | None:
        """How far a run is; None when it is not this process's."""
        with self._lock:
            if run_id != self._at_stage[0]:
                return None
            found, seconds = list(self._sources.values()), self._at - self._since
            done = sum(one.done for one in found)
            rate = (done - self._first) / seconds if seconds >= _LEAST_SECONDS else None
            return LiveProgress(
                stage=self._at_stage[1],
                sources=tuple(one.source for one in found if one.done < one.total),
                done=done,
                total=sum(one.total for one in found),
                rate=rate,
            )

    def _begin(self, now: float) -> None:
        """Count the rate from here."""
        self._since = self._at = now
        self._first = sum(one.done for one in self._sources.values())
