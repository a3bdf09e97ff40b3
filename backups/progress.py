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
    """Where a run is; `rate` is in bytes a second, None while it is not known."""

    stage: str
    source: str
    done: int
    total: int
    rate: float | None


class ProgressBoard:
    """Holds the newest report of the run of this process; any thread may read it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._run_id: str | None = None
        self._progress = Progress("")
        self._since = 0.0
        self._first = 0
        self._at = 0.0

    def note(self, run: Run, progress: Progress) -> None:
        """Take a report in; costs the run next to nothing."""
        now = self._clock()
        with self._lock:
            before = self._progress
            goes_on = (run.id, progress.stage, progress.source) == (
                self._run_id,
                before.stage,
                before.source,
            )
            if not goes_on or progress.done < before.done:  # a retry begins again
                self._since, self._first = now, progress.done
            self._run_id, self._progress, self._at = run.id, progress, now

    def of(self, run_id: str) -> LiveProgress | None:
        """How far a run is; None when it is not this process's."""
        with self._lock:
            if run_id != self._run_id:
                return None
            found, seconds = self._progress, self._at - self._since
            rate = (found.done - self._first) / seconds if seconds >= _LEAST_SECONDS else None
        return LiveProgress(found.stage, found.source, found.done, found.total, rate)
